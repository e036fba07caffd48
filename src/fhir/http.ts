import type { Address } from "./address.ts";

export type Headers = Record<string, string | string[] | undefined>;

export interface Request {
  url: Address;
  method: "GET" | "POST";
  /** All headers but Host, Connection and Content-Length. The object must not be changed afterwards, since how it is
   *  sent is kept by its identity. */
  headers: Readonly<Record<string, string>>;
  body?: string | undefined;
}

/** Carries requests to the source, and their answers back. connections.ts does that over sockets. */
export interface Transport {
  /** Sends a request and waits for its whole answer, whatever its status is.
   *  @param signals any of them ends the exchange
   *  @throws the reason of the signal; TransportError, or an error of node with a `code`, where no answer arrived;
   *    BrokenAnswer, with that as its cause, where the answer had begun; what `into` throws */
  exchange(request: Request, into: Receiver, signals: readonly AbortSignal[]): Promise<Head>;
  /** Ends all exchanges that are under way or wait, with TransportError CLIENT_CLOSED. */
  close(): void;
}

/** Takes the body of one answer while it arrives. Nothing is buffered in between. A part of the body comes in one of
 *  two ways: by `write`, or, where the receiver names a place for it, straight from the socket into that place. */
export interface Receiver {
  /** An answer begins. What came before it belongs to an answer that broke off, and is to be forgotten. */
  start(headers: Headers): void;
  /** @param chunk the socket's own buffer, which is overwritten after this call returns */
  write(chunk: Buffer): void;
  /** Names where the next bytes of the body may be put, at most `most` of them. undefined: they come by `write`. The
   *  place must stay valid until `placed` is called or the answer is over. */
  place?(most: number): Uint8Array | undefined;
  /** `length` bytes, at least one, were put into the place that was named last. */
  placed?(length: number): void;
  /** The first bytes of the body that has arrived, as text. */
  beginning?(): string;
}

/** The head of an answer, which is given when the whole answer has arrived. */
export interface Head {
  status: number;
  /** milliseconds from the request to the end of the head */
  ms: number;
  headers: Headers;
  /** the first byte of the body; undefined where the body is empty */
  first: number | undefined;
  /** The body came in so many small parts that they cost more than what is in them. */
  isCrumbled?: true;
}

/** What may be wrong with a connection, or with an answer that should be HTTP/1.1. */
const faults = {
  CONNECT_TIMEOUT: "the connection was not made in time",
  HEADERS_TIMEOUT: "the answer did not begin in time",
  BODY_TIMEOUT: "the rest of the answer did not arrive in time",
  CONNECTION_CLOSED: "the connection ended before the answer did",
  CLIENT_CLOSED: "the client was closed",
  HTTP_REQUEST: "the request has a header or a path with characters that HTTP does not allow",
  HTTP_STATUS_LINE: "the answer does not begin with a status line of HTTP/1.1",
  HTTP_LINE_END: "a line of the answer does not end with CR LF, or holds a CR",
  HTTP_CHARACTER: "a line of the answer holds a control character",
  HTTP_HEADER: "a header of the answer has no valid name",
  HTTP_FOLDED_HEADER: "a header of the answer continues on a second line",
  HTTP_HEAD_TOO_LARGE: "the headers of the answer are longer than 64 KiB",
  HTTP_CONTENT_LENGTH: "the Content-Length of the answer is no number, or differs from a second one",
  HTTP_TRANSFER_ENCODING: "the Transfer-Encoding of the answer is not chunked, or stands beside a Content-Length",
  HTTP_CHUNK_SIZE: "the size of a chunk of the answer is no number",
  HTTP_CHUNK_END: "a chunk of the answer is longer than its size says",
} as const;

/** The answer did not arrive, or is not HTTP/1.1. The error holds nothing of the answer, which may be patient data. */
export class TransportError extends Error {
  override readonly name = "TransportError";
  readonly code: keyof typeof faults;
  constructor(code: keyof typeof faults) {
    super(faults[code]);
    this.code = code;
  }
}

/** The answer began and broke off. The cause says why. */
export class BrokenAnswer extends Error {}

/** Enough of an OperationOutcome to find its code. */
export const beginningBytes = 2048;

/** Collects a body as one Buffer. It throws `tooLong()` where the body is longer than `max` bytes. */
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
    this.#chunks.push(Buffer.from(chunk));
  }
  beginning(): string {
    return this.#chunks[0]?.toString("latin1", 0, beginningBytes) ?? "";
  }
  get bytes(): Buffer {
    return this.#chunks.length === 1 ? this.#chunks[0]! : Buffer.concat(this.#chunks, this.#length);
  }
}
