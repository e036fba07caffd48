import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { packageSize, packShards, shardSize } from "../../../src/worker/plan/packages.ts";

describe("packing shards", () => {
  const shards = (...costs: number[]) => costs.map((cost, index) => ({ id: `S-${index}`, cost }));
  const pack = (costs: number[], size: number, max?: number) =>
    packShards(shards(...costs), ({ cost }) => cost, size, max);

  test("there are as many packages as the size says, and they hold about the same", () => {
    assert.deepEqual(pack([10, 20, 90, 60, 30], 100), [["S-2"], ["S-3"], ["S-0", "S-1", "S-4"]]);
    assert.deepEqual(pack([50, 50, 50, 50], 100), [
      ["S-0", "S-2"],
      ["S-1", "S-3"],
    ]);
  });
  test("property: each shard is in one package, and no package holds more than a third above the average or one shard above it", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 100 }), { minLength: 1, maxLength: 200 }),
        fc.integer({ min: 50, max: 400 }),
        (costs, size) => {
          const packages = pack(costs, size);
          assert.deepEqual(packages.flat().sort(), costs.map((_, index) => `S-${index}`).sort());
          const held = packages.map((one) => one.reduce((sum, id) => sum + costs[Number(id.slice(2))]!, 0));
          // the bound for the largest first (Graham 1969)
          const average = costs.reduce((sum, cost) => sum + cost, 0) / packages.length;
          assert(Math.max(...held) <= Math.max(average * (4 / 3), average + Math.max(...costs)));
        },
      ),
    );
  });
  test("a package has as many shards as a worker reads at a time, but fewer where pods would have none", () => {
    const size = (total: number, parallelism: number, requests: number) =>
      packageSize(total, { shardResources: 100, parallelism }, requests);
    assert.deepEqual([size(10_000, 4, 4), size(1000, 4, 4), size(300, 4, 4), size(10_000, 4, 1)], [400, 125, 100, 100]);
  });
  test("no shards give one empty package", () => assert.deepEqual(pack([], 100), [[]]));
  test("never more packages than a Job may have indexes", () => {
    const packages = pack(new Array(1000).fill(60), 100, 10);
    assert(packages.length <= 10);
    assert.equal(packages.flat().length, 1000);
  });
});

describe("the size of a shard", () => {
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
  test("a shard never has more than the Task asks for", () =>
    assert.equal(shardSize(7000, { shardResources: 500, parallelism: 1 }, 4), 500));
});
