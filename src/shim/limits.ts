/** Limits how often each status URL is polled. The time is an argument, so that tests need no clock. */

interface Bucket {
  tokens: number;
  /** When the tokens were counted, in milliseconds. */
  at: number;
}

/** Polls that may come at once, 10 to 30: a client that restarts asks for all exports it knows. */
const burstOf = (perMinute: number) => Math.min(30, Math.max(10, Math.floor(perMinute / 40)));
/** Keys that are remembered. Beyond that, the key that was idle longest is forgotten; it starts anew with a full
 *  bucket. */
const maxRememberedKeys = 10_000;

/** A token bucket for each key. */
export class PollLimiter {
  readonly #buckets = new Map<string, Bucket>();

  /** Takes a token of `key`, if it has one.
   *  @param perMinute tokens that a key gets; 0: no limit
   *  @param now milliseconds
   *  @returns 0, or the seconds to wait, at least 1, when `key` came too fast */
  wait(key: string, perMinute: number, now: number): number {
    if (perMinute <= 0) return 0;
    const perMs = perMinute / 60_000;
    const burst = burstOf(perMinute);
    const known = this.#buckets.get(key);
    const tokens = known ? Math.min(burst, known.tokens + Math.max(0, now - known.at) * perMs) : burst;
    this.#buckets.delete(key);
    // a refusal takes no token, or a client that always polls faster than the rate would never be answered again
    this.#buckets.set(key, { tokens: tokens >= 1 ? tokens - 1 : tokens, at: now });
    if (this.#buckets.size > maxRememberedKeys) this.#buckets.delete(this.#buckets.keys().next().value!);
    return tokens >= 1 ? 0 : Math.max(1, Math.ceil((1 - tokens) / perMs / 1000));
  }
}
