import type { Address } from "./address.ts";

export type Headers = Record<string, string | string[] | undefined>;

export interface Request {
  url: Address;
  method: "GET" | "POST";
  /** besides host, connection and content-length; the object must not change any more */
  headers: Readonly<Record<string, string>>;
  body?: string | undefined;
}

/** Takes the body of one answer, chunk by chunk as it comes: nothing is buffered, and a chunk is the socket's again
 *  afterwards. */
export interface Receiver {
  /** an answer begins, perhaps after one that was cut short */
  start(headers: Headers): void;
  write(chunk: Buffer): void;
  /** Where up to `most` next bytes of the body may be put at once; undefined: they come by `write`. It must stay until
   *  they have come or the answer is over. */
  place?(most: number): Uint8Array | undefined;
  /** So many bytes, at least one, are in the place that was named last. */
  placed?(length: number): void;
}

export interface Head {
  status: number;
  /** from the request to this */
  ms: number;
  headers: Headers;
  /** first byte of the body */
  first: number | undefined;
}

/** What may be wrong with a connection, or with an answer as HTTP/1.1. */
const faults = {
  CONNECT_TIMEOUT: "no connection in time",
  HEADERS_TIMEOUT: "no answer in time",
  BODY_TIMEOUT: "no more of the answer in time",
  CONNECTION_CLOSED: "the connection ended before the answer did",
  CLIENT_CLOSED: "the client was closed",
  HTTP_REQUEST: "a header or path that no request can have",
  HTTP_STATUS_LINE: "the answer does not begin as HTTP/1.1 does",
  HTTP_LINE_END: "a line does not end with CR LF, or holds a CR",
  HTTP_CHARACTER: "a line holds a control character",
  HTTP_HEADER: "a header without a name that is one",
  HTTP_FOLDED_HEADER: "a header of several lines",
  HTTP_HEAD_TOO_LARGE: "the headers are too long",
  HTTP_CONTENT_LENGTH: "a Content-Length that is no length, or several",
  HTTP_TRANSFER_ENCODING: "a Transfer-Encoding other than chunked, or with a Content-Length",
  HTTP_CHUNK_SIZE: "a chunk's size that is none",
  HTTP_CHUNK_END: "a chunk longer than its size",
} as const;

/** An answer that did not come, or not as HTTP/1.1. Holds nothing of the answer: that may be patient data. */
export class TransportError extends Error {
  override readonly name = "TransportError";
  readonly code: keyof typeof faults;
  constructor(code: keyof typeof faults) {
    super(faults[code]);
    this.code = code;
  }
}

/** The answer began and broke off. */
export class BrokenAnswer extends Error {}

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
    this.#chunks.push(Buffer.from(chunk));
  }
  get bytes(): Buffer {
    return this.#chunks.length === 1 ? this.#chunks[0]! : Buffer.concat(this.#chunks, this.#length);
  }
}
