import { setTimeout as sleep } from "node:timers/promises";

/** Polls until `look` returns something.
 *  @param what named in the error when it never does */
export async function until<Found>(
  what: string,
  look: () => Promise<Found | undefined | false>,
  ms = 30_000,
): Promise<Found> {
  for (const deadline = Date.now() + ms; ; await sleep(25)) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    if (Date.now() > deadline) throw new Error(`after ${ms / 1000} s still not seen: ${what}`);
  }
}
