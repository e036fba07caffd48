import { FailureError } from "../failure.ts";
import { onAbort } from "./aborts.ts";
import { type Asker, Connection, type OpenSocket, type Times } from "./connection.ts";
import { BrokenAnswer, type Head, type Headers, type Receiver, type Request, TransportError } from "./http.ts";
import { renderRequest } from "./http1.ts";
import { connectMs } from "./tls.ts";

export interface ConnectionsOptions extends Partial<Times> {
  /** connections at a time; more requests wait */
  max: number;
}

/** HAPI needed 216 s for one awkward search (reference: real servers); what takes longer is not going to answer. Many
 *  servers close what is idle for 5 s. */
const usualTimes: Times = { connect: connectMs, head: 300_000, body: 300_000, idle: 4000 };

/** Keep-alive connections to one server, for GET and for POST that changes nothing: a request whose old connection
 *  turns out to be closed by the server is sent again. Bodies go from the socket to a Receiver with neither a stream
 *  nor a buffer of their own in between; undici's dispatcher takes 1.7 times the CPU. HTTP/1.1 only; no redirects, no
 *  retries, no content codings. */
export class Connections {
  readonly #open: OpenSocket;
  readonly #max: number;
  readonly #times: Times;
  readonly #all = new Set<Connection>();
  readonly #idle: Connection[] = [];
  readonly #queue: Exchange[] = [];
  #isClosed = false;

  /** @param open leads to the server, see socketOpener */
  constructor(open: OpenSocket, { max, ...times }: ConnectionsOptions) {
    this.#open = open;
    this.#max = max;
    this.#times = { ...usualTimes, ...times };
  }

  /** One request and its answer, any status. First come, first served.
   *  @param signals any of them ends it (AbortSignal.any is costly: 50 us a page, most of them later, in the garbage
   *    collector)
   *  @throws the signal's reason; TransportError, or what node says (with a `code`), where there is no answer;
   *    BrokenAnswer with that as its cause where the answer had begun; a FailureError that `into` or the opening of a
   *    socket throws */
  async exchange(request: Request, into: Receiver, signals: readonly AbortSignal[]): Promise<Head> {
    for (const signal of signals) signal.throwIfAborted();
    if (this.#isClosed) throw new TransportError("CLIENT_CLOSED");
    const exchange = new Exchange(renderRequest(request), into, signals, (exchange, again) => {
      if (again) return this.#connect(exchange);
      const index = this.#queue.indexOf(exchange);
      if (index >= 0) this.#queue.splice(index, 1);
      else if (exchange.connection?.isKept) this.#idle.push(exchange.connection);
      this.#next();
    });
    this.#queue.push(exchange);
    this.#next();
    return exchange.answer;
  }

  /** Ends all that is under way. */
  close(): void {
    this.#isClosed = true;
    for (const exchange of this.#queue.splice(0)) exchange.failed(new TransportError("CLIENT_CLOSED"), false);
    for (const connection of this.#all) connection.fail(new TransportError("CLIENT_CLOSED"));
  }

  #next(): void {
    while (this.#queue.length > 0) {
      // the one that was used last: the others, if they are not needed, end after a while
      const idle = this.#idle.pop();
      if (idle && !idle.isKept) idle.destroy();
      else if (idle) this.#queue.shift()!.over(idle);
      else if (this.#all.size < this.#max) this.#connect(this.#queue.shift()!);
      else return;
    }
  }

  #connect(exchange: Exchange): void {
    let connection: Connection;
    try {
      connection = new Connection(this.#open, this.#times, () => {
        this.#all.delete(connection);
        const index = this.#idle.indexOf(connection);
        if (index >= 0) this.#idle.splice(index, 1);
        this.#next();
      });
    } catch (error) {
      exchange.failed(error as Error, false);
      return;
    }
    this.#all.add(connection);
    exchange.over(connection);
  }
}

/** One request, in the queue or over a connection, until its answer has come or will not come. */
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
  connection: Connection | undefined;

  /** @param ended is told when it needs no connection any more, or, `again`, another one at once */
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

  over(connection: Connection): void {
    this.connection = connection;
    connection.ask(this.#request, this);
  }

  head(status: number, headers: Headers): void {
    this.#head = { status, headers, first: undefined, ms: performance.now() - this.#from };
    this.#into.start(headers);
  }

  body(chunk: Buffer): void {
    this.#head!.first ??= chunk[0];
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
    this.#leave();
    this.#promise.resolve(this.#head!);
    this.#ended(this, false);
  }

  failed(error: Error, unheard: boolean): void {
    if (unheard) {
      this.#ended(this, true);
      return;
    }
    this.#leave();
    // what the receiver throws is said as it is
    const isBroken = this.#head && !(error instanceof FailureError);
    this.#promise.reject(isBroken ? new BrokenAnswer("the answer broke off", { cause: error }) : error);
    this.#ended(this, false);
  }

  #abort(): void {
    this.#leave();
    this.#promise.reject(this.#signals.find(({ aborted }) => aborted)!.reason);
    if (this.connection) this.connection.destroy();
    else this.#ended(this, false);
  }

  #leave(): void {
    for (const end of this.#unlisten) end();
  }
}
