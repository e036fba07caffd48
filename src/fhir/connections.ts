import { FailureError } from "../failure.ts";
import { onAbort } from "./aborts.ts";
import { type Asker, Connection, type OpenSocket, type Times } from "./connection.ts";
import {
  BrokenAnswer,
  type Head,
  type Headers,
  type Receiver,
  type Request,
  type Transport,
  TransportError,
} from "./http.ts";
import { renderRequest } from "./http1.ts";
import { connectMs } from "./tls.ts";

export interface ConnectionsOptions extends Partial<Times> {
  /** the most connections at a time; further requests wait */
  max: number;
}

/** HAPI on PostgreSQL needed 216 s for one awkward search (`_has:Group`); a search that takes more than 300 s is not
 *  going to be answered. Many servers close a connection that was idle for 5 s, so ours ends a second earlier. */
const usualTimes: Times = { connect: connectMs, head: 300_000, body: 300_000, idle: 4000 };

/** Keep-alive connections to one server, for GET and for POST that changes nothing:
 *
 *  1. A request takes the idle connection that was used last, else a new one while there are fewer than `max`, else it
 *     waits; first come, first served.
 *  2. Its body goes from the socket to a Receiver, with neither a stream nor a buffer of its own in between (undici's
 *     dispatcher takes 1.7 times the CPU).
 *  3. Where a connection that was used before turns out to be closed by the server, the request is sent again over a
 *     new one, before those that wait.
 *
 *  It speaks HTTP/1.1 only. It follows no redirect, repeats nothing else, and undoes no content coding. */
export class Connections implements Transport {
  readonly #open: OpenSocket;
  readonly #max: number;
  readonly #times: Times;
  readonly #all = new Set<Connection>();
  readonly #idle: Connection[] = [];
  readonly #queue: Exchange[] = [];
  #isClosed = false;

  /** @param open opens a socket to the server, see socketOpener */
  constructor(open: OpenSocket, { max, ...times }: ConnectionsOptions) {
    this.#open = open;
    this.#max = max;
    this.#times = { ...usualTimes, ...times };
  }

  /** Sends a request and waits for its whole answer, whatever its status is.
   *  @param signals any of them ends the exchange. They are not combined by AbortSignal.any, which costs 50 us a page,
   *    most of it later, in the garbage collector.
   *  @throws the reason of the signal; TransportError, or an error of node with a `code`, where no answer arrived;
   *    BrokenAnswer, with that as its cause, where the answer had begun; a FailureError that `into` or the opening of a
   *    socket throws */
  async exchange(request: Request, into: Receiver, signals: readonly AbortSignal[]): Promise<Head> {
    for (const signal of signals) signal.throwIfAborted();
    if (this.#isClosed) throw new TransportError("CLIENT_CLOSED");
    const exchange = new Exchange(renderRequest(request), into, signals, (exchange, again) => {
      if (again) return this.#sendOverNew(exchange);
      const index = this.#queue.indexOf(exchange);
      if (index >= 0) this.#queue.splice(index, 1);
      else if (exchange.connection?.isKept) this.#idle.push(exchange.connection);
      this.#startWaiting();
    });
    this.#queue.push(exchange);
    this.#startWaiting();
    return exchange.answer;
  }

  /** Ends all exchanges that are under way or wait, with TransportError CLIENT_CLOSED. */
  close(): void {
    this.#isClosed = true;
    for (const exchange of this.#queue.splice(0)) exchange.failed(new TransportError("CLIENT_CLOSED"), false);
    for (const connection of this.#all) connection.fail(new TransportError("CLIENT_CLOSED"));
  }

  /** Gives the requests that wait to the connections that are free. */
  #startWaiting(): void {
    while (this.#queue.length > 0) {
      // The connection that was used last is taken, so that those that are not needed become idle and end.
      const idle = this.#idle.pop();
      if (idle && !idle.isKept) idle.destroy();
      else if (idle) this.#queue.shift()!.sendOver(idle);
      else if (this.#all.size < this.#max) this.#sendOverNew(this.#queue.shift()!);
      else return;
    }
  }

  #sendOverNew(exchange: Exchange): void {
    let connection: Connection;
    try {
      connection = new Connection(this.#open, this.#times, () => {
        this.#all.delete(connection);
        const index = this.#idle.indexOf(connection);
        if (index >= 0) this.#idle.splice(index, 1);
        this.#startWaiting();
      });
    } catch (error) {
      exchange.failed(error as Error, false);
      return;
    }
    this.#all.add(connection);
    exchange.sendOver(connection);
  }
}

/** A body in so many parts, of fewer bytes each on average, is crumbled. HAPI on Jetty sends a page of 1.5 MB in 33,000
 *  chunks of 36 bytes, which takes a second of both sides; proxies and slow networks send a kilobyte and more. */
const [manyParts, crumbBytes] = [32, 256];

/** One request, from the moment it waits for a connection until its answer is whole or has failed. */
class Exchange implements Asker {
  readonly #request: string | Buffer;
  readonly #into: Receiver;
  readonly #signals: readonly AbortSignal[];
  readonly #ended: (exchange: Exchange, again: boolean) => void;
  readonly #unlisten: (() => void)[];
  readonly #promise = Promise.withResolvers<Head>();
  readonly #from = performance.now();
  #head: Head | undefined;
  #place: Uint8Array | undefined;
  /** the parts that came by `body`, and their bytes */
  #parts = 0;
  #bytes = 0;
  connection: Connection | undefined;

  /** @param ended is called when it needs its connection no more; with `again` it needs a new one at once */
  constructor(
    request: string | Buffer,
    into: Receiver,
    signals: readonly AbortSignal[],
    ended: (exchange: Exchange, again: boolean) => void,
  ) {
    this.#request = request;
    this.#into = into;
    this.#signals = signals;
    this.#ended = ended;
    this.#unlisten = signals.map((signal) => onAbort(signal, () => this.#abort()));
  }

  get answer(): Promise<Head> {
    return this.#promise.promise;
  }

  sendOver(connection: Connection): void {
    this.connection = connection;
    connection.ask(this.#request, this);
  }

  head(status: number, headers: Headers): void {
    this.#head = { status, headers, first: undefined, ms: performance.now() - this.#from };
    this.#into.start(headers);
  }

  body(chunk: Buffer): void {
    this.#head!.first ??= chunk[0];
    this.#parts++;
    this.#bytes += chunk.length;
    this.#into.write(chunk);
  }

  place(most: number): Uint8Array | undefined {
    return (this.#place = this.#into.place?.(most));
  }

  placed(length: number): void {
    this.#head!.first ??= this.#place![0];
    this.#into.placed!(length);
  }

  done(): void {
    this.#stopListening();
    if (this.#parts >= manyParts && this.#bytes < this.#parts * crumbBytes) this.#head!.isCrumbled = true;
    this.#promise.resolve(this.#head!);
    this.#ended(this, false);
  }

  failed(error: Error, unheard: boolean): void {
    if (unheard) {
      this.#ended(this, true);
      return;
    }
    this.#stopListening();
    // An error of the receiver is passed on unchanged.
    const isBroken = this.#head && !(error instanceof FailureError);
    this.#promise.reject(isBroken ? new BrokenAnswer("the answer broke off", { cause: error }) : error);
    this.#ended(this, false);
  }

  #abort(): void {
    this.#stopListening();
    this.#promise.reject(this.#signals.find(({ aborted }) => aborted)!.reason);
    if (this.connection) this.connection.destroy();
    else this.#ended(this, false);
  }

  #stopListening(): void {
    for (const end of this.#unlisten) end();
  }
}
