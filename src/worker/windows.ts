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

/** Shares shards out to packages, one per completion index: small shards share one, a package holds about `size` resources.
 *  @param cost resources, as far as known */
export function packShards<T extends { id: string }>(
  shards: readonly T[],
  cost: (shard: T) => number,
  size: number,
  maxPackages = 10_000,
): string[][] {
  const total = shards.reduce((sum, shard) => sum + cost(shard), 0);
  for (let limit = Math.max(size, Math.ceil(total / maxPackages)); ; limit *= 2) {
    const packages: string[][] = [];
    let held = Number.POSITIVE_INFINITY;
    for (const shard of shards) {
      if (held + cost(shard) > limit) {
        packages.push([]);
        held = 0;
      }
      packages.at(-1)!.push(shard.id);
      held += cost(shard);
    }
    // an export of nothing has one package, too: the Job behind it needs a completion
    if (packages.length === 0) return [[]];
    if (packages.length <= maxPackages) return packages;
  }
}
