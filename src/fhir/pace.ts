/** How an answer went, for what comes after it. */
export interface Outcome {
  /** 0: no answer */
  status: number;
  /** until its first byte; undefined: not comparable with others */
  ms?: number | undefined;
  /** what the source asks for */
  retryAfterMs?: number | undefined;
}

export interface PaceOptions {
  /** requests at a time: this run's share */
  requests: number;
  /** requests a second: likewise */
  perSecond?: number | undefined;
  /** monotonic milliseconds */
  now: () => number;
  /** calls back after so many milliseconds; answers how to forget it */
  after: (ms: number, call: () => void) => () => void;
}

/** latency of more than 3 times what is usual, and more than 200 ms, is taken for load */
const rise = 3;
const leastMs = 200;
/** weight of the newest answer in the smoothed latency */
const weight = 1 / 8;
/** What is usual follows what is by 2 % an answer: a source that is slower for good, e.g. the deeper the pages, is used in full again after 60 answers. */
const drift = 1.02;

interface Waiting {
  go: () => void;
  since: number;
  /** within the share there was room for it */
  throttled: boolean;
}

/** Keeps a source within what it can and may take (DESIGN section 7): at most the share's requests at a time and a second, none before a Retry-After of any
 *  answer has passed, and fewer at a time while it answers 429 or 503 (halved) or slowly (one less), then one more per round of good answers: the additive
 *  increase and multiplicative decrease of TCP (RFC 5681), with TCP Vegas' look at the delay. First come, first served. */
export class Pace {
  readonly #options: PaceOptions;
  readonly #queue: Waiting[] = [];
  #limit: number;
  #inFlight = 0;
  #pausedUntil = 0;
  #nextAt = 0;
  #slowedAt = Number.NEGATIVE_INFINITY;
  #smoothed: number | undefined;
  #usual = Number.POSITIVE_INFINITY;
  #forget: (() => void) | undefined;
  #throttledMs = 0;

  constructor(options: PaceOptions) {
    this.#options = options;
    this.#limit = Math.max(1, options.requests);
  }

  /** milliseconds that requests have waited although the share had room for them */
  get throttledMs(): number {
    return this.#throttledMs;
  }
  /** requests at a time, now */
  get limit(): number {
    return Math.floor(this.#limit);
  }

  /** Waits for a request's turn. @returns to be called once, when its answer is there or will not come
   *  @throws the signal's reason */
  async turn(signal: AbortSignal): Promise<(outcome: Outcome) => void> {
    signal.throwIfAborted();
    await new Promise<void>((resolve, reject) => {
      const waiting: Waiting = { go: resolve, since: this.#options.now(), throttled: this.#inFlight < this.#options.requests };
      const leave = () => {
        this.#queue.splice(this.#queue.indexOf(waiting), 1);
        reject(signal.reason as Error);
      };
      waiting.go = () => {
        signal.removeEventListener("abort", leave);
        resolve();
      };
      signal.addEventListener("abort", leave, { once: true });
      this.#queue.push(waiting);
      this.#admit();
    });
    const from = this.#options.now();
    return (outcome) => {
      this.#inFlight--;
      this.#learn(outcome, from);
      this.#admit();
    };
  }

  #admit(): void {
    const now = this.#options.now();
    const { perSecond } = this.#options;
    while (this.#queue.length > 0 && this.#inFlight < this.limit) {
      const at = Math.max(this.#pausedUntil, this.#nextAt);
      if (at > now) {
        this.#forget?.();
        this.#forget = this.#options.after(at - now, () => {
          this.#forget = undefined;
          this.#admit();
        });
        return;
      }
      const { go, since, throttled } = this.#queue.shift()!;
      if (throttled) this.#throttledMs += now - since;
      if (perSecond) this.#nextAt = now + 1000 / perSecond;
      this.#inFlight++;
      go();
    }
  }

  #learn({ status, ms, retryAfterMs }: Outcome, from: number): void {
    const now = this.#options.now();
    if (retryAfterMs !== undefined) this.#pausedUntil = Math.max(this.#pausedUntil, now + retryAfterMs);
    // what was sent before the last step says nothing about it
    const isNews = from >= this.#slowedAt;
    if (status === 429 || status === 503) {
      if (isNews) this.#slowTo(this.#limit / 2);
      return;
    }
    if (status === 0 || status >= 500) return;
    if (ms !== undefined) {
      this.#smoothed = this.#smoothed === undefined ? ms : this.#smoothed + (ms - this.#smoothed) * weight;
      this.#usual = Math.min(this.#usual * drift, this.#smoothed);
      if (this.#smoothed > leastMs && this.#smoothed > rise * this.#usual) {
        if (isNews) this.#slowTo(this.#limit - 1);
        return;
      }
    }
    this.#limit = Math.min(this.#options.requests, this.#limit + 1 / this.#limit);
  }

  #slowTo(limit: number): void {
    this.#limit = Math.max(1, limit);
    this.#slowedAt = this.#options.now();
  }
}
