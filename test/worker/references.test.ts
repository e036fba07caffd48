import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Task } from "../../src/contracts.ts";
import { readAll, storage } from "../sink/stores.ts";
import { expected, type Wanted } from "../sources/expected.ts";
import type { Behaviour } from "../sources/faults.ts";
import type { SampleResource } from "../sources/generator.ts";
import { startSource } from "../sources/server.ts";
import { Export, linesOf } from "./harness.ts";

const { place } = storage();
const alias = "https://public.example.org/fhir";
const elsewhere = "https://other.example.org/fhir";

const stamp = (n: number) => Date.UTC(2024, 0, 1) + n * 61_001;
const sampled = (resources: readonly Record<string, unknown>[]): SampleResource[] =>
  resources.map((resource, n) => ({
    type: String(resource.resourceType),
    id: String(resource.id),
    versionId: "1",
    lastUpdated: stamp(n),
    text: JSON.stringify({ ...resource, meta: { versionId: "1", lastUpdated: new Date(stamp(n)).toISOString() } }),
  }));

const patient = (id: string) => ({
  resourceType: "Patient",
  id,
  identifier: [{ system: "urn:mrn", value: `mrn-${id}` }],
});
const observation = (id: string, subject: object, performer?: object[]) => ({
  resourceType: "Observation",
  id,
  status: "final",
  code: { text: "x" },
  subject,
  ...(performer && { performer }),
});
const group = (members: object[], more: object = {}) => ({
  resourceType: "Group",
  id: "g",
  type: "person",
  actual: true,
  member: members.map((entity) => ({ entity })),
  ...more,
});

/** Patients p0 to p39, each with two Observations and an Encounter, that are referred to in the usual way. */
const usual = Array.from({ length: 40 }, (_, n) => [
  patient(`p${n}`),
  observation(`o${n}-1`, { reference: `Patient/p${n}` }),
  observation(`o${n}-2`, { reference: `Patient/p${n}`, display: "P" }, [{ reference: "Practitioner/x" }]),
  { resourceType: "Encounter", id: `e${n}`, status: "finished", class: {}, subject: { reference: `Patient/p${n}` } },
]).flat();

interface Case {
  name: string;
  resources: Record<string, unknown>[];
  behaviour?: Behaviour;
  /** `Type/id` of resources that are not expected though the oracle has them, or the other way round */
  wanted?: Partial<Wanted>;
  exact: boolean;
  /** what the notices must say, each of them once */
  told?: RegExp[];
}

async function run({ resources, behaviour = {} }: Case, change: Partial<Task["export"]>) {
  const source = await startSource({ resources: sampled(resources), behaviour });
  try {
    const where = await place("directory");
    const done = await new Export(where, source.baseURL, { export: change }).all();
    assert.deepEqual([done.code, done.report.error], [0, undefined]);
    const store = await where.open();
    const texts: string[] = [];
    const found = await linesOf(store);
    for (const { path } of found.manifest.error)
      for (const line of (await readAll(store, path))!.toString().trim().split("\n"))
        texts.push((JSON.parse(line) as { issue: { details: { text: string } }[] }).issue[0]!.details.text);
    const wanted = (more: Wanted) => expected(source, { types: change.types!, level: change.level!, ...more });
    return { ...found, texts, exact: done.report.exact, wanted, requests: source.requests };
  } finally {
    await source.close();
  }
}

function check(
  found: Awaited<ReturnType<typeof run>>,
  { exact, told = [] }: Case,
  wanted: ReadonlyMap<string, Buffer>,
): void {
  assert.deepEqual(found.doubled, []);
  assert.deepEqual([...found.lines.keys()].sort(), [...wanted.keys()].sort());
  for (const [key, line] of wanted) assert.equal(found.lines.get(key), line.toString());
  assert.equal(found.texts.length, told.length, found.texts.join("\n"));
  for (const text of told)
    assert(
      found.texts.some((one) => text.test(one)),
      `${text}\n${found.texts.join("\n")}`,
    );
  assert.equal(found.exact, exact);
}

const types = ["Encounter", "Group", "Observation", "Patient"];
const left = (count: number) => new RegExp(`^${count} resources of Observation are left out`);

