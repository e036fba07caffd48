import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { isCapped, looksCapped } from "../../../src/worker/plan/caps.ts";
import { cutWindows } from "../../../src/worker/plan/windows.ts";

describe("counts that may be the number beyond which a server does not count", () => {
  for (const count of [
    10, 20, 40, 90, 100, 250, 500, 1000, 1500, 5000, 10_000, 50_000, 100_000, 63, 64, 65, 1023, 1024, 65_535, 65_536,
  ])
    test(`${count}: perhaps`, () => assert(looksCapped(count)));
  for (const count of [0, 1, 4, 7, 9, 11, 25, 99, 101, 123, 974, 1001, 2479, 9999, 10_001, 12_692])
    test(`${count}: no`, () => assert(!looksCapped(count)));
});

/** A source with resources at some moments, which counts no further than `cap`. */
const counter =
  (stamps: readonly number[], cap: number) =>
  async (from = 0, till = Number.POSITIVE_INFINITY) =>
    Math.min(cap, stamps.filter((at) => at >= from && at < till).length);
const spread = Array.from({ length: 300 }, (_, at) => 1000 + at);

describe("whether a server counts no further than a number", () => {
  const cases: [name: string, stamps: readonly number[], cap: number, at: number, expected: boolean | undefined][] = [
    ["it counts 100 of 300", spread, 100, 1100, true],
    ["it counts 100 of 300, and the known resource is the oldest", spread, 100, 1000, true],
    ["it counts 100 of 300, and the known resource is the newest", spread, 100, 1299, true],
    ["it counts all", spread, 1000, 1100, false],
    ["all have one millisecond: nobody can tell", new Array(300).fill(1000), 100, 1000, undefined],
    ["it counts 100 of 101", spread.slice(0, 101), 100, 1050, true],
  ];
  for (const [name, stamps, cap, at, expected] of cases)
    test(name, async () => {
      const count = counter(stamps, cap);
      assert.equal(await isCapped(await count(), at, count), expected);
    });
  test("it refuses a count", async () => assert.equal(await isCapped(100, 1000, async () => undefined), undefined));
});

describe("cutting a type that the source counts no further than a number", () => {
  const cut = async (stamps: readonly number[], cap: number) => {
    const count = counter(stamps, cap);
    const windows = await cutWindows({ from: undefined, till: 5000, expected: cap, cap }, 1000, count);
    return windows!;
  };
  test("each window is counted below it, and together they hold all", async () => {
    const windows = await cut(spread, 40);
    assert(windows.every(({ expected }) => expected < 40));
    assert.equal(
      windows.reduce((sum, { expected }) => sum + expected, 0),
      spread.length,
    );
    assert.deepEqual([windows[0]!.from, windows.at(-1)!.till], [undefined, 5000]);
  });
  test("a millisecond that holds as many stays by itself, and is counted as much", async () => {
    const windows = await cut([...spread, ...new Array(50).fill(2000)], 40);
    const full = windows.filter(({ expected }) => expected >= 40);
    assert.equal(full.length, 1);
    assert(full[0]!.from! <= 2000 && full[0]!.till > 2000);
  });
});
