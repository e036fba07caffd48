import { FailureError } from "../failure.ts";
import type { Clock, Surroundings } from "../surroundings.ts";
import { BrokenAnswer, type Head } from "./http.ts";
import { mayBeOfOnePage } from "./refusals.ts";

const firstDelayMs = 250;
const longestDelayMs = 20_000;
/** After so many answers that less should be asked for, less is asked for. */
const maxTooMuch = 2;

/** A request was given up: it fails again and again, while the source answers others. With 5xx, cut short, or as broken
 *  JSON it probably is a page that holds a resource that the server cannot render. */
export class PageFailure extends FailureError {
  /** what the source answers; undefined: no whole answer, or one that is no FHIR JSON */
  readonly status: number | undefined;
  /** A smaller page may be answered. */
  readonly isTooMuch: boolean;
  constructor(failure: FailureError, status: number | undefined, isTooMuch = false) {
    super("waiting", failure.reason, failure.message, { cause: failure });
    this.status = status;
    this.isTooMuch = isTooMuch;
  }

  /** Other pages of the search may be read. */
  get isOfOnePage(): boolean {
    return mayBeOfOnePage(this.status);
  }
}

/** The cause of a transient failure that is an answer of the source. Its message says what to mend. */
export interface AnswerCause {
  /** absent: the answer is no HTTP, or JSON that is not what was asked for */
  head?: Head;
  /** what the answer is where it stays so */
  failure: FailureError;
  /** Less should be asked for. */
  isTooMuch: boolean;
}

/** Decides when a request that failed is sent again: after what the source asks for in Retry-After, else after a random
 *  part of 250 ms that doubles up to 20 s. */
export class Retries {
  readonly #until: number;
  readonly #tries: number;
  readonly #surroundings: Surroundings;
  #failures = 0;
  #own = 0;
  #mayGiveUp = false;

  /** @param until milliseconds since the epoch; no try begins later
   *  @param tries after this many failures that may be the request's own it may be given up */
  constructor(until: number, tries: number, surroundings: Surroundings) {
    this.#until = until;
    this.#surroundings = surroundings;
    this.#tries = tries;
  }

  /** Whether the request may be given up after the failure that `delayAfter` was told of, if the source answers
   *  others. */
  get mayGiveUp(): boolean {
    return this.#mayGiveUp;
  }

  /** @param error a transient failure of the source, or of its token endpoint
   *  @param isLikeOthers every answer that may be a no counts as a failure of the request's own; else 502 to 504, web
   *    pages and the like are waited for, unless less can be asked for
   *  @param isLess less can be asked for, and should be
   *  @returns milliseconds to wait before the next try; undefined where the time is over */
  delayAfter(error: FailureError, isLikeOthers: boolean, isLess = false): number | undefined {
    const kind = failureKind(error);
    if (kind === "own" || (kind === "failing" && isLikeOthers)) this.#own++;
    if (isLess) this.#own += this.#tries / maxTooMuch;
    const answer = answerHeaders(error.cause);
    const { clock, random } = this.#surroundings;
    const left = Math.max(0, this.#until - clock.now());
    // At most the time that is left: at its end the request is sent once more.
    const asked = answer && left > 0 ? retryAfterMs(answer, clock, left) : undefined;
    const delay = asked ?? fraction(random) * Math.min(longestDelayMs, firstDelayMs * 2 ** this.#failures);
    this.#failures++;
    const isOver = clock.now() + delay > this.#until;
    this.#mayGiveUp = kind !== "busy" && (isOver || this.#own >= this.#tries);
    return isOver ? undefined : delay;
  }
}

/** - `own`: 500, a broken page, JSON that is no Bundle, and an answer that broke off may be the request's own fault.
 *  - `failing`: so may every other answer that stays, and an answer that does not begin in time.
 *  - `busy`: 408, 425, 429 and a network without an answer say nothing of the request. */
function failureKind(error: FailureError): "own" | "failing" | "busy" {
  const { reason, cause } = error;
  const status = statusOf(error);
  if (reason === "SourceInconsistent" || cause instanceof BrokenAnswer || status === 500) return "own";
  if (status === undefined && (cause as AnswerCause | undefined)?.failure) return "own";
  if (status === undefined)
    return (cause as NodeJS.ErrnoException | undefined)?.code === "HEADERS_TIMEOUT" ? "failing" : "busy";
  return status === 408 || status === 425 || status === 429 ? "busy" : "failing";
}

/** Whether less should be asked for: the answer says so, or none has begun in time. */
export const saysTooMuch = ({ cause }: FailureError): boolean =>
  (cause as AnswerCause | undefined)?.isTooMuch === true ||
  (cause as NodeJS.ErrnoException | undefined)?.code === "HEADERS_TIMEOUT";

/** The status of the answer that a failure is; undefined where there was no whole answer. */
export const statusOf = ({ cause }: FailureError): number | undefined =>
  (cause as AnswerCause | undefined)?.head?.status;

/** Statuses with which Retry-After means that nothing should be asked for meanwhile. Some servers and proxies send it
 *  with every answer. */
const pausing = [202, 429, 503];
/** Larger numbers are no seconds to wait, but seconds since 1970. */
const epochFrom = 1_000_000_000;

/** Milliseconds that the header Retry-After asks to wait, as seconds or as a date (RFC 9110 section 10.2.3).
 *  @param most milliseconds: a source that asks for more is asked again after this time
 *  @returns undefined where there is none that makes sense */
export function retryAfterMs(
  { status, headers }: Pick<Head, "headers"> & { status?: number },
  clock: Clock,
  most: number,
): number | undefined {
  if (status !== undefined && !pausing.includes(status)) return undefined;
  const text = String(headers["retry-after"] ?? "").trim();
  const seconds = /^\d+(?:\.\d+)?(?=$|\s*,)/.exec(text)?.[0];
  const ms =
    seconds === undefined || Number(seconds) >= epochFrom ? timeOfHeader(text) - clock.now() : Number(seconds) * 1000;
  return Number.isFinite(ms) ? Math.min(most, Math.max(0, ms)) : undefined;
}

/** A date, or seconds since 1970, in milliseconds. */
const timeOfHeader = (text: string): number => {
  if (/^\d{10}$/.test(text)) return Number(text) * 1000;
  return /^[A-Z][a-z]+,? /.test(text) ? Date.parse(text) : Number.NaN;
};

/** A random number from 0 to 1, without 1. */
const fraction = (random: Surroundings["random"]) => random(4).readUInt32LE() / 2 ** 32;

const answerHeaders = (cause: unknown): (Pick<Head, "headers"> & { status?: number }) | undefined => {
  const { head, headers } = (cause ?? {}) as Partial<AnswerCause & Head>;
  return head ?? (headers && { headers });
};
