import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { packageSize, packShards, shardSize } from "../../../src/worker/plan/packages.ts";
import { addsUp, areSlow, cutWindows } from "../../../src/worker/plan/windows.ts";

const till = Date.parse("2026-01-01T00:00:00Z");
const countOf = (times: number[]) => async (from: number | undefined, to: number | undefined) =>
  times.filter((time) => time >= (from ?? Number.NEGATIVE_INFINITY) && time < (to ?? Number.POSITIVE_INFINITY)).length;

describe("cutting windows", () => {
  test("property: windows cover the data once, in order, and hold what they say; only one millisecond may hold more than the bound", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.oneof(fc.integer({ min: 0, max: till + 5 }), fc.constant(1_600_000_000_000)), { maxLength: 60 }),
        fc.integer({ min: 1, max: 20 }),
        async (times, max) => {
          const inside = times.filter((time) => time < till);
          const windows = await cutWindows({ from: undefined, till }, inside.length, max, countOf(times));
          assert(windows);
          let before: number | undefined;
          for (const { from, till: to, expected } of windows) {
            // no gaps: a resource may be found late, by an index that lags
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

  test("the same data gives the same windows, whenever it is asked, where `till` is the same", async () => {
    const times = Array.from({ length: 500 }, (_, index) => 1_500_000_000_000 + index * index * 1000);
    const once = () => cutWindows({ from: undefined, till }, 500, 50, countOf(times));
    assert.deepEqual(await once(), await once());
    assert((await once())!.length >= 10);
  });

  test("bounds lie on the grid and inside since and till", async () => {
    const from = 1_500_000_000_123;
    const times = Array.from({ length: 100 }, (_, index) => from + index * 1_000_000);
    const windows = (await cutWindows({ from, till }, 100, 10, countOf(times)))!;
    assert.equal(windows[0]!.from, from);
    for (const { from: bound } of windows.slice(1)) assert.equal(bound! % 2 ** 10, 0);
  });

  test("counts that do not add up give up", async () => {
    const times = Array.from({ length: 100 }, (_, index) => 1_500_000_000_000 + index * 1_000_000);
    const rounded = async (from: number | undefined, to: number | undefined) =>
      Math.ceil((await countOf(times)(from, to)) / 10) * 10 + 10;
    assert.equal(await cutWindows({ from: undefined, till }, 100, 10, rounded), undefined);
    assert.equal(await cutWindows({ from: undefined, till }, 100, 10, async () => undefined), undefined);
  });
});

describe("counts of a source that is written to", () => {
  const times = Array.from({ length: 400 }, (_, index) => 1_500_000_000_000 + index * 1_000_000);

  test("what is updated or deleted while it is counted leaves its window; windows are cut all the same", async () => {
    for (const every of [1, 2, 7]) {
      const left = [...times];
      let asked = 0;
      const windows = await cutWindows({ from: undefined, till }, times.length, 30, async (from, to) => {
        const now = await countOf(left)(from, to);
        if (++asked % every === 0) left.splice((asked * 37) % left.length, 1);
        return now;
      });
      assert(windows && windows.length >= 10, `one in ${every}`);
      for (const { from, till: to, expected } of windows) assert((await countOf(left)(from, to)) <= expected);
    }
  });

  test("windows that lose what is in them are no windows", async () => {
    const all = countOf(times);
    const lossy = async (from: number | undefined, to: number | undefined) =>
      from !== undefined && to !== undefined ? Math.max(0, (await all(from, to)) - 1) : all(from, to);
    assert.equal(await cutWindows({ from: undefined, till }, times.length, 30, lossy), undefined);
  });

  const sides: [
    name: string,
    count: (asked: number, from: number | undefined, to: number | undefined) => number | undefined,
    boolean,
  ][] = [
    ["nothing changes", (_, from, to) => (from !== undefined ? 10 : to !== undefined ? 90 : 100), true],
    ["resources without a time", (_, from, to) => (from !== undefined ? 10 : to !== undefined ? 85 : 100), false],
    ["estimates, each too high", (_, from, to) => (from !== undefined ? 13 : to !== undefined ? 93 : 103), false],
    ["it does not count windows", (_, from, to) => (from === undefined && to === undefined ? 100 : undefined), false],
    [
      "one is made at each count",
      (asked, from, to) => (from !== undefined ? 10 + asked : to !== undefined ? 90 : 100 + asked),
      true,
    ],
    [
      "one is updated at each count",
      (asked, from, to) => (from !== undefined ? 10 + asked : to !== undefined ? 90 - asked : 100),
      true,
    ],
    [
      "one is deleted at each count",
      (asked, from, to) => (from !== undefined ? 10 : to !== undefined ? 90 - asked : 100 - asked),
      true,
    ],
    [
      "one is made at each count, and some have no time",
      (asked, from, to) => (from !== undefined ? 10 + asked : to !== undefined ? 80 : 100 + asked),
      false,
    ],
  ];
  for (const [name, count, sum] of sides)
    test(`do both sides make the whole? ${name}`, async () => {
      let asked = 0;
      assert.equal(await addsUp(async (from, to) => count(asked++, from, to), till), sum);
    });

  for (const [name, known, above, asks, sum] of [
    ["what is known does", { all: 100, below: 100 }, 0, 1, true],
    ["something is written to", { all: 100, below: 99 }, 1, 3, true],
    ["it does by chance, and some have no time", { all: 101, below: 100 }, 1, 3, false],
  ] as const)
    test(`do both sides make the whole? ${name}: ${asks} counts are enough`, async () => {
      let asked = 0;
      const all = sum ? 100 : 102;
      const count = async (from: number | undefined, to: number | undefined) => {
        asked++;
        return from !== undefined ? above : to !== undefined ? 100 - above : all;
      };
      assert.equal(await addsUp(count, till, known), sum);
      if (sum) assert.equal(asked, asks);
    });
});

describe("are windows too slow?", () => {
  const times = (first: number[], next: number[]) => ({ first, next });
  const cases: [
    name: string,
    windowed: ReturnType<typeof times>,
    plain: ReturnType<typeof times>,
    pages: number,
    boolean,
  ][] = [
    ["as fast", times([40, 45, 50], [40, 45, 50]), times([40, 45, 50], [40, 45, 50]), 100, false],
    [
      "three times, and less than 50 ms more",
      times([24, 25, 26], [24, 25, 26]),
      times([4, 5, 6], [4, 5, 6]),
      100,
      false,
    ],
    [
      "110 to 250 ms instead of 45",
      times([110, 180, 250], [110, 180, 250]),
      times([45, 45, 46], [44, 45, 45]),
      100,
      true,
    ],
    ["twice as slow", times([400, 410, 500], [400, 410, 500]), times([200, 200, 210], [200, 205, 210]), 100, false],
    ["one outlier", times([50, 50, 5000], [40, 50, 9000]), times([45, 45, 46], [44, 45, 45]), 100, false],
    [
      "a busy machine: one quick one among slow ones",
      times([5, 300, 300], [5, 300, 320]),
      times([45, 45, 46], [44, 45, 45]),
      100,
      false,
    ],
    [
      "a busy machine: some plain ones are slow, too",
      times([200, 300, 300], [200, 300, 320]),
      times([45, 45, 460], [44, 45, 380]),
      100,
      false,
    ],
    [
      "only first pages, of which a window has one in a hundred",
      times([900, 950, 990], [45, 45, 50]),
      times([45, 45, 46], [44, 45, 45]),
      100,
      false,
    ],
    [
      "only first pages, and windows of two pages",
      times([900, 950, 990], [45, 45, 50]),
      times([45, 45, 46], [44, 45, 45]),
      2,
      true,
    ],
    [
      "the plain search is slow to begin, and quick behind",
      times([900, 950, 990], [400, 450, 500]),
      times([950, 950, 990], [44, 45, 45]),
      100,
      true,
    ],
    ["windows of one page", times([45, 50, 55], []), times([45, 45, 46], [44, 45, 45]), 1, false],
    ["no plain page can be had", times([300, 300, 300], [300, 300, 300]), times([], []), 100, false],
    ["no windowed page can be had", times([], []), times([45, 45, 46], [44, 45, 45]), 100, false],
  ];
  for (const [name, windowed, plain, pages, slow] of cases)
    test(name, () => assert.equal(areSlow({ windowed, plain }, pages), slow));
});

describe("packing shards", () => {
  const shards = (...costs: number[]) => costs.map((cost, index) => ({ id: `S-${index}`, cost }));
  const pack = (costs: number[], size: number, max?: number) =>
    packShards(shards(...costs), ({ cost }) => cost, size, max);

  test("as many as hold what they should, evenly", () => {
    assert.deepEqual(pack([10, 20, 90, 60, 30], 100), [["S-2"], ["S-3"], ["S-0", "S-1", "S-4"]]);
    assert.deepEqual(pack([50, 50, 50, 50], 100), [
      ["S-0", "S-2"],
      ["S-1", "S-3"],
    ]);
  });
  test("property: each shard once, no package above twice another unless a single shard is", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 100 }), { minLength: 1, maxLength: 200 }),
        fc.integer({ min: 50, max: 400 }),
        (costs, size) => {
          const packages = pack(costs, size);
          assert.deepEqual(packages.flat().sort(), costs.map((_, index) => `S-${index}`).sort());
          const held = packages.map((one) => one.reduce((sum, id) => sum + costs[Number(id.slice(2))]!, 0));
          // the largest shard first: at most a third above the average, or one shard (Graham 1969)
          const average = costs.reduce((sum, cost) => sum + cost, 0) / packages.length;
          assert(Math.max(...held) <= Math.max(average * (4 / 3), average + Math.max(...costs)));
        },
      ),
    );
  });
  test("a worker gets as many shards as it reads at a time, unless pods were left without", () => {
    const size = (total: number, parallelism: number, requests: number) =>
      packageSize(total, { shardResources: 100, parallelism }, requests);
    assert.deepEqual([size(10_000, 4, 4), size(1000, 4, 4), size(300, 4, 4), size(10_000, 4, 1)], [400, 125, 100, 100]);
  });
  test("no shards are one empty package", () => assert.deepEqual(pack([], 100), [[]]));
  test("never more packages than a Job may have indexes", () => {
    const packages = pack(new Array(1000).fill(60), 100, 10);
    assert(packages.length <= 10);
    assert.equal(packages.flat().length, 1000);
  });
});

describe("how many resources a shard has", () => {
  const cases: [total: number, parallelism: number, requests: number, size: number][] = [
    [100_000_000, 4, 4, 100_000],
    [1_600_000, 4, 4, 50_000],
    [30_000, 1, 4, 3750],
    [30_000, 4, 4, 2000],
    [0, 1, 0, 2000],
  ];
  for (const [total, parallelism, requests, size] of cases)
    test(`${total} for ${parallelism} pods of ${requests} requests: ${size}`, () => {
      assert.equal(shardSize(total, { shardResources: 100_000, parallelism }, requests), size);
    });
  test("never more than it is told", () =>
    assert.equal(shardSize(7000, { shardResources: 500, parallelism: 1 }, 4), 500));
});
