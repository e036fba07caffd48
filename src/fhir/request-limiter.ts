import { onAbort } from "./aborts.ts";

/** How a request went. The limiter learns from it how much the source can take. */
export interface RequestOutcome {
  /** 0: no answer arrived */
  status: number;
  /** milliseconds to the head of the answer; undefined: not comparable with other requests */
  ms?: number | undefined;
  /** milliseconds that the source asks to wait */
  retryAfterMs?: number | undefined;
}

/** What may be asked of the source. */
export interface RequestShare {
  /** the most requests at a time: this run's share of the source's limit */
  requests: number;
  /** the most requests a second: this run's share of the source's limit */
  perSecond?: number | undefined;
}

export interface RequestLimiterOptions extends RequestShare {
  /** the time in milliseconds, by a clock that never goes back */
  now: () => number;
  /** calls back after `ms` milliseconds; returns how to cancel that */
  after: (ms: number, call: () => void) => () => void;
}

/** Load makes all answers slow, other causes only some: HAPI prepares the second and the third page of each search for
 *  500 ms, and answers the other pages in 100. So the fastest of the last 16 answers is compared: where it took more
 *  than 3 times what is usual, and more than 200 ms, the source is taken to be under load. */
const comparedAnswers = 16;
const loadFactor = 3;
const leastLoadMs = 200;
/** What is usual rises by at most 2 % an answer. So a source that becomes slower for good, for example because pages
 *  are slower the deeper they are, is used in full again after 60 answers (1.02^60 = 3.3). */
const usualRise = 1.02;

interface WaitingRequest {
  go: () => void;
  since: number;
  /** whether the share had room for it when it came, so that it waits for the source and not for the share */
  throttled: boolean;
}

/** Limits the requests to the source to what it can take and what this run may ask of it:
 *
 *  1. never more than the share's requests at a time and a second;
 *  2. none before the Retry-After of any answer has passed;
 *  3. fewer at a time while the source answers 429 or 503 (half of them) or slowly (one less);
 *  4. one more at a time per round of good answers, up to the share.
 *
 *  3 and 4 are the additive increase and multiplicative decrease of TCP (RFC 5681), with TCP Vegas' use of the delay.
 *  Requests are served in the order in which they come. */
export class RequestLimiter {
  #options: RequestLimiterOptions;
  readonly #queue: WaitingRequest[] = [];
  #limit: number;
  #inFlight = 0;
  #pausedUntil = 0;
  #nextAt = 0;
  #loweredAt = Number.NEGATIVE_INFINITY;
  /** how long the last answers took, in milliseconds */
  readonly #latest: number[] = [];
  #usualMs = Number.POSITIVE_INFINITY;
  #forget: (() => void) | undefined;
  #throttledMs = 0;

  constructor(options: RequestLimiterOptions) {
    this.#options = options;
    this.#limit = Math.max(1, options.requests);
  }

  /** Milliseconds that requests have waited, all together, although the share had room for them. */
  get throttledMs(): number {
    return this.#throttledMs;
  }
  /** Milliseconds for which no request is sent, as the source has asked to wait. */
  get pausedMs(): number {
    return Math.max(0, this.#pausedUntil - this.#options.now());
  }
  /** The most requests at a time, as of now. */
  get limit(): number {
    return Math.floor(this.#limit);
  }

  /** Gives the run another share from now on. */
  setShare({ requests, perSecond }: RequestShare): void {
    const isAtFull = this.#limit >= this.#options.requests;
    this.#options = { ...this.#options, requests: Math.max(1, requests), perSecond };
    this.#limit = isAtFull ? this.#options.requests : Math.min(this.#limit, this.#options.requests);
    this.#admit();
  }

  /** Waits until it is a request's turn.
   *  @param signals any of them ends the wait
   *  @returns is to be called once, when the answer has arrived or will not arrive
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
      const waiting: WaitingRequest = {
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
    // A request that was sent before the limit was last lowered says nothing about the new limit.
    const isNews = from >= this.#loweredAt;
    if (status === 429 || status === 503) {
      if (isNews) this.#lowerLimit(this.#limit / 2);
      return;
    }
    if (status === 0 || status >= 500) return;
    if (ms !== undefined) {
      if (this.#latest.push(ms) > comparedAnswers) this.#latest.shift();
      const fastest = Math.min(...this.#latest);
      this.#usualMs = Math.min(this.#usualMs * usualRise, fastest);
      if (fastest > leastLoadMs && fastest > loadFactor * this.#usualMs) {
        if (isNews) this.#lowerLimit(this.#limit - 1);
        return;
      }
    }
    this.#limit = Math.min(this.#options.requests, this.#limit + 1 / this.#limit);
  }

  #lowerLimit(limit: number): void {
    this.#limit = Math.max(1, limit);
    this.#loweredAt = this.#options.now();
  }
}