const oddIds: Record<string, (n: number) => string> = {
  "with an underscore": (n) => `pat_${n}`,
  "with colons": (n) => `CV:${n}:SECT:2`,
  "of 65 characters": (n) => `${"a".repeat(63)}${String(n).padStart(2, "0")}`,
  "of 128 characters": (n) => `${"a".repeat(126)}${String(n).padStart(2, "0")}`,
  "with equals signs": (n) => `ab${n}==`,
};
describe("ids that FHIR does not allow", () => {
  for (const [name, id] of Object.entries(oddIds)) {
    const resources = [
      ...Array.from({ length: 30 }, (_, n) => [
        patient(id(n)),
        observation(`o${n}`, { reference: `Patient/${id(n)}` }),
      ]).flat(),
      group([0, 1, 2].map((n) => ({ reference: `Patient/${id(n)}` }))),
    ];
    for (const level of ["Patient", "Group"] as const)
      test(`${name}, level ${level}`, async () => {
        const one: Case = { name, resources, exact: true };
        const found = await run(one, { level, types, ...(level === "Group" && { groupId: "g" }) });
        const wanted = found.wanted({ ...(level === "Group" && { groupId: "g" }) });
        assert.equal(wanted.size, level === "Group" ? 7 : 61);
        check(found, one, wanted);
      });
  }
});

const references: Case[] = [
  {
    name: "in all shapes that are clear",
    resources: [
      ...usual,
      observation("slash", { reference: "/Patient/p1" }),
      observation("version", { reference: "Patient/p1/_history/1" }),
      observation("contained", { reference: "#p" }),
      observation("device", { reference: "Device/p1" }),
      observation("nobody", { display: "Patient/p1" }),
    ],
    exact: true,
  },
  {
    name: "by the name that the server itself uses",
    resources: [...usual, observation("named", { reference: `${alias}/Patient/p1` })],
    behaviour: { alias, usesAlias: true },
    wanted: { names: [alias] },
    exact: true,
  },
  {
    name: "by a name that only the server's search knows",
    resources: [
      ...usual,
      ...Array.from({ length: 60 }, (_, n) => observation(`named${n}`, { reference: `${alias}/Patient/p${n % 40}` })),
    ],
    behaviour: { alias },
    wanted: { names: [alias] },
    exact: true,
  },
  {
    name: "to another server, and a patient of this one has the id",
    resources: [...usual, observation("same-id", { reference: `${elsewhere}/Patient/p1` })],
    exact: false,
    told: [left(1)],
  },
  {
    name: "to another server, and no patient of this one has the id",
    resources: [...usual, observation("theirs", { reference: `${elsewhere}/Patient/theirs` })],
    exact: true,
  },
  {
    name: "by the identifier of a patient, which the server's search does not follow",
    resources: [
      ...usual,
      observation("mrn", { identifier: { system: "urn:mrn", value: "mrn-p1" } }),
      observation("mrn-2", { reference: "Patient?identifier=urn:mrn|mrn-p2" }),
    ],
    exact: false,
    told: [left(2)],
  },
  {
    name: "by identifiers of others",
    resources: [
      ...usual,
      observation("npi", { reference: "Device/d" }, [{ identifier: { system: "urn:npi", value: "1" } }]),
      observation("typed", { type: "Device", identifier: { system: "urn:mrn", value: "mrn-p1" } }),
    ],
    exact: true,
  },
  {
    name: "by URN",
    resources: [...usual, observation("urn", { reference: "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0" })],
    exact: false,
    told: [left(1)],
  },
  {
    name: "of no form",
    resources: [...usual, observation("formless", { reference: "p1" })],
    exact: false,
    told: [left(1)],
  },
  {
    name: "to another server, where this one cannot search by patients",
    resources: [...usual, observation("same-id", { reference: `${elsewhere}/Patient/p1` })],
    behaviour: { refuse: ["subject", "_id"] },
    exact: false,
    told: [left(1)],
  },
];

