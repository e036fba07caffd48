import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { expected } from "../sources/expected.ts";
import type { Behaviour } from "../sources/faults.ts";
import { sampleOf } from "../tools/sample.ts";
import { whileWritten } from "./written.ts";

const exportWhileWritten = whileWritten();
const types = ["Observation"];

/** What a source may lack; each makes it harder to prove that nothing is missing. */
const lacks: [name: string, behaviour: Behaviour][] = [
  ["no counts", { noCount: true }],
  ["counts that are estimates", { countError: 3 }],
  ["no search by _lastUpdated", { refuse: ["_lastUpdated"] }],
  ["no histories", { noTypeHistory: true, noInstanceHistory: true }],
];
const noHistories = lacks[3]!;
const combinations = Array.from({ length: 2 ** lacks.length }, (_, bits) =>
  lacks.filter((_, bit) => bits & (1 << bit)),
).filter((some) => !(some.includes(lacks[0]!) && some.includes(lacks[1]!)));

const cases = [
  ...(["cursor", "offset", "snapshot"] as const).flatMap((paging) =>
    combinations.map((some) => ({ paging, some, level: "System" as const, typeFilters: undefined, kinds: undefined })),
  ),
  ...combinations
    .filter((some) => some.length < 2)
    .map((some) => ({
      paging: "offset" as const,
      some,
      level: "System" as const,
      typeFilters: ["Observation?status=final", "Observation?status=amended"],
      kinds: undefined,
    })),
  // Without histories deletions are not seen, so these rows only delete.
  ...(["System", "Patient", "Group"] as const).flatMap((level) =>
    combinations
      .filter((some) => some.includes(noHistories))
      .map((some) => ({ paging: "cursor" as const, some, level, typeFilters: undefined, kinds: ["delete"] })),
  ),
];

describe("Exact=True is true of a source that is written to, whatever else it lacks", { concurrency: 4 }, () => {
  const drawn = sampleOf("what sources lack", cases, {
    size: 22,
    // each lack with each paging, level and filter, and how many lacks there are
    kindsOf: ({ paging, some, level, typeFilters }) => {
      const place = `${paging} ${level} ${typeFilters?.length ?? 0} filters`;
      return [place, `${some.length}`, ...some.map(([lack]) => `${place} ${lack}`)];
    },
  });
  for (const { paging, some, level, typeFilters, kinds } of drawn) {
    const name = [
      level,
      `${paging} paging`,
      ...some.map(([name]) => name),
      ...(typeFilters ? ["two filters"] : []),
      ...(kinds ?? []),
    ];
    test(name.join(", "), async () => {
      const behaviour = Object.assign({ paging }, ...some.map(([, behaviour]) => behaviour)) as Behaviour;
      const asked = {
        types,
        level,
        ...(level === "Group" && { groupId: "ward" }),
        ...(typeFilters && { typeFilters }),
      };
      const { then, report, lines, doubled, told, counts, baseURL } = await exportWhileWritten(behaviour, asked, {
        ...(kinds && { kinds }),
        shardResources: 700,
        scale: 0.2,
      });
      assert(counts.create! + counts.update! + counts.delete! > 30, JSON.stringify(counts));
      assert.deepEqual(doubled, []);
      const wanted = expected({ baseURL, dump: () => then }, asked);
      const isExact =
        lines.size === wanted.size && [...wanted].every(([key, line]) => lines.get(key) === line.toString());
      assert.equal(report.exact, told === "", told);
      // With histories everything can be told, except whether an old version matched a filter.
      if (!some.includes(noHistories) && !typeFilters) assert.equal(report.exact, true, told);
      if (report.exact) assert(isExact, `${[...wanted.keys()].filter((key) => !lines.has(key)).length} are missing`);
    });
  }
});
