import assert from "node:assert/strict";
import { test } from "node:test";
import { ChainGrowth } from "../../src/worker/chain-growth.ts";

/** Reads many pages of a source that answers up to `capacity` requests at a time in 100 ms, and more of them more
 *  slowly.
 *  @returns how many chains there are at the end, and how many there were at most */
function read(most: number, capacity: number): { chains: number; peak: number } {
  const growth = new ChainGrowth(most);
  let [now, peak] = [0, 0];
  for (let round = 0; round < 20; round++) {
    const chains = growth.wanted;
    peak = Math.max(peak, chains);
    for (let page = 0; page < chains; page++) {
      now += (100 * Math.max(1, chains / capacity)) / chains;
      growth.page(now);
    }
  }
  return { chains: growth.wanted, peak };
}

const cases: [name: string, most: number, capacity: number, chains: number, peak: number][] = [
  ["a source that can take all gets all", 16, 100, 16, 16],
  ["a source with two processors gets four, after eight were tried", 16, 2, 4, 8],
  ["a source that can take eight gets eight, after sixteen were tried", 16, 8, 8, 16],
  ["what is between two steps gets the larger one", 16, 12, 16, 16],
  ["a small share is used in full from the beginning", 3, 1, 3, 3],
  ["a share that is no power of two is used in full", 6, 100, 6, 6],
  ["and only if that brings something", 6, 2, 4, 6],
];
for (const [name, most, capacity, chains, peak] of cases)
  test(name, () => assert.deepEqual(read(most, capacity), { chains, peak }));