describe("references to patients", () => {
  for (const one of references) {
    test(`${one.name}: all patients`, async () => {
      const found = await run(one, { level: "Patient", types });
      check(found, one, found.wanted({ ...one.wanted }));
    });
    test(`${one.name}: three of forty patients`, async () => {
      const patients = ["p1", "p2", "p3"];
      const found = await run(one, { level: "Patient", types, patients });
      check(found, one, found.wanted({ ...one.wanted, patients }));
    });
    test(`${one.name}: half of the patients`, async () => {
      const patients = Array.from({ length: 20 }, (_, n) => `p${n}`);
      const found = await run(one, { level: "Patient", types, patients });
      check(found, one, found.wanted({ ...one.wanted, patients }));
    });
  }

  test("patients who may be meant and are no members matter to nobody", async () => {
    const one: Case = {
      name: "",
      resources: [...usual, observation("same-id", { reference: `${elsewhere}/Patient/p30` })],
      exact: true,
    };
    const patients = Array.from({ length: 20 }, (_, n) => `p${n}`);
    const found = await run(one, { level: "Patient", types, patients });
    check(found, one, found.wanted({ patients }));
  });

  test("a source that refers in the usual way is asked nothing", async () => {
    const { requests } = await run({ name: "", resources: usual, exact: true }, { level: "Patient", types });
    assert.deepEqual(
      requests.filter(({ url }) => /[?&](identifier|_id|subject|performer)=/.test(url)).map(({ url }) => url),
      [],
    );
  });
});

const members = ["p0", "p1", "p2"];
const notResolved = (count: number) => new RegExp(`^${count} members of the Group are left out`);
const memberCases: (Case & { members: string[] })[] = [
  {
    name: "versions, a slash, the base URL of the server",
    resources: [
      ...usual,
      group([
        { reference: "Patient/p0/_history/1" },
        { reference: "/Patient/p1" },
        { reference: `${alias}/Patient/p2` },
      ]),
    ],
    behaviour: { alias, usesAlias: true },
    members,
    exact: true,
  },
  {
    name: "a base URL that only the server's search knows",
    resources: [...usual, group(members.map((id) => ({ reference: `${alias}/Patient/${id}` })))],
    behaviour: { alias },
    members,
    exact: true,
  },
  {
    name: "identifiers",
    resources: [...usual, group(members.map((id) => ({ identifier: { system: "urn:mrn", value: `mrn-${id}` } })))],
    members,
    exact: true,
  },
  {
    name: "another server, a URN, an unknown identifier, a text alone",
    resources: [
      ...usual,
      group([
        { reference: "Patient/p0" },
        { reference: `${elsewhere}/Patient/p1` },
        { reference: "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0" },
        { type: "Patient", identifier: { system: "urn:mrn", value: "unknown" } },
        { display: "John" },
      ]),
    ],
    members: ["p0"],
    exact: false,
    told: [notResolved(4)],
  },
  {
    name: "identifiers, where the server cannot search by them",
    resources: [...usual, group([{ identifier: { system: "urn:mrn", value: "mrn-p1" } }, { reference: "Patient/p0" }])],
    behaviour: { refuse: ["identifier"] },
    members: ["p0"],
    exact: false,
    told: [notResolved(1)],
  },
  {
    name: "practitioners and devices, and a patient who is gone",
    resources: [
      ...usual,
      group([
        ...members.map((id) => ({ reference: `Patient/${id}` })),
        { reference: "Practitioner/x" },
        { reference: "Device/y" },
        { reference: "Patient/gone" },
      ]),
    ],
    members,
    exact: true,
    told: [
      /^2 members of the Group are no patients/,
      /^1 members of the Group are no Patients that the source has now/,
    ],
  },
  {
    name: "none, but a member filter",
    resources: [
      ...usual,
      group([], {
        actual: false,
        modifierExtension: [
          { url: "http://hl7.org/fhir/uv/bulkdata/StructureDefinition/member-filter", valueExpression: {} },
        ],
      }),
    ],
    members: [],
    exact: false,
    told: [/^The Group, or one nested in it, says by rules who is in it/],
  },
];

describe("members of a Group", () => {
  for (const one of memberCases)
    test(one.name, async () => {
      const found = await run(one, { level: "Group", groupId: "g", types });
      const wanted = found.wanted({ level: "Patient", patients: one.members, names: [alias] });
      // The Group itself is of the export, whoever its members are.
      for (const [key, line] of found.wanted({ level: "System", types: ["Group"] })) wanted.set(key, line);
      if (one.members.length === 0) wanted.clear();
      check(found, one, wanted);
    });
});
