import { onAbort } from "./aborts.ts";

/** How an answer went, for what comes after it. */
export interface RequestOutcome {
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

/** Load makes all answers slow. Of other things only some are: HAPI prepares the second and the third page of each
 *  search for 500 ms, and answers the others in 100. So it is the fastest of these many answers that is looked at: more
 *  than 3 times what is usual, and more than 200 ms, is taken for load. */
const answers = 16;
const rise = 3;
const leastMs = 200;
/** What is usual follows what is by 2 % an answer: a source that is slower for good, e.g. the deeper the pages, is used
 *  in full again after 60 answers. */
const drift = 1.02;

interface Waiting {
  go: () => void;
  since: number;
  /** within the share there was room for it */
  throttled: boolean;
}

/** Keeps a source within what it can and may take (DESIGN section 7): at most the share's requests at a time and a
 *  second, none before a Retry-After of any answer has passed, and fewer at a time while it answers 429 or 503 (halved)
 *  or slowly (one less), then one more per round of good answers: the additive increase and multiplicative decrease of
 *  TCP (RFC 5681), with TCP Vegas' look at the delay. First come, first served. */
export class RequestLimiter {
  readonly #options: PaceOptions;
  readonly #queue: Waiting[] = [];
  #limit: number;
  #inFlight = 0;
  #pausedUntil = 0;
  #nextAt = 0;
  #slowedAt = Number.NEGATIVE_INFINITY;
  /** latencies of the last answers */
  readonly #latest: number[] = [];
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

  /** Waits for a request's turn, or for one of the signals. @returns to be called once, when its answer is there or
   *  will not come
   *  @throws the signal's reason */
  async turn(...signals: AbortSignal[]): Promise<(outcome: RequestOutcome) => void> {
    for (const signal of signals) signal.throwIfAborted();
    if (this.#queue.length === 0 && this.#isFree(this.#options.now())) this.#start(this.#options.now());
    else await this.#wait(signals);
    const from = this.#options.now();
    return (outcome) => {
      this.#inFlight--;
      this.#learn(outcome, from);
      this.#admit();
    };
  }

  #wait(signals: AbortSignal[]): Promise<void> {
    return new Promise<void>((resolve, reject) => {
      const waiting: Waiting = {
        go: resolve,
        since: this.#options.now(),
        throttled: this.#inFlight < this.#options.requests,
      };
      const leave = () => {
        this.#queue.splice(this.#queue.indexOf(waiting), 1);
        forget();
        reject(signals.find(({ aborted }) => aborted)!.reason as Error);
      };
      const forget = () => {
        for (const end of ends) end();
      };
      waiting.go = () => {
        forget();
        resolve();
      };
      const ends = signals.map((signal) => onAbort(signal, leave));
      this.#queue.push(waiting);
      this.#admit();
    });
  }

  #isFree(now: number): boolean {
    return this.#inFlight < this.limit && now >= Math.max(this.#pausedUntil, this.#nextAt);
  }

  #start(now: number): void {
    const { perSecond } = this.#options;
    if (perSecond) this.#nextAt = now + 1000 / perSecond;
    this.#inFlight++;
  }

  #admit(): void {
    const now = this.#options.now();
    while (this.#queue.length > 0 && this.#isFree(now)) {
      const { go, since, throttled } = this.#queue.shift()!;
      if (throttled) this.#throttledMs += now - since;
      this.#start(now);
      go();
    }
    if (this.#queue.length === 0 || this.#inFlight >= this.limit) return;
    this.#forget?.();
    this.#forget = this.#options.after(Math.max(this.#pausedUntil, this.#nextAt) - now, () => {
      this.#forget = undefined;
      this.#admit();
    });
  }

  #learn({ status, ms, retryAfterMs }: RequestOutcome, from: number): void {
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
      if (this.#latest.push(ms) > answers) this.#latest.shift();
      const fastest = Math.min(...this.#latest);
      this.#usual = Math.min(this.#usual * drift, fastest);
      if (fastest > leastMs && fastest > rise * this.#usual) {
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
