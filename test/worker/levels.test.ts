import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { Task } from "../../src/contracts.ts";
import { storage } from "../sink/stores.ts";
import { expected, type Wanted } from "../sources/expected.ts";
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
  ...["empty", "criteria"].map((groupId) => ({
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
