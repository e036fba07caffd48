import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { Task } from "../../src/contracts.ts";
import { storage } from "../sink/stores.ts";
import { expected, patientsOf, type Wanted } from "../sources/expected.ts";
import type { Behaviour } from "../sources/faults.ts";
import { type Source, startSource } from "../sources/server.ts";
import { Export, linesOf } from "./harness.ts";

const { place } = storage();
let source: Source;
before(async () => {
  source = await startSource();
});
after(() => source.close());

const anyPatients = (count: number) =>
  [...source.dump("Patient").keys()].slice(0, count).map((name) => name.slice("Patient/".length));

/** The parameters of exports. test/sources/expected.ts says what each must hold, from the source's whole content. */
const cases: { name: string; export: () => Partial<Task["export"]>; wanted?: () => Wanted; empty?: boolean }[] = [
  { name: "everything", export: () => ({ level: "System" }) },
  { name: "all patients", export: () => ({ level: "Patient" }) },
  {
    name: "some types of all patients",
    export: () => ({ level: "Patient", types: ["Patient", "Observation", "Group"] }),
  },
  { name: "some patients", export: () => ({ level: "Patient", patients: anyPatients(3) }) },
  { name: "all patients, since a time", export: () => ({ level: "Patient", since: "2021-01-01T00:00:00.000Z" }) },
  ...["ward", "outer", "loop", "mixed", "solo"].map((groupId) => ({
    name: `group ${groupId}`,
    export: () => ({ level: "Group" as const, groupId }),
  })),
  ...["empty"].map((groupId) => ({
    name: `group ${groupId}`,
    export: () => ({ level: "Group" as const, groupId }),
    empty: true,
  })),
  {
    name: "some members of a group",
    export: () => ({
      level: "Group",
      groupId: "ward",
      patients: [...expected(source, { level: "Group", groupId: "ward", types: ["Patient"] }).keys()]
        .slice(0, 2)
        .map((name) => name.slice(8)),
    }),
  },
];

describe("an export of each level has the lines that other code finds in the source's whole content", () => {
  for (const { name, export: parameters, empty } of cases)
    test(name, async () => {
      const where = await place("directory");
      const { level, groupId, patients, types, since } = parameters() as Task["export"];
      const done = await new Export(where, source.baseURL, { export: parameters() }).all();
      assert.deepEqual([done.code, done.report.error, done.report.exact], [0, undefined, true]);
      const { lines, doubled } = await linesOf(await where.open());
      const wanted = expected(source, {
        level,
        ...(groupId && { groupId }),
        ...(patients && { patients }),
        ...(types && { types }),
        since,
      });
      assert.deepEqual(doubled, []);
      assert.deepEqual([...lines.keys()].sort(), [...wanted.keys()].sort());
      for (const [key, line] of wanted) assert.equal(lines.get(key), line.toString());
      assert.equal(wanted.size === 0, empty === true);
    });

  test("a Group that says by rules who is in it is empty, and not exact", async () => {
    const where = await place("directory");
    const done = await new Export(where, source.baseURL, { export: { level: "Group", groupId: "criteria" } }).all();
    assert.deepEqual([done.code, done.report.exact], [0, false]);
    const { lines, manifest } = await linesOf(await where.open());
    assert.deepEqual([lines.size, manifest.error.length], [0, 1]);
  });

  test("a Provenance is exported with what it is about, and not only with patients", async () => {
    const aboutPatients = [...source.dump("Provenance").values()].filter(
      (line) => patientsOf(JSON.parse(line.toString())).length > 0,
    );
    const wanted = expected(source, { level: "Patient", types: ["Encounter", "Patient", "Provenance"] });
    const ofThem = [...wanted.keys()].filter((key) => key.startsWith("Provenance/"));
    assert(ofThem.length > aboutPatients.length, `${ofThem.length} of ${source.dump("Provenance").size}`);
    for (const parallel of [1, 4]) {
      const where = await place("directory");
      const done = await new Export(where, source.baseURL, {
        export: { level: "Patient", types: ["Encounter", "Patient", "Provenance"] },
        source: { share: { requests: parallel } },
      }).all();
      assert.deepEqual([done.code, done.report.error, done.report.exact], [0, undefined, true]);
      const { lines } = await linesOf(await where.open());
      assert.deepEqual([...lines.keys()].sort(), [...wanted.keys()].sort());
    }
  });

  test("a patient who is not a member of the group is refused", async () => {
    const outsider = anyPatients(60).at(-1)!;
    const { code, report } = await new Export(await place("directory"), source.baseURL, {
      export: { level: "Group", groupId: "solo", patients: [outsider] },
    }).run("plan");
    assert.deepEqual([code, report.error?.reason], [64, "UnsupportedParameter"]);
    assert.match(report.error!.message, /1 of 1 are not members/);
    assert.equal(report.error!.message.includes(outsider), false);
  });
});

