import assert from "node:assert/strict";
import { createServer, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { createServer as createSecureServer, type TLSSocket, type TlsOptions } from "node:tls";
import { Connections, type ConnectionsOptions } from "../../src/fhir/connections.ts";
import { BrokenAnswer, Collector, type Receiver } from "../../src/fhir/http.ts";
import { socketOpener } from "../../src/fhir/tls.ts";

export interface Asked {
  /** how many connections there were before its own, and how many requests over its own */
  connection: number;
  number: number;
  /** the head and the body, in Latin-1 */
  text: string;
}

/** A server over sockets that sends exactly the bytes that a test wants. */
export interface Wire extends AsyncDisposable {
  readonly url: URL;
  readonly asked: readonly Asked[];
  /** how many connections there were, how many are open, and how many were open at a time at most */
  readonly connections: number;
  readonly open: number;
  readonly most: number;
  readonly sockets: readonly (Socket | TLSSocket)[];
  /** how many bytes have arrived */
  readonly received: number;
  setTLS(tls: TlsOptions): void;
}

/** @param answer is called for each request that has arrived whole */
export async function serveWire(
  answer: (socket: Socket, asked: Asked) => unknown,
  { tls, host = "127.0.0.1", name = host }: { tls?: TlsOptions; host?: string; name?: string } = {},
): Promise<Wire> {
  const asked: Asked[] = [];
  const sockets: Socket[] = [];
  let [most, received] = [0, 0];
  const isOpen = (socket: Socket) => !socket.destroyed && socket.readable;
  const connected = (socket: Socket) => {
    const connection = sockets.push(socket) - 1;
    most = Math.max(most, sockets.filter(isOpen).length);
    let text = "";
    let number = 0;
    socket.on("error", () => {});
    socket.on("data", (chunk: Buffer) => {
      received += chunk.length;
      text += chunk.toString("latin1");
      for (let head = text.indexOf("\r\n\r\n"); head >= 0; head = text.indexOf("\r\n\r\n")) {
        const end = head + 4 + Number(/content-length: (\d+)/.exec(text.slice(0, head))?.[1] ?? 0);
        if (text.length < end) return;
        const one = { connection, number: number++, text: text.slice(0, end) };
        text = text.slice(end);
        asked.push(one);
        answer(socket, one);
      }
    });
  };
  const server = tls ? createSecureServer({ ALPNProtocols: ["http/1.1"], ...tls }, connected) : createServer(connected);
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  const { port } = server.address() as { port: number };
  return {
    url: new URL(`http${tls ? "s" : ""}://${name.includes(":") ? `[${name}]` : name}:${port}/fhir/Patient?_count=1`),
    asked,
    sockets,
    get connections() {
      return sockets.length;
    },
    get open() {
      return sockets.filter(isOpen).length;
    },
    get most() {
      return most;
    },
    get received() {
      return received;
    },
    setTLS: (tls) => (server as ReturnType<typeof createSecureServer>).setSecureContext(tls),
    async [Symbol.asyncDispose]() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

const signal = new AbortController().signal;

/** An answer with status 200. */
export const whole = (body: string) => `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
export const collector = () => new Collector(1 << 30, () => new Error("too long"));

/** A receiver that names places in its own memory for the body, each of at most `most` bytes, while it has room. */
export class PlacedBody implements Receiver {
  readonly memory: Buffer;
  readonly #most: number;
  length = 0;
  /** how many bytes arrived in which of the two ways */
  readonly came = { placed: 0, written: 0 };
  #place = 0;

  constructor(size: number, most = Number.POSITIVE_INFINITY) {
    this.memory = Buffer.alloc(size);
    this.#most = most;
  }
  start(): void {
    this.length = 0;
  }
  write(chunk: Buffer): void {
    this.memory.set(chunk, this.length);
    this.length += chunk.length;
    this.came.written += chunk.length;
  }
  place(most: number): Uint8Array | undefined {
    if (this.length + most > this.memory.length) return undefined;
    this.#place = Math.min(most, this.#most);
    return this.memory.subarray(this.length, this.length + this.#place);
  }
  placed(length: number): void {
    assert(length > 0 && length <= this.#place);
    this.length += length;
    this.came.placed += length;
  }
  get bytes(): Buffer {
    return this.memory.subarray(0, this.length);
  }
}

/** A client of a server. `folder` has the TLS files. */
export function clientOf(
  { url }: Pick<Wire, "url">,
  options: Partial<ConnectionsOptions> = {},
  folder = "/nonexistent",
) {
  const connections = new Connections(socketOpener(folder, url), { max: 4, ...options });
  const ask = (into: Receiver, signals = [signal], body?: string) =>
    connections.exchange(
      { url, method: body === undefined ? "GET" : "POST", headers: { accept: "x" }, body },
      into,
      signals,
    );
  const get = async (signals?: AbortSignal[], body?: string): Promise<string> => {
    const into = collector();
    await ask(into, signals, body);
    return into.bytes.toString("latin1");
  };
  return { connections, ask, get };
}

/** The code of the error that a call throws; "broken CODE" where the answer had begun. */
export async function codeOf(call: Promise<unknown>): Promise<string> {
  const error = await call.then(
    (value) => assert.fail(`it answered ${JSON.stringify(value)}`),
    (error: Error) => error,
  );
  const broken = error instanceof BrokenAnswer;
  return `${broken ? "broken " : ""}${((broken ? error.cause : error) as NodeJS.ErrnoException).code}`;
}

/** Sends parts in such a way that each arrives by itself. */
export const inParts = async (socket: Socket, ...parts: (string | Buffer)[]) => {
  for (const part of parts) {
    socket.write(part, "latin1");
    await sleep(2);
  }
};
