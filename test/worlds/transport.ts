import {
  BrokenAnswer,
  type Head,
  type Headers,
  type Receiver,
  type Request,
  type Transport,
  TransportError,
} from "../../src/fhir/http.ts";
import type { Clock } from "../../src/surroundings.ts";
import { beginRequest, type Received, respond, type SampleServer, type Sent } from "../sources/exchange.ts";
import type { WorkerProcess } from "./process.ts";

/** The part of the body that is handed over at a time, as a socket would. */
const pieceBytes = 16_384;
/** As src/fhir/connections.ts has it. */
const headMs = 300_000;

/** Carries the requests of one worker to a sample source in this process, without sockets. */
export class MemoryTransport implements Transport {
  readonly #server: SampleServer;
  readonly #process: WorkerProcess;
  readonly #clock: Clock;

  constructor(server: SampleServer, process: WorkerProcess, clock: Clock) {
    this.#server = server;
    this.#process = process;
    this.#clock = clock;
  }

  exchange(request: Request, into: Receiver, signals: readonly AbortSignal[]): Promise<Head> {
    return new Promise((resolve, reject) => {
      for (const signal of signals) if (signal.aborted) return void reject(signal.reason);
      let isOver = false;
      const end = (settle: () => void) => {
        if (isOver) return;
        isOver = true;
        cancel();
        for (const signal of signals) signal.removeEventListener("abort", stop);
        settle();
      };
      const stop = () => end(() => reject(signals.find(({ aborted }) => aborted)!.reason));
      for (const signal of signals) signal.addEventListener("abort", stop, { once: true });
      const cancel = this.#clock.after(headMs, () => end(() => reject(new TransportError("HEADERS_TIMEOUT"))));
      const from = this.#clock.monotonic();
      const received = receivedOf(request, () => isOver);
      this.#process
        .send("source", async () => {
          const done = beginRequest(this.#server);
          return respond(this.#server, received).finally(done);
        })
        .then((sent) =>
          end(() => {
            try {
              resolve(deliver(sent, into, this.#clock.monotonic() - from));
            } catch (error) {
              reject(error);
            }
          }),
        );
    });
  }

  close(): void {}
}

function receivedOf({ url, method, headers, body }: Request, isGone: () => boolean): Received {
  return { method, target: url.pathname + url.search, url: new URL(url.href), headers, body: body ?? "", isGone };
}

/** Hands an answer over as a connection would. @throws what `into` throws; TransportError; BrokenAnswer */
function deliver(sent: Sent | undefined, into: Receiver, ms: number): Head {
  if (!sent) throw new TransportError("CONNECTION_CLOSED");
  const headers: Headers = {};
  for (const [name, value] of Object.entries(sent.headers)) headers[name.toLowerCase()] = String(value);
  into.start(headers);
  const body = sent.isBroken ? sent.body.subarray(0, sent.body.length >> 1) : sent.body;
  for (let at = 0; at < body.length; ) {
    const most = Math.min(pieceBytes, body.length - at);
    const place = into.place?.(most);
    const length = Math.min(most, place?.length ?? most);
    const piece = body.subarray(at, at + length);
    if (place) {
      place.set(piece);
      into.placed!(length);
    } else into.write(piece);
    at += length;
  }
  if (sent.isBroken) throw new BrokenAnswer("the answer broke off", { cause: new TransportError("CONNECTION_CLOSED") });
  return { status: sent.status, headers, ms, first: body[0] };
}
