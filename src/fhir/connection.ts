import type { OnReadOpts, Socket } from "node:net";
import { type Headers, TransportError } from "./http.ts";
import { AnswerParser, type AnswerTaker } from "./http1.ts";

/** Opens a socket, over TLS or not, that gives the bytes it receives to `onread`. @throws what prevents it from trying,
 *  such as a TLS file that is not valid */
export type OpenSocket = (onread: OnReadOpts) => Socket;

/** For how long a connection waits, in milliseconds. */
export interface Times {
  /** until it is connected: the lookup of the name, TCP and TLS together */
  connect: number;
  /** from the request to the end of the head of its answer */
  head: number;
  /** between two parts of the body */
  body: number;
  /** while it has no request, until it ends itself */
  idle: number;
}

/** What sends a request over a connection and takes the answer. */
export interface Asker extends AnswerTaker {
  /** see Receiver.place */
  place(most: number): Uint8Array | undefined;
  /** see Receiver.placed */
  placed(length: number): void;
  /** The answer is whole. The connection takes another request if it `isKept`. */
  done(): void;
  /** The answer did not arrive, or not as a whole, and the connection has ended.
   *  @param unheard the connection was used before, and ended before one byte of this answer arrived: the server may
   *    never have read the request, so it can be sent again */
  failed(error: Error, unheard: boolean): void;
}

/** Bytes of a read whose content is copied to where it belongs: a longer read would no longer be in the processor's
 *  cache when it is copied. Where more of the body than that is expected, it is read straight to where it belongs,
 *  which gains 3 % of a worker's rate (pages of 500 kB). */
const readBytes = 65_536;
/** The errors that a client sees where the server closes a kept connection just as a request arrives. */
const closedByServer = ["CONNECTION_CLOSED", "ECONNRESET", "EPIPE"];

/** One connection to the source, which carries one request at a time:
 *
 *  1. It opens its socket when it is made, and sends the first request when the socket is connected (over TLS: when the
 *     server's certificate has been verified, so that no credential is sent to a stranger).
 *  2. Node asks it before each read where the bytes are to go (`#nextBuffer`): into its own buffer, from where the
 *     parser takes them, or, while the rest of a long body is expected, straight into the asker's place.
 *  3. When the answer is whole it waits for the next request as long as both sides keep it, and does not keep the
 *     process alive meanwhile.
 *  4. Every fault ends it for good. The asker learns whether its request can be sent again.
 *
 *  At most one timer runs at any moment: it bounds the step that is under way. */
export class Connection {
  readonly #socket: Socket;
  readonly #times: Times;
  readonly #onGone: () => void;
  readonly #buffer = Buffer.allocUnsafeSlow(readBytes);
  /** whether the read that is under way goes to the asker's place */
  #isPlaced = false;
  /** the request, until it is sent */
  #request: string | Buffer | undefined;
  #asker: Asker | undefined;
  #parser: AnswerParser | undefined;
  #inBody = false;
  #timer: NodeJS.Timeout | undefined;
  #isOpen = false;
  #isUsed = false;
  #keptUntil = 0;

  /** @param onGone is called when the connection has ended, perhaps several times
   *  @throws what `open` throws */
  constructor(open: OpenSocket, times: Times, onGone: () => void) {
    this.#times = times;
    this.#onGone = onGone;
    this.#socket = open({ buffer: () => this.#nextBuffer(), callback: (length) => this.#read(length) });
    this.#socket
      .once("encrypted" in this.#socket ? "secureConnect" : "connect", () => this.#opened())
      .on("end", () => this.#ended())
      .on("error", (error) => this.fail(error))
      .on("close", () => this.fail(new TransportError("CONNECTION_CLOSED")));
  }

  /** Whether it takes another request. The clock is asked, since the timer that ends an idle connection fires late
   *  where the process is busy. */
  get isKept(): boolean {
    return performance.now() < this.#keptUntil;
  }

  /** Sends a request as soon as the socket is connected. The connection must be new, or `isKept`. */
  ask(request: string | Buffer, asker: Asker): void {
    this.#request = request;
    this.#asker = asker;
    this.#parser = new AnswerParser(this.#taker);
    this.#inBody = false;
    this.#keptUntil = 0;
    if (this.#isOpen) this.#send();
    else this.#expect(this.#times.connect, "CONNECT_TIMEOUT");
  }

  /** Ends it at once. Its asker is not called any more. */
  destroy(): void {
    this.#end();
    this.#onGone();
  }

  /** Ends it with an error, and gives the error to its asker. */
  fail(error: Error): void {
    const asker = this.#asker;
    this.#end();
    const { code } = error as NodeJS.ErrnoException;
    asker?.failed(error, this.#isUsed && !this.#parser?.begun && closedByServer.includes(code ?? ""));
    // The asker is called first, so that a request that is sent again comes before those that wait.
    this.#onGone();
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
      this.#expect(this.#times.body, "BODY_TIMEOUT");
      this.#asker?.head(status, headers);
    },
    // The asker may have left while the head was parsed.
    body: (chunk) => this.#asker?.body(chunk),
  };

  #opened(): void {
    this.#isOpen = true;
    if (this.#asker) this.#send();
  }

  #send(): void {
    this.#expect(this.#times.head, "HEADERS_TIMEOUT");
    this.#socket.write(this.#request!, "latin1");
    this.#request = undefined;
  }

  /** Starts the timer anew: the connection fails with `code` unless something stops the timer within `ms`. */
  #expect(ms: number, code: "CONNECT_TIMEOUT" | "HEADERS_TIMEOUT" | "BODY_TIMEOUT"): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.fail(new TransportError(code)), ms);
  }

  /** Where the next read goes. Node asks for it before each read. */
  #nextBuffer(): Uint8Array {
    const most = this.#parser?.expected ?? 0;
    const place = most < readBytes ? undefined : this.#asker?.place(most);
    this.#isPlaced = place !== undefined;
    return place ?? this.#buffer;
  }

  /** Takes what the last read brought. @returns whether node shall read on */
  #read(length: number): boolean {
    const parser = this.#parser;
    // Bytes that nobody asked for must not be taken for the answer to the next request.
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

  /** The server has ended its side: the answer is whole where its end was to be the end of the connection. */
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
    // A connection also ends where the answer arrived before the whole request was sent.
    if (!asker || ms === 0 || this.#socket.writableLength > 0) this.destroy();
    else {
      clearTimeout(this.#timer);
      this.#asker = undefined;
      this.#isUsed = true;
      this.#keptUntil = performance.now() + ms;
      this.#timer = setTimeout(() => this.destroy(), ms).unref();
      // From here on only the timer of a request keeps the process alive.
      this.#socket.unref();
    }
    asker?.done();
  }
}
