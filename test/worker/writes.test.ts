import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { expected } from "../sources/expected.ts";
import type { Behaviour } from "../sources/faults.ts";
import { whileWritten } from "./written.ts";

const exportWhileWritten = whileWritten();
const types = ["Patient", "Observation", "Encounter"];

describe("as of transactionTime, from a source that is written to while it is read", () => {
  for (const paging of ["cursor", "offset", "snapshot"] as const)
    for (const level of ["System", "Patient", "Group"] as const)
      test(`${paging} paging with history, level ${level}: exactly what was there then`, async () => {
        const group = level === "Group" && { groupId: "ward" };
        // URLs are short, so that the members of the Group are searched in two batches.
        const behaviour = level === "Group" ? { paging, noPost: true, maxURL: 700 } : { paging };
        const { then, report, lines, doubled, told, counts, baseURL } = await exportWhileWritten(behaviour, {
          types,
          level,
          ...group,
        });
        assert(counts.create! > 20 && counts.update! > 50 && counts.delete! > 20, JSON.stringify(counts));
        const wanted = expected({ baseURL, dump: () => then }, { level, types, ...group });
        assert.deepEqual(doubled, []);
        assert.deepEqual([...lines.keys()].sort(), [...wanted.keys()].sort());
        for (const [key, line] of wanted) assert.equal(lines.get(key), line.toString());
        assert.equal(report.exact, true, told);
      });

  for (const [name, behaviour] of [
    ["no counts, cursor paging", { noCount: true }],
    ["no counts, snapshot paging", { noCount: true, paging: "snapshot" }],
    ["no search by _lastUpdated, cursor paging", { refuse: ["_lastUpdated"] }],
  ] satisfies [string, Behaviour][])
    test(`${name}: the history tells what was there then`, async () => {
      const { then, report, lines, doubled } = await exportWhileWritten(behaviour, { types });
      const wanted = expected({ dump: () => then }, { types });
      assert.deepEqual(doubled, []);
      assert.deepEqual([...lines.keys()].sort(), [...wanted.keys()].sort());
      for (const [key, line] of wanted) assert.equal(lines.get(key), line.toString());
      assert.equal(report.exact, true);
    });

  test("histories of resources that end too early, as HAPI's do without _since: exactly what was there then", async () => {
    const { then, report, lines, counts } = await exportWhileWritten(
      { staleVersionCount: true },
      { types },
      {
        async prepare(source) {
          // Another client has asked for each history a moment ago, so the source has counted its versions.
          for (const key of source.dump().keys()) await (await fetch(`${source.baseURL}/${key}/_history`)).text();
        },
      },
    );
    assert(counts.update! > 50);
    assert.deepEqual([...lines.keys()].sort(), [...expected({ dump: () => then }, { types }).keys()].sort());
    for (const [key, line] of then) if (lines.has(key)) assert.equal(lines.get(key), line.toString());
    assert.equal(report.exact, true);
  });

  test("histories that were purged: resources whose old version is gone are told, and not taken for new ones", async () => {
    const { then, report, lines, told } = await exportWhileWritten({ versionsKept: 1 }, { types });
    const wanted = expected({ dump: () => then }, { types });
    assert.equal(report.exact, false);
    const missing = [...wanted.keys()].filter((key) => !lines.has(key));
    assert(missing.length > 0);
    const untold = [...told.matchAll(/"text":"(\d+) resources of \w+ were written to[^"]* cannot be obtained/g)];
    assert(untold.reduce((sum, [, number]) => sum + Number(number), 0) >= missing.length);
  });

  test("windows that are slow are not searched for, but kept by the worker: exactly what was there then", async () => {
    const { then, report, lines, doubled, shards } = await exportWhileWritten(
      { paging: "offset", windowDelay: 500 },
      { types },
    );
    assert.deepEqual(
      shards.filter(({ type }) => type === "Observation").map(({ windows }) => windows),
      [false],
    );
    const wanted = expected({ dump: () => then }, { types });
    assert.deepEqual(doubled, []);
    assert.deepEqual([...lines.keys()].sort(), [...wanted.keys()].sort());
    for (const [key, line] of wanted) assert.equal(lines.get(key), line.toString());
    assert.equal(report.exact, true);
  });

  for (const paging of ["cursor", "offset"] as const)
    test(`${paging} paging without history: all that is missing, or newer, is told`, async () => {
      const { then, report, lines, doubled, told } = await exportWhileWritten(
        { paging, noTypeHistory: true, noInstanceHistory: true },
        { types },
        { change: { history: false } },
      );
      const wanted = expected({ dump: () => then }, { types });
      assert.deepEqual(doubled, []);
      const [missing, more] = [
        [...wanted.keys()].filter((key) => !lines.has(key)),
        [...lines.keys()].filter((key) => !wanted.has(key)),
      ];
      const other = [...wanted].filter(([key, line]) => lines.has(key) && lines.get(key) !== line.toString());
      // A resource that was created and updated since D may have existed at D: it is exported, and told.
      assert(more.every((key) => key.includes("/new-")));
      assert.equal(report.exact, false);
      const numbers = (pattern: RegExp) =>
        [...told.matchAll(pattern)].reduce((sum, [, number]) => sum + Number(number), 0);
      // A line has each text twice, as details.text and as diagnostics.
      const went = numbers(/"text":"At least (\d+) resources of \w+ were deleted/g);
      assert(went <= missing.length && went >= missing.length - more.length, `${went} of ${missing.length}`);
      assert.equal(numbers(/"text":"(\d+) resources of \w+ are newer/g), other.length + more.length);
      assert(missing.length > 0 && other.length > 0, "there was something to tell");
    });

  test("where resources are only created, the export is exact without a history, too", async () => {
    const { then, report, lines } = await exportWhileWritten(
      { paging: "offset" },
      { types },
      { change: { history: false }, kinds: ["create"] },
    );
    assert.deepEqual([...lines.keys()].sort(), [...expected({ dump: () => then }, { types }).keys()].sort());
    assert.equal(report.exact, true);
  });
});
