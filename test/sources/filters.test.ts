import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import { allIds } from "./client.ts";
import { patientsOf, type Resource } from "./expected.ts";
import { type Source, startSource } from "./server.ts";

suite("filters of the sample source", () => {
  let source: Source;
  before(async () => void (source = await startSource()));
  after(() => source.close());

  const has = (it: Resource, element: string, system: string | undefined, code: string) =>
    [it[element]]
      .flat()
      .some((concept: Resource) =>
        concept?.coding?.some((one: Resource) => one.code === code && (!system || one.system === system)),
      );
  const refersTo = (reference: Resource, ...ids: string[]) =>
    ids.some((id) => reference?.reference === id || reference?.reference?.startsWith(`${id}/_history/`));
  const loinc = "http://loinc.org";
  const nothing = () => false;

  for (const [search, wanted] of [
    ["Patient?gender=female", (it) => it.gender === "female"],
    ["Patient?gender=female,other", (it) => it.gender === "female" || it.gender === "other"],
    ["Patient?gender:not=female", (it) => it.gender !== "female"],
    ["Patient?birthdate=ge1980&birthdate=lt1990-06-15", (it) => it.birthDate >= "1980" && it.birthDate < "1990-06-15"],
    ["Patient?birthdate=gt1980", (it) => it.birthDate >= "1981"],
    ["Patient?active=true&gender=male", (it) => it.active && it.gender === "male"],
    ["Patient?family=muller", (it) => it.name[0].family === "Müller"],
    ["Patient?family:exact=M%C3%BCller", (it) => it.name[0].family === "Müller"],
    ["Patient?address-city:contains=RI", (it) => it.address[0].city === "Zürich"],
    ["Patient?identifier=http://hospital.example/mrn%7Cmrn-7", (it) => it.identifier[0].value === "mrn-7"],
    ["Patient?address-city=s%C3%A3o+paulo", (it) => it.address[0].city === "São Paulo"],
    ["Patient?link:missing=false", (it) => it.link !== undefined],
    ["Observation?code=8867-4", (it) => has(it, "code", undefined, "8867-4")],
    [
      `Observation?code=${loinc}%7C8867-4,${loinc}|718-7`,
      (it) => has(it, "code", loinc, "8867-4") || has(it, "code", loinc, "718-7"),
    ],
    ["Observation?code=http://snomed.info/sct%7C8867-4", nothing],
    [`Observation?code=${loinc}%7C`, () => true],
    [
      "Observation?status=final&category=laboratory",
      (it) => it.status === "final" && has(it, "category", undefined, "laboratory"),
    ],
    ["Observation?patient=p0,Patient/p3", (it) => refersTo(it.subject, "Patient/p0", "Patient/p3")],
    ["Observation?subject=Patient/p0,Patient/p3", (it) => refersTo(it.subject, "Patient/p0", "Patient/p3")],
    ["Observation?subject:Patient=p6", (it) => refersTo(it.subject, "Patient/p6")],
    ["Observation?patient=Device/dev-11", nothing],
    ["Observation?subject=Device/dev-11", (it) => it.subject.reference === "Device/dev-11"],
    ["Observation?performer=Patient/p3", (it) => it.performer?.some((one: Resource) => refersTo(one, "Patient/p3"))],
    ["Condition?asserter=Patient/p3", (it) => refersTo(it.asserter, "Patient/p3")],
    [
      "MedicationRequest?requester=PractitionerRole/role-1",
      (it) => it.requester.reference === "PractitionerRole/role-1",
    ],
    ["Encounter?class=AMB", (it) => it.class.code === "AMB"],
    ["Encounter?date=lt2018-01-01T00:00:00Z", (it) => Date.parse(it.period.start) < Date.UTC(2018, 0)],
    [
      "Immunization?patient=p0,p3,p6,p9&status:not=completed",
      (it) => refersTo(it.patient, "Patient/p0", "Patient/p3", "Patient/p6", "Patient/p9") && it.status !== "completed",
    ],
    [
      "Provenance?patient=p0,p3,p6",
      (it) => it.target.some((one: Resource) => refersTo(one, "Patient/p0", "Patient/p3", "Patient/p6")),
    ],
    ["Group?member=Patient/p9", (it) => it.member?.some((one: Resource) => refersTo(one.entity, "Patient/p9"))],
    ["Patient?_id=p0,p3,nobody", (it) => it.id === "p0" || it.id === "p3"],
    ["Patient?_id=p3&_id=p0,p3", (it) => it.id === "p3"],
    ["Patient?_tag=synthetic", (it) => it.meta.tag !== undefined],
  ] satisfies [string, (it: Resource) => boolean][])
    test(search, async () => {
      const type = search.slice(0, search.indexOf("?"));
      const all = [...source.dump(type).values()].map((line) => JSON.parse(line.toString()) as Resource);
      const ids = all.filter(wanted).map(({ id }) => id);
      assert.equal(ids.length > 0, wanted !== nothing, "proves something");
      assert.deepEqual((await allIds(source.baseURL, `${search}&_count=250`)).sort(), ids.sort());
    });

  test("a filter combines with windows and order", async () => {
    const ids = await allIds(
      source.baseURL,
      "Observation?status=amended&_lastUpdated=ge2021-01-01&_lastUpdated=lt2023-01-01&_sort=_lastUpdated,_id&_count=7",
    );
    const wanted = [...source.dump("Observation").values()]
      .map((line) => JSON.parse(line.toString()) as Resource)
      .filter((it) => it.status === "amended")
      .map((it) => ({ id: it.id, at: Math.floor(Date.parse(it.meta.lastUpdated)) }))
      .filter(({ at }) => at >= Date.UTC(2021, 0) && at < Date.UTC(2023, 0))
      .sort((a, b) => a.at - b.at || (a.id < b.id ? -1 : 1));
    assert.deepEqual(
      ids,
      wanted.map(({ id }) => id),
    );
    assert.ok(ids.length > 20);
  });

  test("escaped commas and bars belong to the value", async () => {
    source.put(
      JSON.stringify({ resourceType: "Organization", id: "odd", identifier: [{ system: "urn:a|b", value: "x,y$z" }] }),
    );
    assert.deepEqual(
      await allIds(source.baseURL, `Organization?identifier=${encodeURIComponent("urn:a\\|b|x\\,y\\$z")}`),
      ["odd"],
    );
    assert.deepEqual(
      await allIds(source.baseURL, `Organization?identifier=${encodeURIComponent("urn:a|b|x,y$z")}`),
      [],
    );
  });

  test("an absolute reference below the base is local, another is not", async () => {
    const observation = (id: string, reference: string) =>
      JSON.stringify({ resourceType: "Observation", id, subject: { reference } });
    source.put(observation("own", `${source.baseURL}/Patient/p-abs`));
    source.put(observation("foreign", "https://other.example/fhir/Patient/p-abs"));
    assert.deepEqual(await allIds(source.baseURL, "Observation?patient=p-abs"), ["own"]);
  });

  test("the searches by compartment parameter find what the resources say", async () => {
    const lines = [...source.dump("Observation").values()].map((line) => JSON.parse(line.toString()) as Resource);
    const cohort = ["p0", "p3", "p6"];
    const wanted = lines.filter((it) => patientsOf(it).some((id) => cohort.includes(id))).map(({ id }) => id);
    const found = new Set<string>();
    for (const parameter of ["subject", "performer"])
      for (const id of await allIds(source.baseURL, `Observation?${parameter}:Patient=${cohort.join(",")}&_count=250`))
        found.add(id);
    assert.deepEqual([...found].sort(), wanted.sort());
  });
});
