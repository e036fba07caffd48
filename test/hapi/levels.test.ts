import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import { gunzipSync } from "node:zlib";
import type { Plan, Task } from "../../src/contracts.ts";
import { planPath } from "../../src/sink/layout.ts";
import { readAll, storage } from "../sink/stores.ts";
import { expected, patientsOf, type Wanted } from "../sources/expected.ts";
import { generate } from "../sources/generator.ts";
import { Export, linesOf } from "../worker/harness.ts";
import { type Hapi, hapiMissing, startHapi } from "./hapi.ts";
import { load } from "./load.ts";

const skip = hapiMissing() ?? false;
const { place } = storage();

const resource = (body: { resourceType: string; id: string } & Record<string, unknown>) => ({
  type: body.resourceType,
  id: body.id,
  text: JSON.stringify(body),
});
const reference = (id: string) => ({ reference: `Patient/${id}` });
const numbers = (count: number) => Array.from({ length: count }, (_, n) => n);
/** More patients than the sample has, so that the 210 of the Group "large" are less than a quarter of all and make two
 *  batches. */
const others = numbers(900).map((n) => resource({ resourceType: "Patient", id: `other-${n}`, active: n % 2 === 0 }));
const large = numbers(210).map((n) => others[n * 4]!.id);
const generated = generate({ scale: 0.5 });
/** Patients are loaded first: HAPI never finds a resource by its patient if the resource was written before that
 *  patient. */
const patients = [...generated.filter(({ type }) => type === "Patient"), ...others];
const sample = [
  ...patients,
  ...generated.filter(({ type }) => type !== "Patient"),
  ...large.map((id, n) =>
    resource({
      resourceType: "Observation",
      id: `of-${id}`,
      status: n % 3 === 0 ? "amended" : "final",
      code: { text: "x" },
      subject: reference(id),
    }),
  ),
  // These are in the compartments of two members, which are in different batches.
  ...numbers(8).map((n) =>
    resource({
      resourceType: "Observation",
      id: `shared-${n}`,
      status: "final",
      code: { text: "x" },
      subject: reference(large[200 + n]!),
      performer: [reference(large[n]!)],
    }),
  ),
  resource({
    resourceType: "Group",
    id: "large",
    type: "person",
    actual: true,
    member: large.map((id) => ({ entity: reference(id) })),
  }),
  resource({
    resourceType: "Group",
    id: "vanished",
    type: "person",
    actual: true,
    member: ["never-there", large[3]!].map((id) => ({ entity: reference(id) })),
  }),
];

