import { setTimeout as sleep } from "node:timers/promises";

/** Calls `look` until its result holds. @returns that result. @throws after the timeout, with the last result */
export async function eventually<Seen>(
  look: () => Promise<Seen> | Seen,
  holds: (seen: Seen) => boolean,
  { timeoutMs = 30_000, everyMs = 20 } = {},
): Promise<Seen> {
  const until = Date.now() + timeoutMs;
  for (;;) {
    const seen = await look();
    if (holds(seen)) return seen;
    if (Date.now() > until) throw new Error(`not seen within ${timeoutMs} ms; last: ${JSON.stringify(seen)}`);
    await sleep(everyMs);
  }
}
