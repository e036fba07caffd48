import { type Headers, type Request, TransportError } from "./http.ts";

/** Takes what an AnswerParser finds: the head once, then the parts of the body. */
export interface AnswerTaker {
  head(status: number, headers: Headers): void;
  /** @param chunk a part of the body, never empty: a view of the bytes that were written to the parser, valid until
   *    this call returns */
  body(chunk: Buffer): void;
}

/** The most bytes of an answer's head, of the line before a chunk, and of the trailers together. Node's own server and
 *  most proxies stop at fewer. */
const maxHeadBytes = 65_536;
const headEnd = Buffer.from("\r\n\r\n");

/** Parses one answer to a GET or POST by RFC 9112. It is fed with the bytes as they arrive, cut anywhere. Nothing is
 *  guessed: where client and server could disagree about where an answer ends (two lengths, line ends without CR, a
 *  folded header, …), the rest of the connection could be read as a forged answer to the next request, so it is an
 *  error. Interim answers (1xx) and trailers are skipped.
 *
 *  The steps (`#step`) are:
 *
 *  - `status`, `header`: the lines of the head;
 *  - `counted`: `#left` bytes of the body, or of its chunk, are still to come;
 *  - `size`, `chunkEnd`, `trailer`: the lines between and behind the chunks of a body with Transfer-Encoding chunked;
 *  - `rest`: the body ends where the connection ends;
 *  - `done`: the answer is whole.
 *
 *  All methods throw TransportError, and pass on what the taker throws. After an error the parser must not be used. */
export class AnswerParser {
  readonly #taker: AnswerTaker;
  #step: "status" | "header" | "size" | "counted" | "chunkEnd" | "trailer" | "rest" | "done" = "status";
  /** the beginning of a line whose end has not arrived */
  #line = "";
  /** bytes of the head so far, or of the line before a chunk, or of the trailers; see maxHeadBytes */
  #bytes = 0;
  #minor = 1;
  #status = 0;
  #headers: Headers = Object.create(null) as Headers;
  /** bytes of the body, or of its chunk, that are still to come */
  #left = 0;
  #isChunked = false;
  #begun = false;
  #keptMs = 0;

  constructor(taker: AnswerTaker) {
    this.#taker = taker;
  }

  /** whether a byte has arrived, be it of an interim answer */
  get begun(): boolean {
    return this.#begun;
  }
  get done(): boolean {
    return this.#step === "done";
  }
  /** Milliseconds for which the connection may be used again once the answer is done: 0 = not at all, Infinity = the
   *  server names no limit. A limit that it names (`Keep-Alive: timeout=`) is taken as one second shorter, since a
   *  request may be under way while the server hangs up. */
  get keptMs(): number {
    return this.#keptMs;
  }

  /** How many of the bytes that come next belong to the body. They may be read to where they belong, instead of being
   *  written to the parser; then `pass` is called. */
  get expected(): number {
    return this.#step === "counted" ? this.#left : 0;
  }

