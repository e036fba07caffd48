// Cuts the time axis of one type into windows, by asking the source for counts. Pure but for these questions.
// docs/internals/exactness.md says what windows are for.
//
// What goes in: the whole window with the number of resources that the source counts in it, the most that one window
// should hold, and a function that asks the source for the count of a window.
//
// 1. Begin with one segment of the grid that covers the whole window: [0, 2^41 ms), or the next power of two behind
//    `till`. All later bounds are midpoints of segments, so they are multiples of powers of two: the same data and the
//    same `till` give the same windows, whenever they are cut.
// 2. Halve each segment that holds more than `max`, or at least as much as the source counts at most (caps.ts; then
//    both halves are asked for, and steps 4 and 5 have nothing to do). Ask for the count of the left half, and infer
//    the right half by subtraction: one question for each halving. A half that lies outside of the whole window is
//    dropped without one. Segments of one size are asked for in parallel. Where three halvings in a row have left all
//    in one half, as where the data came within hours, the smallest segment that holds all is looked for around a time
//    that a resource has, by halving the number of levels: six questions instead of 23 for what came in minutes.
// 3. Stop at a segment that holds at most `max`, and at one millisecond: all resources of one transaction carry the
//    same millisecond, so it stays whole, whatever it holds. Drop segments that hold nothing.
// 4. Ask for the counts that step 2 has inferred, so that every expectation is the source's own.
// 5. An updated resource leaves its window for good, so step 4 may count fewer than were inferred. In that case count
//    the whole window again: this total, counted last, must not exceed the sum of the windows.
// 6. Put neighbours together where both fit into one window, and close the gaps between windows.
//
// What is guaranteed at the end: the windows are in order, have no gaps and reach from the whole window's `from` to its
// `till`; each expects what the source has counted in it; only a window whose resources share one millisecond expects
// more than `max`. There are no windows if the whole window holds nothing.
//
// What makes it give up: a question that the source does not answer; a half that holds more than its segment; a segment
// that holds more than was inferred; a total that exceeds the sum (step 5). Counts that are estimates do all of these,
// and so does an index that lags: it moves resources into windows that are already counted.

import { eachParallel } from "../parallel.ts";

/** A span of `meta.lastUpdated`, in milliseconds. */
export interface Bounds {
  /** inclusive; undefined: from the beginning */
  from: number | undefined;
  /** exclusive */
  till: number;
}

/** A window, with the number of resources that the source counts in it. */
export interface Window extends Bounds {
  /** As much as the source counts at most may stand for any number; only one millisecond is such a window. */
  expected: number;
}

/** A window that is to be cut. */
export interface WholeWindow extends Window {
  /** The source counts no further than this. Such a count may stand for any number. */
  cap?: number | undefined;
  /** Finds a time in milliseconds that a resource has; undefined: there is none. */
  someTime?: (() => Promise<number | undefined>) | undefined;
}

/** After so many halvings in a row that have left all in one half. */
const narrowedAfter = 3;
/** 2^41 ms is the year 2039. */
const gridBits = 41;

/** Asks the source how many resources have `from <= lastUpdated < till`; an undefined bound leaves that side open.
 *  Undefined: the source does not count. */
export type CountWindow = (from: number | undefined, till: number | undefined) => Promise<number | undefined>;

/** Whether what the source counts on both sides of `till` makes up what it counts in all. It does not where resources
 *  have no lastUpdated, because no window holds them, or where counts are estimates.
 *  @param till the end of the export: what is written now is stamped later, and moves from below to above
 *  @param known what was counted a moment ago: all, and after it what is below */
export async function sidesAddUp(
  count: CountWindow,
  till: number,
  known?: { all: number; below: number },
): Promise<boolean> {
  // nothing has been written since `till`, so it does not matter that the counts are of different moments
  if (known && known.below === known.all && (await count(till, undefined)) === 0) return true;
  const [below, above, all] = [
    await count(undefined, till),
    await count(till, undefined),
    await count(undefined, undefined),
  ];
  if (below !== undefined && above !== undefined && below + above === all) return true;
  // Or the source is being written to. Then a resource that moves while the sides are counted may be counted on both,
  // and only one that is created or deleted meanwhile may be counted on neither.
  for (let tries = 0; tries < 5; tries++) {
    // all are counted between the other counts, too, because they may become more and fewer meanwhile
    const alls = [await count(undefined, undefined)];
    const before = await count(till, undefined);
    alls.push(await count(undefined, undefined));
    const low = await count(undefined, till);
    alls.push(await count(undefined, undefined));
    const high = await count(till, undefined);
    alls.push(await count(undefined, undefined));
    if (before === undefined || low === undefined || high === undefined || !alls.every((one) => one !== undefined))
      return false;
    const sum = low + high;
    if (sum >= Math.min(...alls) && sum <= Math.max(...alls) + high - before) return true;
  }
  return false;
}

/** A part of the grid, from `low` to `high` milliseconds, and what it holds. */
interface Segment {
  low: number;
  high: number;
  held: number;
  /** the source has counted `held`; otherwise it is inferred from the neighbour's count */
  asked: boolean;
}

/** Cuts the whole window into windows of at most `max` resources, as the head of this file explains.
 *  @param whole the window to cut, with what the source counts in it
 *  @param recount counts the whole window once more
 *  @returns undefined when the source's counts do not add up */
