import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { cutWindows, sidesAddUp } from "../../../src/worker/plan/windows.ts";

const till = Date.parse("2026-01-01T00:00:00Z");
const countOf = (times: number[]) => async (from: number | undefined, to: number | undefined) =>
  times.filter((time) => time >= (from ?? Number.NEGATIVE_INFINITY) && time < (to ?? Number.POSITIVE_INFINITY)).length;

describe("cutting windows", () => {
  test("property: windows are in order and without gaps, hold what they expect, and only one millisecond holds more than the limit", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.oneof(fc.integer({ min: 0, max: till + 5 }), fc.constant(1_600_000_000_000)), { maxLength: 60 }),
        fc.integer({ min: 1, max: 20 }),
        async (times, max) => {
          const inside = times.filter((time) => time < till);
          const whole = { from: undefined, till, expected: inside.length };
          const windows = await cutWindows(whole, max, countOf(times));
          assert(windows);
          const someTime = async () => times[max % times.length];
          assert.deepEqual(await cutWindows({ ...whole, someTime }, max, countOf(times)), windows);
          let before: number | undefined;
          for (const { from, till: to, expected } of windows) {
            // there must be no gaps, because an index that lags may show a resource late
            assert.equal(from, before);
            assert((from ?? 0) < to && to <= till);
            const held = inside.filter((time) => time >= (from ?? Number.NEGATIVE_INFINITY) && time < to);
            assert.equal(held.length, expected);
            assert(expected <= max || new Set(held).size === 1);
            before = to;
          }
          if (windows.length > 0) assert.equal(before, till);
          assert.equal(
            windows.reduce((sum, { expected }) => sum + expected, 0),
            inside.length,
          );
        },
      ),
      { numRuns: 200 },
    );
  });

  test("the same data and the same `till` give the same windows", async () => {
    const times = Array.from({ length: 500 }, (_, index) => 1_500_000_000_000 + index * index * 1000);
    const once = () => cutWindows({ from: undefined, till, expected: 500 }, 50, countOf(times));
    assert.deepEqual(await once(), await once());
    assert((await once())!.length >= 10);
  });

  test("what came within minutes is found with few questions, and gives the same windows", async () => {
    const times = Array.from({ length: 500 }, (_, index) => 1_700_000_000_000 + index * 500);
    const cut = async (at: number | undefined) => {
      let asked = 0;
      const count = countOf(times);
      const windows = await cutWindows(
        { from: undefined, till, expected: 500, someTime: async () => at },
        100,
        async (from, to) => {
          asked++;
          return count(from, to);
        },
      );
      return { windows, asked };
    };
    const slow = await cut(undefined);
    for (const at of [times[0]!, times[250]!, times[499]!]) {
      const quick = await cut(at);
      assert.deepEqual(quick.windows, slow.windows);
      assert(quick.asked <= slow.asked - 12, `${quick.asked} questions instead of ${slow.asked}`);
    }
    // a time that is nowhere near
    for (const at of [0, 1_200_000_000_000, till + 1e9]) assert.deepEqual((await cut(at)).windows, slow.windows);
  });

  test("where counts have a limit, one that reaches it does not hold all", async () => {
    const times = [1_600_000_000_000, ...Array.from({ length: 300 }, (_, index) => 1_700_000_000_000 + index * 500)];
    const whole = { from: undefined, till, expected: 100, cap: 100, someTime: async () => times[200] };
    const count: typeof counted = async (from, to) => Math.min(100, await counted(from, to));
    const counted = countOf(times);
    const windows = (await cutWindows(whole, 100, count))!;
    assert.equal(
      windows.reduce((sum, { expected }) => sum + expected, 0),
      times.length,
    );
  });

  test("the first bound is `since`, the others lie on the grid", async () => {
    const from = 1_500_000_000_123;
    const times = Array.from({ length: 100 }, (_, index) => from + index * 1_000_000);
    const windows = (await cutWindows({ from, till, expected: 100 }, 10, countOf(times)))!;
    assert.equal(windows[0]!.from, from);
    for (const { from: bound } of windows.slice(1)) assert.equal(bound! % 2 ** 10, 0);
  });

  test("counts that are rounded, or that the source does not answer, give no windows", async () => {
    const times = Array.from({ length: 100 }, (_, index) => 1_500_000_000_000 + index * 1_000_000);
    const rounded = async (from: number | undefined, to: number | undefined) =>
      Math.ceil((await countOf(times)(from, to)) / 10) * 10 + 10;
    assert.equal(await cutWindows({ from: undefined, till, expected: 100 }, 10, rounded), undefined);
    assert.equal(await cutWindows({ from: undefined, till, expected: 100 }, 10, async () => undefined), undefined);
  });
});

