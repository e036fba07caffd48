// Servers that count no further than some number, most of them those that search by an index: 1,000 or 10,000 stand for
// all that is more. Their searches often end there, too. Pure but for the counts that are asked for.

import type { CountWindow } from "./windows.ts";

/** Whether a count may be the number beyond which a server does not count: a power of two, one less or more, or a
 *  number that is round in its second digit, like 40, 250 or 10,000. */
export function looksCapped(count: number): boolean {
  if (count < 10) return false;
  const step = count < 100 ? 10 : 5 * 10 ** (Math.floor(Math.log10(count)) - 1);
  return (
    count % step === 0 || [count - 1, count, count + 1].some((near) => Number.isInteger(Math.log2(near)) && near >= 64)
  );
}

/** Whether a server counts no further than `all`, the count of a whole type: it then counts more in the two parts of
 *  the type than in all of it.
 *  @param at a moment, in milliseconds, at which some of the resources are stamped
 *  @returns undefined where nobody can tell: all have one stamp, or a part is not counted */
export async function isCapped(all: number, at: number, count: CountWindow): Promise<boolean | undefined> {
  // `at` is in the upper part; where nothing is below, it is the oldest, and the lower part is to have it
  for (const middle of [at, at + 1]) {
    const [low, high] = [await count(undefined, middle), await count(middle, undefined)];
    if (low === undefined || high === undefined) return undefined;
    if (low > 0 && high > 0) return low + high > all;
  }
  return undefined;
}
