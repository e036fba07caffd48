import type { OnReadOpts, Socket } from "node:net";
import { type Headers, TransportError } from "./http.ts";
import { AnswerParser, type AnswerTaker } from "./http1.ts";

/** Opens a socket, over TLS or not, that gives what it receives to `onread`. @throws what keeps it from trying */
export type OpenSocket = (onread: OnReadOpts) => Socket;

/** Milliseconds. */
export interface Times {
  /** for a connection: name, TCP and TLS */
  connect: number;
  /** from a request to the end of its answer's head */
  head: number;
  /** without a byte of the body */
  body: number;
  /** that a connection is kept without a request */
  idle: number;
}

/** Who asks over a connection. */
export interface Asker extends AnswerTaker {
  /** Receiver.place */
  place(most: number): Uint8Array | undefined;
  /** Receiver.placed */
  placed(length: number): void;
  /** the answer is whole; the connection can be asked again if it `isKept` */
  done(): void;
  /** there is no answer, or no whole one, and no connection any more
   *  @param unheard it was an old connection that ended before a byte of the answer: the server may never have read the
   *    request */
  failed(error: Error, unheard: boolean): void;
}

/** What one read takes that is copied to where it belongs: more would not stay in the processor's cache until then.
 *  What is expected to be longer is read to where it belongs (3 % of a worker's rate, pages of 500 kB). */
const readBytes = 65_536;
/** how a connection ends that the server closes as a request comes */
const ends = ["CONNECTION_CLOSED", "ECONNRESET", "EPIPE"];

/** One connection to the source: one request at a time, and no process is kept alive by one without. */
export class Connection {
  readonly #socket: Socket;
  readonly #times: Times;
  readonly #gone: () => void;
  readonly #buffer = Buffer.allocUnsafeSlow(readBytes);
  /** the next read goes to the asker's place */
  #isPlaced = false;
  /** until it can be sent: not before the server's certificate was looked at */
  #request: string | Buffer | undefined;
  #asker: Asker | undefined;
  #parser: AnswerParser | undefined;
  #inBody = false;
  #timer: NodeJS.Timeout | undefined;
  #isOpen = false;
  #isUsed = false;
  #keptUntil = 0;

  /** @param gone is called when it is of no more use, perhaps several times @throws what `open` throws */
  constructor(open: OpenSocket, times: Times, gone: () => void) {
    this.#times = times;
    this.#gone = gone;
    this.#socket = open({ buffer: () => this.#room(), callback: (length) => this.#read(length) });
    this.#socket
      .once("encrypted" in this.#socket ? "secureConnect" : "connect", () => this.#opened())
      .on("end", () => this.#ended())
      .on("error", (error) => this.fail(error))
      .on("close", () => this.fail(new TransportError("CONNECTION_CLOSED")));
  }

  /** It can be asked. The timer that ends one that is idle comes late where the process is busy. */
  get isKept(): boolean {
    return performance.now() < this.#keptUntil;
  }

  /** Sends a request, as soon as it is connected. */
  ask(request: string | Buffer, asker: Asker): void {
    this.#request = request;
    this.#asker = asker;
    this.#parser = new AnswerParser(this.#taker);
    this.#inBody = false;
    this.#keptUntil = 0;
    if (this.#isOpen) this.#send();
    else this.#within(this.#times.connect, "CONNECT_TIMEOUT");
  }

  /** Ends it at once. Who has asked hears no more of it. */
  destroy(): void {
    this.#end();
    this.#gone();
  }

  /** Ends it for an error, which who has asked is told. */
  fail(error: Error): void {
    const asker = this.#asker;
    this.#end();
    const { code } = error as NodeJS.ErrnoException;
    asker?.failed(error, this.#isUsed && !this.#parser?.begun && ends.includes(code ?? ""));
    // what asks again does so before others do
    this.#gone();
  }

  #end(): void {
    clearTimeout(this.#timer);
    this.#asker = undefined;
    this.#keptUntil = 0;
    this.#socket.destroy();
  }

  readonly #taker: AnswerTaker = {
    head: (status: number, headers: Headers) => {
      this.#inBody = true;
      this.#within(this.#times.body, "BODY_TIMEOUT");
      this.#asker?.head(status, headers);
    },
    // who has asked may have left meanwhile
    body: (chunk) => this.#asker?.body(chunk),
  };

  #opened(): void {
    this.#isOpen = true;
    if (this.#asker) this.#send();
  }

  #send(): void {
    this.#within(this.#times.head, "HEADERS_TIMEOUT");
    this.#socket.write(this.#request!, "latin1");
    this.#request = undefined;
  }

  #within(ms: number, code: "CONNECT_TIMEOUT" | "HEADERS_TIMEOUT" | "BODY_TIMEOUT"): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.fail(new TransportError(code)), ms);
  }

  /** Where the next read goes; asked for after each. */
  #room(): Uint8Array {
    const most = this.#parser?.expected ?? 0;
    const place = most < readBytes ? undefined : this.#asker?.place(most);
    this.#isPlaced = place !== undefined;
    return place ?? this.#buffer;
  }

  /** @returns whether to go on reading */
  #read(length: number): boolean {
    const parser = this.#parser;
    // what comes unasked is no answer to what is asked next
    if (!this.#asker || !parser) this.destroy();
    else
      try {
        if (this.#inBody) this.#timer?.refresh();
        if (this.#isPlaced) {
          parser.pass(length);
          this.#asker.placed(length);
        } else parser.write(this.#buffer.subarray(0, length));
        if (parser.done) this.#done(parser);
      } catch (error) {
        this.fail(error as Error);
      }
    return !this.#socket.destroyed;
  }

  #ended(): void {
    const parser = this.#parser;
    try {
      parser?.finish();
      if (parser) this.#done(parser);
      else this.destroy();
    } catch (error) {
      this.fail(error as Error);
    }
  }

  #done(parser: AnswerParser): void {
    const asker = this.#asker;
    const ms = Math.min(parser.keptMs, this.#times.idle);
    // also where an answer came before the whole request was sent
    if (!asker || ms === 0 || this.#socket.writableLength > 0) this.destroy();
    else {
      clearTimeout(this.#timer);
      this.#asker = undefined;
      this.#isUsed = true;
      this.#keptUntil = performance.now() + ms;
      this.#timer = setTimeout(() => this.destroy(), ms).unref();
      // while there is a request its timer keeps the process alive
      this.#socket.unref();
    }
    asker?.done();
  }
}
