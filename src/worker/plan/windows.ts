import { eachParallel } from "../parallel.ts";

/** Cuts the time axis of one type into windows of at most `max` resources (DESIGN section 7). Pure but for `count`. */

/** Milliseconds; `from` undefined: from the beginning. */
export interface Window {
  from: number | undefined;
  till: number;
  expected: number;
}

/** 2^41 ms is the year 2039: bounds are multiples of powers of two, so the plan depends on the data and on `till` only. */
const gridBits = 41;

/** Resources with `from <= lastUpdated < till`, asked of the source; undefined: it does not tell. */
export type Count = (from: number | undefined, till: number | undefined) => Promise<number | undefined>;

/** Resources without lastUpdated are in no window: then the whole is more than its parts. Counts that are estimates do not add up, either.
 *  @param till what is written to now is stamped later, and moves from below it to above
 *  @param known what was counted a moment ago: the whole, and then what is below */
export async function addsUp(count: Count, till: number, known?: { all: number; below: number }): Promise<boolean> {
  // nothing is written to: then it does not matter when each was counted
  if (known && known.below === known.all && (await count(till, undefined)) === 0) return true;
  const [below, above, all] = [
    await count(undefined, till),
    await count(till, undefined),
    await count(undefined, undefined),
  ];
  if (below !== undefined && above !== undefined && below + above === all) return true;
  // or it is being written to: a resource may be counted on both sides, and none may be counted on neither but those that are made or deleted just now
  for (let tries = 0; tries < 5; tries++) {
    // the whole is counted often, as it may grow and shrink meanwhile
    const wholes = [await count(undefined, undefined)];
    const before = await count(till, undefined);
    wholes.push(await count(undefined, undefined));
    const low = await count(undefined, till);
    wholes.push(await count(undefined, undefined));
    const high = await count(till, undefined);
    wholes.push(await count(undefined, undefined));
    if (
      before === undefined ||
      low === undefined ||
      high === undefined ||
      !wholes.every((whole) => whole !== undefined)
    )
      return false;
    const sum = low + high;
    if (sum >= Math.min(...wholes) && sum <= Math.max(...wholes) + high - before) return true;
  }
  return false;
}

interface Segment {
  low: number;
  high: number;
  held: number;
  /** by the source; else it is what the others leave */
  asked: boolean;
}

/** @param total of the whole window
 *  @param again counts the whole window once more
 *  @returns windows without gaps that together hold `total`; undefined when the source's counts do not add up */
export async function cutWindows(
  bounds: Omit<Window, "expected">,
  total: number,
  max: number,
  count: Count,
  again: () => Promise<number | undefined> = () => count(bounds.from, bounds.till),
): Promise<Window[] | undefined> {
  const [first, end] = [bounds.from ?? 0, bounds.till];
  const at = ({ low, high }: Segment): [from: number | undefined, till: number] => [
    low <= first ? bounds.from : low,
    Math.min(high, end),
  ];
  const leaves: Segment[] = [];
  let failed = false;
  /** its halves, until it holds few enough */
  const split = async (segment: Segment): Promise<Segment[]> => {
    const { low, high, held } = segment;
    if (failed || held === 0) return [];
    // one millisecond is one transaction: such a window stays whole, whatever it holds
    if (held <= max || high - low <= 1) {
      leaves.push(segment);
      return [];
    }
    const middle = low + (high - low) / 2;
    if (middle >= end) return [{ ...segment, high: middle }];
    if (middle <= first) return [{ ...segment, low: middle }];
    const left = await count(at(segment)[0], middle);
    if (left === undefined || left > held) {
      failed = true;
      return [];
    }
    return [
      { low, high: middle, held: left, asked: true },
      { low: middle, high, held: held - left, asked: false },
    ];
  };
  let level: Segment[] = [{ low: 0, high: Math.max(2 ** gridBits, nextPowerOfTwo(end)), held: total, asked: true }];
  while (level.length > 0) level = (await eachParallel(level, split)).flat();
  leaves.sort((a, b) => a.low - b.low);
  // the right halves were only inferred: ask, so that every expectation is the source's own
  let fewer = false;
  await eachParallel(leaves, async (leaf) => {
    if (leaf.asked || failed) return;
    const held = await count(...at(leaf));
    if (held === undefined || held > leaf.held) failed = true;
    else if (held < leaf.held) [leaf.held, fewer] = [held, true];
  });
  if (failed) return undefined;
  if (leaves.length === 0) return [];
  // what is written to leaves its window for good: then the whole is no more than its windows, which were counted before it
  if (fewer && ((await again()) ?? Number.POSITIVE_INFINITY) > leaves.reduce((sum, { held }) => sum + held, 0))
    return undefined;
  return merge(
    leaves.map((leaf) => ({ from: at(leaf)[0], till: at(leaf)[1], expected: leaf.held })),
    bounds,
    max,
  );
}

/** Puts neighbours together that fit into one window: fewer searches, and the same bounds on the grid. What lies between two belongs to the one before: an
 *  index that lags may show something there yet. */
function merge(leaves: readonly Window[], bounds: Omit<Window, "expected">, max: number): Window[] {
  const merged: Window[] = [];
  for (const { from, till, expected } of leaves) {
    const last = merged.at(-1);
    if (last && last.expected + expected <= max) {
      last.till = till;
      last.expected += expected;
    } else {
      if (last) last.till = from!;
      merged.push({ from: last ? from : bounds.from, till, expected });
    }
  }
  merged.at(-1)!.till = bounds.till;
  return merged;
}

const nextPowerOfTwo = (value: number) => 2 ** Math.ceil(Math.log2(Math.max(1, value)));