export async function cutWindows(
  whole: WholeWindow,
  max: number,
  count: CountWindow,
  recount: () => Promise<number | undefined> = () => count(whole.from, whole.till),
): Promise<Window[] | undefined> {
  const segments = await halveUntilSmall(whole, max, count);
  const counts = segments && (await askInferred(segments, whole, count));
  if (!counts) return undefined;
  if (segments.length === 0) return [];
  const sum = segments.reduce((held, segment) => held + segment.held, 0);
  if (counts.fewer && ((await recount()) ?? Number.POSITIVE_INFINITY) > sum) return undefined;
  return mergeNeighbours(segments, whole, max);
}

/** Steps 1 to 3.
 *  @returns the segments that are small enough, in order; undefined when the counts do not add up */
async function halveUntilSmall(whole: WholeWindow, max: number, count: CountWindow): Promise<Segment[] | undefined> {
  const [first, end, cap] = [whole.from ?? 0, whole.till, whole.cap ?? Number.POSITIVE_INFINITY];
  const small: Segment[] = [];
  let failed = false;
  const split = async (segment: Segment): Promise<Segment[]> => {
    const { low, high, held } = segment;
    if (failed || held === 0) return [];
    if ((held <= max && held < cap) || high - low <= 1) {
      small.push(segment);
      return [];
    }
    const middle = low + (high - low) / 2;
    if (middle >= end) return [{ ...segment, high: middle }];
    if (middle <= first) return [{ ...segment, low: middle }];
    const { from, till } = clip(segment, whole);
    const left = await count(from, middle);
    const right = held < cap ? held - (left ?? 0) : await count(middle, till);
    if (left === undefined || right === undefined || right < 0) {
      failed = true;
      return [];
    }
    return [
      { low, high: middle, held: left, asked: true },
      { low: middle, high, held: right, asked: held >= cap },
    ];
  };
  const grid = Math.max(2 ** gridBits, nextPowerOfTwo(end));
  let level: Segment[] = [{ low: 0, high: grid, held: whole.expected, asked: true }];
  for (let oneSided = 0; level.length > 0; ) {
    const parts = (await eachParallel(level, split)).flat().filter((part) => part.held > 0);
    oneSided = level.length === 1 && parts.length === 1 ? oneSided + 1 : 0;
    // As much as the source counts at most may be less than all.
    const isNarrowed = oneSided === narrowedAfter && parts[0]!.held < cap;
    level = isNarrowed ? [await narrow(parts[0]!, whole, count)] : parts;
  }
  return failed ? undefined : small.sort((a, b) => a.low - b.low);
}

/** The smallest segment of the grid, around a time that a resource has, that holds as many as the given one. */
async function narrow(segment: Segment, whole: WholeWindow, count: CountWindow): Promise<Segment> {
  const at = await whole.someTime?.();
  let found = segment;
  if (at === undefined) return found;
  // Segments of 2^least ms and less do not hold all of them, as far as is known; those of 2^most ms do.
  for (let [least, most] = [-1, Math.log2(segment.high - segment.low)]; most - least > 1; ) {
    const bits = (least + most) >> 1;
    const low = Math.floor(at / 2 ** bits) * 2 ** bits;
    const part = { low, high: low + 2 ** bits, held: segment.held, asked: true };
    const { from, till } = clip(part, whole);
    const isWhole = (from ?? 0) < till && (await count(from, till)) === segment.held;
    if (isWhole) [most, found] = [bits, part];
    else least = bits;
  }
  return found;
}

/** Step 4. Replaces what was inferred by what the source counts.
 *  @returns whether some hold fewer; undefined when one holds more, or is not counted */
async function askInferred(
  segments: readonly Segment[],
  whole: Window,
  count: CountWindow,
): Promise<{ fewer: boolean } | undefined> {
  let [fewer, failed] = [false, false];
  await eachParallel(segments, async (segment) => {
    if (segment.asked || failed) return;
    const { from, till } = clip(segment, whole);
    const held = await count(from, till);
    if (held === undefined || held > segment.held) failed = true;
    else if (held < segment.held) [segment.held, fewer] = [held, true];
  });
  return failed ? undefined : { fewer };
}

/** Step 6. Fewer windows are fewer searches. What lies between two windows belongs to the earlier one: an index that
 *  lags may show something there later. */
function mergeNeighbours(segments: readonly Segment[], whole: WholeWindow, max: number): Window[] {
  const { cap = Number.POSITIVE_INFINITY } = whole;
  const most = Math.min(max, cap - 1);
  const merged: Window[] = [];
  for (const segment of segments) {
    const { from, till } = clip(segment, whole);
    const last = merged.at(-1);
    if (last && last.expected + segment.held <= most) {
      last.till = till;
      last.expected += segment.held;
    } else {
      if (last) last.till = from!;
      merged.push({ from: last ? from : whole.from, till, expected: segment.held });
    }
  }
  merged.at(-1)!.till = whole.till;
  return merged;
}

/** The part of a segment that lies in the whole window. */
const clip = ({ low, high }: Segment, { from, till }: Bounds): Bounds => ({
  from: low <= (from ?? 0) ? from : low,
  till: Math.min(high, till),
});

const nextPowerOfTwo = (value: number) => 2 ** Math.ceil(Math.log2(Math.max(1, value)));
