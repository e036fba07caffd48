import type { Dispatcher } from "undici";
import { FailureError } from "../failure.ts";

export type Headers = Record<string, string | string[] | undefined>;

/** Takes the body of one answer, chunk by chunk as it comes: nothing is buffered, and a chunk is the socket's again afterwards. */
export interface Receiver {
  /** an answer begins, perhaps after one that was cut short */
  start(headers: Headers): void;
  write(chunk: Buffer): void;
}

/** The answer began and broke off. */
export class BrokenAnswer extends Error {}

export interface Head {
  status: number;
  /** from the request to this */
  ms: number;
  headers: Headers;
  /** first byte of the body */
  first: number | undefined;
}

/** One request and its answer, without redirects, retries or a stream in between (undici.request costs a third more per page).
 *  @param signals any of them ends it (AbortSignal.any is costly: 50 us a page, most of them later, in the garbage collector)
 *  @throws what undici says, or the signal's reason; what `into` throws ends the answer */
export function exchange(
  agent: Dispatcher,
  { url, method, headers, body }: { url: URL; method: "GET" | "POST"; headers: Record<string, string>; body?: string | undefined },
  into: Receiver,
  signals: readonly AbortSignal[],
): Promise<Head> {
  for (const signal of signals) signal.throwIfAborted();
  return new Promise((resolve, reject) => {
    let head: Head | undefined;
    let leave = () => {};
    const from = performance.now();
    const settle = (end: () => void) => {
      leave();
      end();
    };
    const isAborted = () => signals.some(({ aborted }) => aborted);
    agent.dispatch(
      { origin: url.origin, path: url.pathname + url.search, method, headers, ...(body !== undefined && { body }) },
      {
        onRequestStart(controller) {
          const abort = () => controller.abort(signals.find(({ aborted }) => aborted)!.reason as Error);
          leave();
          leave = () => {
            for (const signal of signals) signal.removeEventListener("abort", abort);
          };
          for (const signal of signals) signal.addEventListener("abort", abort);
          if (isAborted()) abort();
        },
        onResponseStart(controller, status, headers) {
          // 103 and the like announce the answer
          if (status < 200) return;
          head = { status, headers, first: undefined, ms: performance.now() - from };
          attempt(controller, () => into.start(headers));
        },
        onResponseData(controller, chunk) {
          if (head!.first === undefined) head!.first = chunk[0];
          attempt(controller, () => into.write(chunk));
        },
        onResponseEnd: () => settle(() => resolve(head!)),
        onResponseError: (_, error) => settle(() => reject(head && !isAborted() ? brokenBy(error) : error)),
      },
    );
  });
}

// what the receiver throws is said as it is
const brokenBy = (error: Error) => (error instanceof FailureError ? error : new BrokenAnswer("the answer broke off", { cause: error }));

function attempt(controller: Dispatcher.DispatchController, run: () => void): void {
  try {
    run();
  } catch (error) {
    controller.abort(error as Error);
  }
}

/** Keeps a body as one Buffer. */
export class Collector implements Receiver {
  #chunks: Buffer[] = [];
  #length = 0;
  readonly #max: number;
  readonly #tooLong: () => Error;

  constructor(max: number, tooLong: () => Error) {
    this.#max = max;
    this.#tooLong = tooLong;
  }
  start(): void {
    this.#chunks = [];
    this.#length = 0;
  }
  write(chunk: Buffer): void {
    this.#length += chunk.length;
    if (this.#length > this.#max) throw this.#tooLong();
    this.#chunks.push(chunk);
  }
  get bytes(): Buffer {
    return this.#chunks.length === 1 ? this.#chunks[0]! : Buffer.concat(this.#chunks, this.#length);
  }
}