suite("levels and parameters against HAPI FHIR", () => {
  let hapi: Hapi;
  /** All that the server holds, read by plain searches: JSON by `Type/id`. */
  let held: Map<string, Buffer>;
  let middle: string;
  before(async () => {
    if (skip) return;
    hapi = await startHapi();
    await load(hapi.baseURL, patients);
    const half = patients.length + (generated.length >> 1);
    await load(hapi.baseURL, sample.slice(patients.length, half));
    middle = new Date(Date.now() + 5).toISOString();
    await new Promise((resolve) => setTimeout(resolve, 20));
    await load(hapi.baseURL, sample.slice(half));
    held = await dump();
  });
  after(() => hapi?.close());

  const get = async (link: string) => {
    const answer = await fetch(link, { headers: { "cache-control": "no-cache" } });
    assert.equal(answer.status, 200);
    return (await answer.json()) as {
      link: { relation: string; url: string }[];
      entry?: { resource: { resourceType: string; id: string } }[];
    };
  };
  async function dump(): Promise<Map<string, Buffer>> {
    const found = new Map<string, Buffer>();
    for (const type of new Set(sample.map((it) => it.type)))
      for (let link: string | undefined = `${hapi.baseURL}/${type}?_count=1000`; link; ) {
        const page = await get(link);
        for (const { resource } of page.entry ?? [])
          found.set(`${resource.resourceType}/${resource.id}`, Buffer.from(JSON.stringify(resource)));
        link = page.link.find(({ relation }) => relation === "next")?.url;
      }
    return found;
  }

  async function run(change: Partial<Task["export"]>, exact = true) {
    const where = await place("azure");
    const exported = new Export(where, hapi.baseURL, {
      export: change,
      source: { count: 500, retrySeconds: 30, share: { requests: 4 } },
      plan: { shardResources: 1000 },
    });
    const done = await exported.all();
    assert.deepEqual([done.code, done.report.error, done.report.exact], [0, undefined, exact]);
    const store = await where.open();
    const plan = JSON.parse((await store.read(planPath))!.bytes.toString()) as Plan;
    assert.equal((await exported.run("verify")).code, 0);
    return { store, plan, ...(await linesOf(store)) };
  }

  const first = (type: string, count: number) =>
    [...held.keys()].filter((key) => key.startsWith(`${type}/`)).slice(0, count);
  const is = (field: string, value: unknown) => (it: Record<string, unknown>) => it[field] === value;
  const cases: {
    name: string;
    export: () => Partial<Task["export"]>;
    wanted: () => Wanted;
    batches?: boolean;
    empty?: boolean;
    /** whether the export is exact; absent: it is */
    exact?: boolean;
  }[] = [
    { name: "System, gzip", export: () => ({ gzip: true, maxFileBytes: 300_000 }), wanted: () => ({}) },
    { name: "System, since", export: () => ({ since: middle }), wanted: () => ({ since: middle }) },
    { name: "System, until", export: () => ({ until: middle }), wanted: () => ({ until: middle }) },
    {
      name: "System, filters: OR gives one copy, and commas are values",
      export: () => ({
        types: ["Observation", "Patient"],
        typeFilters: [
          "Observation?status=amended,final",
          "Observation?status=amended",
          "Patient?active=true&gender=female,male",
        ],
      }),
      wanted: () => ({
        types: ["Observation", "Patient"],
        filters: {
          Observation: [is("status", "amended"), is("status", "final")],
          Patient: [(it) => it.active === true && ["female", "male"].includes(it.gender)],
        },
      }),
    },
    { name: "Patient", export: () => ({ level: "Patient" }), wanted: () => ({ level: "Patient" }) },
    {
      name: "Patient, some of them",
      export: () => ({ level: "Patient", patients: first("Patient", 3).map((key) => key.slice(8)) }),
      wanted: () => ({ level: "Patient", patients: first("Patient", 3).map((key) => key.slice(8)) }),
      batches: true,
    },
    {
      name: "Patient, types, since and a filter",
      export: () => ({
        level: "Patient",
        types: ["Encounter", "Observation"],
        since: middle,
        typeFilters: ["Observation?status=final"],
      }),
      wanted: () => ({
        level: "Patient",
        types: ["Encounter", "Observation"],
        since: middle,
        filters: { Observation: [is("status", "final")] },
      }),
    },
    ...["ward", "outer", "loop", "mixed", "solo", "large", "vanished"].map((groupId) => ({
      name: `Group ${groupId}`,
      export: () => ({ level: "Group" as const, groupId }),
      wanted: () => ({ level: "Group" as const, groupId }),
      batches: true,
    })),
    ...["empty", "criteria"].map((groupId) => ({
      name: `Group ${groupId}`,
      export: () => ({ level: "Group" as const, groupId }),
      wanted: () => ({ level: "Group" as const, groupId }),
      empty: true,
      // Who is in it by its rules is not evaluated, which is told.
      exact: groupId !== "criteria",
    })),
    {
      name: "Group large, a filter and until",
      export: () => ({
        level: "Group",
        groupId: "large",
        until: "2999-01-01T00:00:00.000Z",
        typeFilters: ["Observation?status=final", "Patient?active=false"],
      }),
      wanted: () => ({
        level: "Group",
        groupId: "large",
        filters: { Observation: [is("status", "final")], Patient: [is("active", false)] },
      }),
      batches: true,
    },
  ];
  for (const { name, export: parameters, wanted, batches = false, empty = false, exact } of cases)
    test(name, { skip }, async () => {
      const { lines, doubled, plan } = await run(parameters(), exact);
      const all = expected({ baseURL: hapi.baseURL, dump: () => held }, wanted());
      assert.deepEqual(doubled, []);
      assert.deepEqual([...lines.keys()].sort(), [...all.keys()].sort());
      for (const [key, line] of all) assert.deepEqual(JSON.parse(lines.get(key)!), JSON.parse(line.toString()));
      assert.equal(all.size === 0, empty);
      // Provenance is of what it targets, so it is read as a whole at these levels.
      const whole = plan.shards
        .filter(({ type, members }) => members === undefined && (!batches || type !== "Provenance"))
        .map(({ type }) => type);
      // The Group "vanished" names a patient that never existed. HAPI does not find it by that patient, so the type is
      // read as a whole.
      if (batches) assert.deepEqual(whole, parameters().level === "Group" ? [] : ["Group"]);
      else assert.equal(whole.length, plan.shards.length);
    });

  test("elements", { skip }, async () => {
    const { lines } = await run({
      level: "Group",
      groupId: "ward",
      types: ["Patient", "Observation"],
      elements: ["gender", "status"],
    });
    const all = expected(
      { baseURL: hapi.baseURL, dump: () => held },
      { level: "Group", groupId: "ward", types: ["Patient", "Observation"] },
    );
    assert.deepEqual([...lines.keys()].sort(), [...all.keys()].sort());
    for (const line of lines.values()) {
      const it = JSON.parse(line);
      assert.equal(it.meta.tag.filter((tag: { code: string }) => tag.code === "SUBSETTED").length, 1);
      assert.deepEqual([it.subject, it.name, it.text], [undefined, undefined, undefined]);
    }
  });

  test("deletions since, at System and Group level", { skip }, async () => {
    const since = new Date().toISOString();
    await new Promise((resolve) => setTimeout(resolve, 20));
    const gone = [`Observation/of-${large[1]}`, `Observation/of-${large[205]}`, ...first("Immunization", 5)];
    for (const key of gone)
      assert.equal((await fetch(`${hapi.baseURL}/${key}`, { method: "DELETE" })).status, 200, key);
    const back = sample.find(({ id }) => id === `of-${large[205]}`)!;
    await load(hapi.baseURL, [back]);
    gone.splice(1, 1);
    const listed = async (change: Partial<Task["export"]>) => {
      const { manifest, store } = await run({ since, ...change });
      const urls: string[] = [];
      for (const { path } of manifest.deleted) {
        const bytes = (await readAll(store, path))!;
        for (const line of (path.endsWith(".gz") ? gunzipSync(bytes) : bytes).toString().split("\n").slice(0, -1))
          urls.push(...JSON.parse(line).entry.map(({ request }: { request: { url: string } }) => request.url));
      }
      return urls.sort();
    };
    assert.deepEqual(await listed({}), gone.toSorted());
    const inLarge = gone.filter((key) =>
      patientsOf(JSON.parse(held.get(key)!.toString()), hapi.baseURL).some((id) => large.includes(id)),
    );
    assert.deepEqual(await listed({ level: "Group", groupId: "large" }), inLarge.sort());
    assert(inLarge.length > 0 && inLarge.length < gone.length);
  });
});
