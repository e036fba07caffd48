import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Plan } from "../../../src/contracts.ts";
import { howToRead, noteReading, type Reading } from "../../../src/worker/seal/rereading.ts";
import type { SearchClosing } from "../../../src/worker/seal/type-closing.ts";

const source = { windows: true, counts: true, sort: true } as Plan["source"];
const noSort = { ...source, sort: false };
const noWindows = { ...source, windows: false };
const neither = { ...noSort, windows: false };
const fresh: SearchClosing = { shown: 0, silent: 0 };

describe("how a search is read the next time", () => {
  const cases: [
    name: string,
    search: SearchClosing,
    count: number | undefined,
    of: Plan["source"],
    expected: string | undefined,
  ][] = [
    ["it is counted", fresh, 5, source, undefined],
    ["it is not counted: from its other end", fresh, undefined, source, "backwards"],
    ["its count is refuted: from its other end", { ...fresh, refuted: true }, 5, source, "backwards"],
    ["it is not counted, and was read from its other end", { ...fresh, silent: 1 }, undefined, source, undefined],
    ["it is not counted, and has no order", fresh, undefined, noSort, "inParts"],
    ["it is not counted, and has neither order nor windows", fresh, undefined, neither, undefined],
    ["it was cut off", { ...fresh, cutOff: true }, 5, source, "inParts"],
    ["it was cut off, and has no windows", { ...fresh, cutOff: true }, 5, noWindows, undefined],
    [
      "it was cut off, is not counted, and has no windows",
      { ...fresh, cutOff: true },
      undefined,
      noWindows,
      "backwards",
    ],
  ];
  for (const [name, search, count, of, expected] of cases)
    test(name, () => assert.equal(howToRead(search, count, of), expected));
});

describe("what a reading tells of a search", () => {
  const reading: Reading = {
    how: undefined,
    shown: 5,
    counted: 5,
    foundNew: false,
    isInWindow: true,
    silences: 1,
    least: 5,
    inside: 5,
  };
  const uncounted = { ...reading, counted: undefined };
  const cases: {
    name: string;
    search?: Partial<SearchClosing>;
    of?: Plan["source"];
    reading: Reading;
    expected: Partial<SearchClosing>;
  }[] = [
    { name: "as many as are counted: proven", reading, expected: { proof: "counted" } },
    {
      name: "as many as are counted, some of them new: proven",
      reading: { ...reading, foundNew: true },
      expected: { proof: "counted", silent: 0 },
    },
    { name: "fewer than are counted: cut off", reading: { ...reading, shown: 4 }, expected: { cutOff: true } },
    {
      name: "fewer than are counted, without windows: nothing else will show more",
      of: noWindows,
      reading: { ...reading, shown: 4 },
      expected: { cutOff: true, isSpent: true },
    },
    {
      name: "more than are counted in a window: the count is refuted",
      reading: { ...reading, shown: 6 },
      expected: { refuted: true, proof: "agreed" },
    },
    {
      name: "more than are counted without a window: some may have come",
      reading: { ...reading, shown: 6, isInWindow: false },
      expected: { silent: 1 },
    },
    {
      name: "not counted, the same from the other end: proven",
      reading: { ...uncounted, how: "backwards" },
      expected: { proof: "agreed" },
    },
    {
      name: "not counted, others from the other end: cut off",
      reading: { ...uncounted, how: "backwards", foundNew: true },
      expected: { cutOff: true, silent: 0 },
    },
    {
      name: "cut off: readings that end at the same place do not agree",
      search: { cutOff: true },
      of: noWindows,
      reading: { ...uncounted, how: "backwards" },
      expected: { silent: 0, isSpent: true },
    },
    {
      name: "not counted, without an order: readings do not agree",
      of: noSort,
      reading: uncounted,
      expected: { silent: 0 },
    },
    {
      name: "not counted, neither order nor windows: nothing can prove it",
      of: neither,
      reading: uncounted,
      expected: { silent: 0, isSpent: true },
    },
    {
      name: "not counted, in parts, nothing new: proven",
      of: noSort,
      search: { cutOff: true },
      reading: { ...uncounted, how: "inParts" },
      expected: { proof: "agreed" },
    },
    {
      name: "in parts, as many as are counted: proven",
      search: { cutOff: true },
      reading: { ...reading, how: "inParts" },
      expected: { proof: "counted" },
    },
    {
      name: "in parts, fewer than are counted, nothing new: spent",
      search: { cutOff: true },
      reading: { ...reading, how: "inParts", shown: 4 },
      expected: { isSpent: true },
    },
    {
      name: "in parts, fewer than are counted, some new: not yet",
      search: { cutOff: true },
      reading: { ...reading, how: "inParts", shown: 4, foundNew: true },
      expected: { silent: 0 },
    },
    {
      name: "under writes the other end may show what pages by offset have skipped",
      reading: { ...uncounted, how: "backwards", foundNew: true, silences: 2 },
      expected: { silent: 0 },
    },
    {
      name: "under writes, the other end shows less than what is known and stays: cut off",
      reading: { ...uncounted, how: "backwards", foundNew: true, silences: 2, inside: 4 },
      expected: { cutOff: true, silent: 0 },
    },
    {
      name: "under writes, one of several searches shows something new from the other end: cut off",
      reading: { ...uncounted, how: "backwards", foundNew: true, silences: 2, least: undefined },
      expected: { cutOff: true, silent: 0 },
    },
    {
      name: "under writes one silent reading is not enough",
      reading: { ...uncounted, how: "backwards", silences: 2 },
      expected: { silent: 1 },
    },
  ];
  for (const { name, search = {}, of = source, reading, expected } of cases)
    test(name, () => {
      const noted: SearchClosing = { ...fresh, ...search };
      noteReading(noted, of, reading);
      const { proof, refuted, cutOff, isSpent, silent } = noted;
      const all = { proof, refuted, cutOff, isSpent, silent };
      assert.deepEqual({ ...all, ...expected }, all);
      assert.equal(proof, expected.proof);
    });
});
