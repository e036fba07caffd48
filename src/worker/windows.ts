/** Cuts the time axis of one type into windows of at most `max` resources (DESIGN section 7). Pure but for `count`. */

/** Milliseconds; `from` undefined: from the beginning. */
export interface Window {
  from: number | undefined;
  till: number;
  expected: number;
}

/** 2^41 ms is the year 2039: bounds are multiples of powers of two, so the plan depends on the data and on `till` only. */
const gridBits = 41;

/** @param count resources with `from <= lastUpdated < till`, asked of the source
 *  @param total of the whole window
 *  @returns windows that together hold `total`; undefined when the source's counts do not add up */
export async function cutWindows(
  bounds: { from: number | undefined; till: number },
  total: number,
  max: number,
  count: (from: number | undefined, till: number) => Promise<number | undefined>,
): Promise<Window[] | undefined> {
  const leaves: (Window & { asked: boolean })[] = [];
  let failed = false;
  const split = async (low: number, high: number, held: number, asked: boolean): Promise<void> => {
    if (failed || held === 0) return;
    const from = low <= (bounds.from ?? 0) ? bounds.from : low;
    const till = Math.min(high, bounds.till);
    // one millisecond is one transaction: such a window stays whole, whatever it holds
    if (held <= max || high - low <= 1) return void leaves.push({ from, till, expected: held, asked });
    const middle = low + (high - low) / 2;
    if (middle >= bounds.till) return split(low, middle, held, asked);
    if (middle <= (bounds.from ?? 0)) return split(middle, high, held, asked);
    const left = await count(from, middle);
    if (left === undefined || left > held) {
      failed = true;
      return;
    }
    await split(low, middle, left, true);
    await split(middle, high, held - left, false);
  };
  await split(0, Math.max(2 ** gridBits, nextPowerOfTwo(bounds.till)), total, true);
  // the right halves were only inferred: ask, so that every expectation is the source's own
  for (const leaf of leaves) {
    if (leaf.asked || failed) continue;
    if ((await count(leaf.from, leaf.till)) !== leaf.expected) failed = true;
  }
  return failed ? undefined : merge(leaves, max);
}

/** Neighbours that fit into one window: fewer searches, and the same bounds on the grid. */
function merge(leaves: readonly Window[], max: number): Window[] {
  const merged: Window[] = [];
  for (const { from, till, expected } of leaves) {
    const last = merged.at(-1);
    if (last && last.expected + expected <= max) {
      last.till = till;
      last.expected += expected;
    } else merged.push({ from, till, expected });
  }
  return merged;
}

const nextPowerOfTwo = (value: number) => 2 ** Math.ceil(Math.log2(Math.max(1, value)));

/** Shares shards out to packages, one per completion index: as many as hold `size` resources each, evenly (the largest shard first, always to the package
 *  that holds least). What a package holds stays in the order of the shards.
 *  @param cost resources, as far as known */
export function packShards<T extends { id: string }>(
  shards: readonly T[],
  cost: (shard: T) => number,
  size: number,
  maxPackages = 10_000,
): string[][] {
  const costs = shards.map(cost);
  const total = costs.reduce((sum, one) => sum + one, 0);
  // an export of nothing has one package, too: the Job behind it needs a completion
  const count = Math.max(1, Math.min(maxPackages, shards.length, Math.ceil(total / size)));
  const packages = Array.from({ length: count }, (_, index) => ({ index, held: 0, shards: [] as number[] }));
  // the one that holds least is always the first
  const queue = packages.slice();
  for (const shard of [...costs.keys()].sort((a, b) => costs[b]! - costs[a]! || a - b)) {
    const least = queue.shift()!;
    least.shards.push(shard);
    least.held += costs[shard]!;
    let [low, high] = [0, queue.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      const other = queue[middle]!;
      if (other.held < least.held || (other.held === least.held && other.index < least.index)) low = middle + 1;
      else high = middle;
    }
    queue.splice(low, 0, least);
  }
  return packages.map((one) => one.shards.sort((a, b) => a - b).map((shard) => shards[shard]!.id));
}

/** packages a pod, at least: one that is slow holds the others up less */
const packagesPerPod = 2;

/** Resources of a package: a worker reads as many shards at a time as its share has requests, so it gets as many, unless pods would be left without.
 *  @param total of the export, as far as known */
export const packageSize = (
  total: number,
  { shardResources, parallelism }: { shardResources: number; parallelism: number },
  requests: number,
): number => Math.min(shardResources * Math.max(1, requests), Math.max(shardResources, Math.ceil(total / (parallelism * packagesPerPod))));
