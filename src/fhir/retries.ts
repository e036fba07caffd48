import { FailureError, waiting } from "../failure.ts";
import type { Clock, Surroundings } from "../surroundings.ts";
import { BrokenAnswer, type Head } from "./http.ts";

const firstDelayMs = 250;
const longestDelayMs = 20_000;

/** One page fails again and again while others may not: with 500, cut short, or as broken JSON. Then it probably holds
 *  a resource that the server cannot render. */
export class PageFailure extends FailureError {
  constructor(failure: FailureError) {
    super("waiting", failure.reason, failure.message, { cause: failure });
  }
}

/** Decides whether, and when, a request that failed is sent again: after what the source asks for in Retry-After, else
 *  after a random part of 250 ms that doubles up to 20 s. */
export class Retries {
  readonly #until: number;
  readonly #tries: number;
  readonly #surroundings: Surroundings;
  #failures = 0;
  #pageFailures = 0;

  /** @param until milliseconds since the epoch; no try begins later
   *  @param tries after this many failures that may be the page's own the page is given up; undefined: it never is */
  constructor(until: number, tries: number | undefined, surroundings: Surroundings) {
    this.#until = until;
    this.#surroundings = surroundings;
    this.#tries = tries ?? Number.POSITIVE_INFINITY;
  }

  /** @param error a transient failure of the source, or of its token endpoint
   *  @returns milliseconds to wait before the next try
   *  @throws PageFailure where the page is given up; waiting, with the error's reason and message, where the time is
   *    over */
  delayAfter(error: FailureError): number {
    const isPages = mayBeThePage(error);
    if (isPages && ++this.#pageFailures >= this.#tries) throw new PageFailure(error);
    const { clock, random } = this.#surroundings;
    const asked = hasHeaders(error.cause) ? retryAfterMs(error.cause, clock) : undefined;
    const delay = asked ?? fraction(random) * Math.min(longestDelayMs, firstDelayMs * 2 ** this.#failures);
    this.#failures++;
    if (clock.now() + delay <= this.#until) return delay;
    if (isPages && this.#tries !== Number.POSITIVE_INFINITY) throw new PageFailure(error);
    throw waiting(error.reason, error.message, error);
  }
}

/** True for 500, a broken page, and an answer that broke off. 429, 502 to 504 and a network without an answer say
 *  nothing about the page. */
function mayBeThePage({ reason, cause }: FailureError): boolean {
  return reason === "SourceInconsistent" || cause instanceof BrokenAnswer || (isHead(cause) && cause.status === 500);
}

/** Milliseconds that the header Retry-After asks to wait, as seconds or as a date (RFC 9110 section 10.2.3); undefined
 *  where there is none. */
export function retryAfterMs({ headers }: Pick<Head, "headers">, clock: Clock): number | undefined {
  const value = headers["retry-after"];
  if (typeof value !== "string") return undefined;
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - clock.now();
  return Number.isFinite(ms) ? Math.max(0, ms) : undefined;
}

/** A random number from 0 to 1, without 1. */
const fraction = (random: Surroundings["random"]) => random(4).readUInt32LE() / 2 ** 32;

const hasHeaders = (cause: unknown): cause is Pick<Head, "headers"> =>
  typeof (cause as Head | undefined)?.headers === "object";
const isHead = (cause: unknown): cause is Head => typeof (cause as Head | undefined)?.status === "number";