/** What a source's CapabilityStatement says, and what becomes of an export. */
const statements: {
  name: string;
  behaviour: Behaviour;
  export: Partial<Task["export"]>;
  /** the end is this failure */
  failure?: { reason: string; message: RegExp };
  /** as in Wanted */
  release?: "R4" | "R5";
  /** how many notices there are */
  notices?: number;
}[] = [
  { name: "FHIR R4B", behaviour: { statement: { fhirVersion: "4.3.0" } }, export: { level: "Patient" } },
  { name: "FHIR R5", behaviour: { statement: { fhirVersion: "5.0.0" } }, export: { level: "Patient" }, release: "R5" },
  {
    name: "FHIR R5, a Group",
    behaviour: { statement: { fhirVersion: "5.0.0" } },
    export: { level: "Group", groupId: "ward" },
    release: "R5",
  },
  { name: "FHIR STU3", behaviour: { statement: { fhirVersion: "3.0.2" } }, export: { level: "System" } },
  {
    name: "FHIR STU3 at Patient level",
    behaviour: { statement: { fhirVersion: "3.0.2" } },
    export: { level: "Patient" },
    failure: { reason: "UnsupportedParameter", message: /^spec\.level: .*STU3/ },
  },
  {
    name: "FHIR DSTU2",
    behaviour: { statement: { fhirVersion: "1.0.2" } },
    export: { level: "System" },
    failure: { reason: "SourceNotFHIR", message: /fhirVersion 1\.0\.2/ },
  },
  { name: "no fhirVersion", behaviour: { statement: { fhirVersion: null } }, export: { level: "Patient" }, notices: 1 },
  ...[
    { what: "no interaction", behaviour: { noInteractions: true } },
    { what: "no rest", behaviour: { statement: { rest: undefined } } },
    { what: "rest is null", behaviour: { statement: { rest: null } } },
    { what: "resource is null", behaviour: { statement: { rest: [{ mode: "server", resource: null }] } } },
  ].flatMap(({ what, behaviour }) => [
    {
      name: `${what}, and no types are asked for`,
      behaviour,
      export: { level: "System" as const },
      failure: { reason: "UnknownType", message: /^spec\.types: .*rest\.resource\.interaction/ },
    },
    {
      name: `${what}, and types are asked for`,
      behaviour,
      export: { level: "Patient" as const, types: ["Encounter", "Patient"] },
    },
  ]),
];

describe("a CapabilityStatement", () => {
  for (const { name, behaviour, export: parameters, failure, release, notices = 0 } of statements)
    test(name, async () => {
      const own = await startSource({ behaviour });
      try {
        const where = await place("directory");
        const done = await new Export(where, own.baseURL, { export: parameters }).all();
        if (failure) {
          assert.deepEqual(
            [done.code, done.report.error?.class, done.report.error?.reason],
            [64, "terminal", failure.reason],
          );
          return assert.match(done.report.error!.message, failure.message);
        }
        assert.deepEqual([done.code, done.report.error, done.report.exact], [0, undefined, true]);
        const { level, groupId, types } = parameters as Task["export"];
        const { lines, doubled, manifest } = await linesOf(await where.open());
        const wanted = expected(own, {
          level,
          ...(groupId && { groupId }),
          ...(types && { types }),
          ...(release && { release }),
        });
        assert(wanted.size > 0);
        assert.deepEqual(doubled, []);
        assert.deepEqual([...lines.keys()].sort(), [...wanted.keys()].sort());
        assert.equal(
          manifest.error.reduce((sum, { count }) => sum + count, 0),
          notices,
        );
      } finally {
        await own.close();
      }
    });
});
