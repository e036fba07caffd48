/** How often one may come. Pure but for what it remembers: the time is given. */

interface Bucket {
  tokens: number;
  /** milliseconds */
  at: number;
}

/** so many polls at once are nobody's fault: a client that starts again asks for everything it knows */
const burstOf = (perMinute: number) => Math.min(30, Math.max(10, Math.floor(perMinute / 40)));
/** keys remembered; beyond that the one that was idle longest is forgotten, which can only be kind to it */
const maxRememberedKeys = 10_000;

/** A token bucket per key: `perMinute` in the long run, 10 to 30 at once. */
export class PollLimiter {
  readonly #buckets = new Map<string, Bucket>();

  /** Seconds to wait, at least 1, when `key` came too fast; 0 when it may go on.
   *  @param perMinute 0: no limit
   *  @param now milliseconds */
  wait(key: string, perMinute: number, now: number): number {
    if (perMinute <= 0) return 0;
    const perMs = perMinute / 60_000;
    const burst = burstOf(perMinute);
    const known = this.#buckets.get(key);
    const tokens = known ? Math.min(burst, known.tokens + Math.max(0, now - known.at) * perMs) : burst;
    this.#buckets.delete(key);
    // a refusal costs nothing: or who asks faster than the rate would never be let in again
    this.#buckets.set(key, { tokens: tokens >= 1 ? tokens - 1 : tokens, at: now });
    if (this.#buckets.size > maxRememberedKeys) this.#buckets.delete(this.#buckets.keys().next().value!);
    return tokens >= 1 ? 0 : Math.max(1, Math.ceil((1 - tokens) / perMs / 1000));
  }
}