  /** `length` of the expected bytes have arrived, and are where they belong. */
  pass(length: number): void {
    this.#left -= length;
    if (this.#left === 0) this.#step = this.#isChunked ? "chunkEnd" : "done";
  }

  write(chunk: Buffer): void {
    if (chunk.length > 0) this.#begun = true;
    for (let at = 0; at < chunk.length; )
      switch (this.#step) {
        case "counted": {
          const length = Math.min(this.#left, chunk.length - at);
          this.pass(length);
          this.#taker.body(chunk.subarray(at, (at += length)));
          break;
        }
        case "rest":
          this.#taker.body(chunk.subarray(at));
          return;
        case "done":
          // Bytes behind the answer were not asked for. The connection is not used again.
          this.#keptMs = 0;
          return;
        case "status":
          at = this.#readHead(chunk, at);
          break;
        default:
          at = this.#readLine(chunk, at);
      }
  }

  /** The connection has ended. @throws TransportError CONNECTION_CLOSED where the answer does not end with it */
  finish(): void {
    this.#keptMs = 0;
    if (this.#step === "rest") this.#step = "done";
    if (this.#step !== "done") throw new TransportError("CONNECTION_CLOSED");
  }

  /** Reads a whole head at once where it lies in one chunk, as most do; else only its first line.
   *  @returns where the next line, or the body, begins */
  #readHead(chunk: Buffer, at: number): number {
    const end = this.#line === "" ? chunk.indexOf(headEnd, at) : -1;
    if (end < 0) return this.#readLine(chunk, at);
    const next = end + headEnd.length;
    this.#bytes += next - at;
    if (this.#bytes > maxHeadBytes) throw new TransportError("HTTP_HEAD_TOO_LARGE");
    const head = chunk.toString("latin1", at, end + 2);
    for (let from = 0; from < head.length; ) {
      const to = head.indexOf("\r\n", from);
      this.#takeLine(head.slice(from, to));
      from = to + 2;
    }
    this.#takeLine("");
    return next;
  }

  /** Reads to the end of a line, or of the chunk. @returns where the next line begins */
  #readLine(chunk: Buffer, at: number): number {
    const end = chunk.indexOf(0x0a, at);
    const next = end < 0 ? chunk.length : end + 1;
    this.#bytes += next - at;
    if (this.#bytes > maxHeadBytes) throw new TransportError("HTTP_HEAD_TOO_LARGE");
    this.#line += chunk.toString("latin1", at, next);
    if (end < 0) return next;
    const line = this.#line;
    this.#line = "";
    if (!line.endsWith("\r\n")) throw new TransportError("HTTP_LINE_END");
    this.#takeLine(line.slice(0, -2));
    return next;
  }

  /** @param line without its CR LF */
  #takeLine(line: string): void {
    const known = this.#step === "header" ? seenFields.get(line) : undefined;
    if (known) {
      putField(this.#headers, known);
      return;
    }
    // A CR within a line, NUL and other control characters are in no field (RFC 9110 section 5.5).
    if (control.test(line)) throw new TransportError(/[\r\n]/.test(line) ? "HTTP_LINE_END" : "HTTP_CHARACTER");
    switch (this.#step) {
      case "status": {
        // Where there is no reason phrase, many servers leave out the space before it, too.
        const found = /^HTTP\/1\.([01]) ([1-9]\d\d)(?: |$)/.exec(line);
        if (!found) throw new TransportError("HTTP_STATUS_LINE");
        this.#minor = Number(found[1]);
        this.#status = Number(found[2]);
        this.#step = "header";
        break;
      }
      case "header":
        if (line === "") this.#endHead();
        else {
          const field = fieldOf(line);
          putField(this.#headers, field);
          if (seenFields.size === maxSeenFields) seenFields.clear();
          seenFields.set(line, field);
        }
        break;
      case "size":
        this.#left = sizeOf(line);
        this.#step = this.#left === 0 ? "trailer" : "counted";
        break;
      case "chunkEnd":
        if (line !== "") throw new TransportError("HTTP_CHUNK_END");
        this.#bytes = 0;
        this.#step = "size";
        break;
      default:
        if (line === "") this.#step = "done";
        else fieldOf(line);
    }
  }

  #endHead(): void {
    const headers = this.#headers;
    // 101 switches to another protocol, which nobody asked for.
    if (this.#status === 101) throw new TransportError("HTTP_STATUS_LINE");
    if (this.#status < 200) {
      // #bytes is not reset, or a server could send interim answers without end.
      this.#headers = Object.create(null) as Headers;
      this.#step = "status";
      return;
    }
    const length = lengthOf(headers);
    this.#isChunked = isChunked(headers, this.#minor, length);
    this.#bytes = 0;
    this.#left = length ?? 0;
    if (this.#status === 204 || this.#status === 304) this.#step = "done";
    else if (this.#isChunked) this.#step = "size";
    else if (length === undefined) this.#step = "rest";
    else this.#step = length === 0 ? "done" : "counted";
    if (this.#step !== "rest") this.#keptMs = keepAliveMs(headers, this.#minor);
    this.#taker.head(this.#status, headers);
  }
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: the expression looks for control characters
const control = /[\0-\x08\x0a-\x1f\x7f]/;
const fieldValue = /^[\t\x20-\x7e\x80-\xff]*$/;
const fieldName = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

/** Renders a request as it is sent. Its parts are checked once more, since a CR or LF in them would begin a second
 *  request.
 *  @returns text in Latin-1, or bytes where there is a body
 *  @throws TransportError HTTP_REQUEST */
export function renderRequest({ url, method, headers, body }: Request): string | Buffer {
  const fields = renderFields(headers);
  const path = url.pathname + url.search;
  if (!/^[!-~]+$/.test(path)) throw new TransportError("HTTP_REQUEST");
  // Servers of HTTP/1.0 close a connection whose request does not ask to keep it.
  const head = `${method} ${path} HTTP/1.1\r\nhost: ${url.host}\r\nconnection: keep-alive\r\n${fields}`;
  if (body === undefined) return `${head}\r\n`;
  const bytes = Buffer.from(body);
  return Buffer.concat([Buffer.from(`${head}content-length: ${bytes.length}\r\n\r\n`, "latin1"), bytes]);
}

/** How headers are sent, by the object that holds them: most requests differ in their URLs only. */
const renderedFields = new WeakMap<Request["headers"], string>();

function renderFields(headers: Request["headers"]): string {
  const known = renderedFields.get(headers);
  if (known !== undefined) return known;
  const fields = Object.entries(headers).map(([name, value]) => {
    if (!fieldName.test(name) || !fieldValue.test(value)) throw new TransportError("HTTP_REQUEST");
    return `${name}: ${value}\r\n`;
  });
  const all = fields.join("");
  renderedFields.set(headers, all);
  return all;
}

interface Field {
  key: string;
  value: string;
}
/** What a line of a head means, by the line: a server sends the same lines with each page. */
const seenFields = new Map<string, Field>();
const maxSeenFields = 64;

/** The field of a line `name: value`. */
function fieldOf(line: string): Field {
  if (line[0] === " " || line[0] === "\t") throw new TransportError("HTTP_FOLDED_HEADER");
  const colon = line.indexOf(":");
  const name = line.slice(0, Math.max(0, colon));
  if (!fieldName.test(name)) throw new TransportError("HTTP_HEADER");
  return { key: name.toLowerCase(), value: trimmed(line, colon + 1) };
}

/** Adds a field. Several fields of one name become an array, as undici has them. */
function putField(headers: Headers, { key, value }: Field): void {
  const before = headers[key];
  if (before === undefined) headers[key] = value;
  else if (typeof before === "string") headers[key] = [before, value];
  else before.push(value);
}

/** The line from `from` on, without the spaces and tabs around it. trim() takes other characters away, too, and a
 *  regular expression takes time that grows with their square. */
function trimmed(line: string, from: number): string {
  const isSpace = (at: number) => line[at] === " " || line[at] === "\t";
  let to = line.length;
  while (from < to && isSpace(from)) from++;
  while (from < to && isSpace(to - 1)) to--;
  return line.slice(from, to);
}

const itemsOf = (value: string | string[] | undefined): string[] =>
  value === undefined
    ? []
    : String(value)
        .split(",")
        .map((item) => trimmed(item, 0));

/** The Content-Length. The same number several times counts as one (RFC 9110 section 8.6). */
function lengthOf(headers: Headers): number | undefined {
  const said = headers["content-length"];
  if (said === undefined) return undefined;
  const [first, ...others] = itemsOf(said);
  const length = Number(first);
  if (!/^\d+$/.test(first!) || length > Number.MAX_SAFE_INTEGER || others.some((other) => other !== first))
    throw new TransportError("HTTP_CONTENT_LENGTH");
  headers["content-length"] = first;
  return length;
}

/** Whether the body is chunked. RFC 9112 section 6.1 allows no coding that we did not ask for, none in HTTP/1.0, and no
 *  Content-Length beside it. */
function isChunked({ "transfer-encoding": coding }: Headers, minor: number, length: number | undefined): boolean {
  if (coding === undefined) return false;
  if (length !== undefined || minor === 0 || String(coding).toLowerCase() !== "chunked")
    throw new TransportError("HTTP_TRANSFER_ENCODING");
  return true;
}

/** The size in the line before a chunk. Extensions behind it are ignored. */
function sizeOf(line: string): number {
  const digits = /^[0-9A-Fa-f]+(?=;|$)/.exec(line)?.[0];
  const size = digits === undefined ? Number.NaN : Number.parseInt(digits, 16);
  if (!(size <= Number.MAX_SAFE_INTEGER)) throw new TransportError("HTTP_CHUNK_SIZE");
  return size;
}

/** See AnswerParser.keptMs. */
function keepAliveMs({ connection, "keep-alive": hint }: Headers, minor: number): number {
  const said = itemsOf(connection).map((item) => item.toLowerCase());
  if (said.includes("close") || (minor === 0 && !said.includes("keep-alive"))) return 0;
  const seconds = /(?:^|[,;\s])timeout=(\d{1,9})/i.exec(String(hint ?? ""))?.[1];
  return seconds === undefined ? Number.POSITIVE_INFINITY : Math.max(0, Number(seconds) * 1000 - 1000);
}
