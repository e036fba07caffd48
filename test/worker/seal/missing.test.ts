import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { isRefuted, missingOf, type SearchCount } from "../../../src/worker/seal/missing.ts";

const quiet: SearchCount = {
  count: 10,
  isInWindow: true,
  shown: 10,
  known: 10,
  touched: 0,
  alive: 0,
  late: 0,
  isFiltered: false,
};
const { known: _, ...ofMany } = quiet;
const plain: SearchCount = { ...quiet, isInWindow: false };
const { known: __, ...plainOfMany } = plain;

describe("how many resources of a search nobody may have seen", () => {
  const cases: [name: string, search: SearchCount, least: number, most: number][] = [
    ["a window that is shown", quiet, 0, 0],
    ["a window that lacks some", { ...quiet, shown: 7, known: 7 }, 3, 3],
    ["a window of which earlier readings have shown more", { ...quiet, shown: 7, known: 10 }, 0, 0],
    ["a window that has shown resources of another shard, too", { ...quiet, shown: 10, known: 8 }, 0, 0],
    ["a window from which some may have left", { ...quiet, count: 9, touched: 2, late: 1 }, -1, 2],
    ["a window that is counted empty has nothing to show", { ...quiet, count: 0, touched: 5 }, -10, -10],
    ["one of several searches", { ...ofMany, shown: 8 }, 2, 2],
    ["one of several searches, under writes", { ...ofMany, shown: 8, touched: 1 }, 2, 3],
    ["no window: what is newer than D is counted, too", { ...plain, count: 13, alive: 3, touched: 3 }, 0, 3],
    ["no window: more is counted than is newer", { ...plain, count: 14, alive: 3, touched: 3 }, 1, 4],
    [
      "no window, a filter: what is newer may be counted or not",
      { ...plain, count: 12, alive: 3, touched: 3, isFiltered: true },
      -1,
      5,
    ],
    ["no window, several searches, under writes", { ...plainOfMany, count: 12, alive: 1, touched: 1 }, 1, 3],
    ["no window, no history: shown just what is counted", { ...plain, alive: undefined }, 0, 0],
    [
      "no window, no history: nothing tells what came or left",
      { ...plain, count: 9, alive: undefined },
      -1,
      Number.POSITIVE_INFINITY,
    ],
  ];
  for (const [name, search, least, most] of cases)
    test(name, () => assert.deepEqual(missingOf(search), { least, most }));
});

describe("whether a count is too small to be true", () => {
  const cases: [name: string, search: SearchCount, expected: boolean][] = [
    ["as many are counted as are known", quiet, false],
    ["fewer are counted than are known, and nothing was written", { ...quiet, count: 9 }, true],
    ["fewer are counted than were shown, and nothing was written", { ...ofMany, count: 9 }, true],
    ["fewer are counted, and as many may have left", { ...quiet, count: 9, touched: 1 }, false],
    ["fewer are counted, and as many may have moved to another window", { ...quiet, count: 9, late: 1 }, false],
    ["without windows nothing moves", { ...plain, count: 9, late: 1 }, true],
    ["without a history some may have been deleted", { ...quiet, count: 9, alive: undefined }, false],
  ];
  for (const [name, search, expected] of cases) test(name, () => assert.equal(isRefuted(search), expected));
});