describe("counts of a source that is written to", () => {
  const times = Array.from({ length: 400 }, (_, index) => 1_500_000_000_000 + index * 1_000_000);

  test("a resource that is updated or deleted meanwhile leaves its window, and windows are cut all the same", async () => {
    for (const every of [1, 2, 7]) {
      const left = [...times];
      let asked = 0;
      const windows = await cutWindows({ from: undefined, till, expected: times.length }, 30, async (from, to) => {
        const now = await countOf(left)(from, to);
        if (++asked % every === 0) left.splice((asked * 37) % left.length, 1);
        return now;
      });
      assert(windows && windows.length >= 10, `one in ${every}`);
      for (const { from, till: to, expected } of windows) assert((await countOf(left)(from, to)) <= expected);
    }
  });

  test("counts that leave out a resource of each window give no windows", async () => {
    const all = countOf(times);
    const lossy = async (from: number | undefined, to: number | undefined) =>
      from !== undefined && to !== undefined ? Math.max(0, (await all(from, to)) - 1) : all(from, to);
    assert.equal(await cutWindows({ from: undefined, till, expected: times.length }, 30, lossy), undefined);
  });

  const sides: [
    name: string,
    count: (asked: number, from: number | undefined, to: number | undefined) => number | undefined,
    boolean,
  ][] = [
    ["nothing changes", (_, from, to) => (from !== undefined ? 10 : to !== undefined ? 90 : 100), true],
    ["resources without a time", (_, from, to) => (from !== undefined ? 10 : to !== undefined ? 85 : 100), false],
    ["estimates, each too high", (_, from, to) => (from !== undefined ? 13 : to !== undefined ? 93 : 103), false],
    [
      "the source does not count windows",
      (_, from, to) => (from === undefined && to === undefined ? 100 : undefined),
      false,
    ],
    [
      "a resource is created at each count",
      (asked, from, to) => (from !== undefined ? 10 + asked : to !== undefined ? 90 : 100 + asked),
      true,
    ],
    [
      "a resource is updated at each count",
      (asked, from, to) => (from !== undefined ? 10 + asked : to !== undefined ? 90 - asked : 100),
      true,
    ],
    [
      "a resource is deleted at each count",
      (asked, from, to) => (from !== undefined ? 10 : to !== undefined ? 90 - asked : 100 - asked),
      true,
    ],
    [
      "a resource is created at each count, and some have no time",
      (asked, from, to) => (from !== undefined ? 10 + asked : to !== undefined ? 80 : 100 + asked),
      false,
    ],
  ];
  for (const [name, count, sum] of sides)
    test(`do both sides add up? ${name}`, async () => {
      let asked = 0;
      assert.equal(await sidesAddUp(async (from, to) => count(asked++, from, to), till), sum);
    });

  for (const [name, known, above, asks, sum] of [
    ["the counts that are known do", { all: 100, below: 100 }, 0, 1, true],
    ["a resource has been updated since", { all: 100, below: 99 }, 1, 3, true],
    ["they do by chance, and some have no time", { all: 101, below: 100 }, 1, 3, false],
  ] as const)
    test(`do both sides add up? ${name}: ${asks} counts are enough`, async () => {
      let asked = 0;
      const all = sum ? 100 : 102;
      const count = async (from: number | undefined, to: number | undefined) => {
        asked++;
        return from !== undefined ? above : to !== undefined ? 100 - above : all;
      };
      assert.equal(await sidesAddUp(count, till, known), sum);
      if (sum) assert.equal(asked, asks);
    });
});
