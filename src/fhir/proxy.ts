import { readFileSync } from "node:fs";
import { connect as connectPlainly, type OnReadOpts, type Socket } from "node:net";
import { join } from "node:path";
import { Duplex } from "node:stream";
import { connect as connectSecurely } from "node:tls";
import type { Task } from "../contracts.ts";
import { terminal } from "../failure.ts";

/** The most bytes of a proxy's answer to CONNECT. */
const maxAnswerHead = 16_384;

/** The proxy did not connect us. The code begins with PROXY_, and holds nothing of its answer but the status. */
class ProxyError extends Error {
  readonly code: string;
  constructor(code: string) {
    super("the proxy to the source did not make a connection");
    this.code = `PROXY_${code}`;
  }
}

/** What to check where a connection failed because of the proxy; undefined for other error codes. */
export const proxyHint = (code: string): string | undefined =>
  code.startsWith("PROXY_") ? "spec.proxy of the FhirSource, its Secret, and what the proxy lets through" : undefined;

/** Opens connections through a proxy to one server. User and password are read for each.
 *  @param folder the folder of the Task
 *  @returns makes a stream whose other end is the server; it can be written to at once
 *  @throws terminal SourceUnauthorized where a file of the Secret is missing */
export function tunnelsTo(
  origin: { host: string; port: number },
  proxy: NonNullable<Task["source"]["proxy"]>,
  folder: string,
): () => Tunnel {
  const authority = `${origin.host.includes(":") ? `[${origin.host}]` : origin.host}:${origin.port}`;
  return () => {
    const signIn = proxy.hasSignIn ? `proxy-authorization: Basic ${signInOf(folder)}\r\n` : "";
    return new Tunnel(new URL(proxy.url), `CONNECT ${authority} HTTP/1.1\r\nhost: ${authority}\r\n${signIn}\r\n`);
  };
}

function signInOf(folder: string): string {
  const read = (key: string) => {
    try {
      return readFileSync(join(folder, "source", `proxy-${key}`), "utf8").trim();
    } catch (cause) {
      throw terminal(
        "SourceUnauthorized",
        `the Secret of spec.proxy of the FhirSource has no key "${key}"; add it`,
        cause,
      );
    }
  };
  return Buffer.from(`${read("username")}:${read("password")}`).toString("base64");
}

/** A connection to a server through a proxy, by CONNECT (RFC 9110 section 9.3.6). It emits `connect` when the proxy has
 *  connected it. */
export class Tunnel extends Duplex {
  readonly #socket: Socket;
  /** what is written before the server is reached */
  #waiting: { chunk: Buffer; done: (error?: Error | null) => void } | undefined;
  #head = "";
  #isOpen = false;

  constructor(proxy: URL, request: string) {
    super({ allowHalfOpen: true });
    const isSecure = proxy.protocol === "https:";
    const host = proxy.hostname.replace(/^\[|\]$/g, "");
    const where = { host, port: Number(proxy.port) || (isSecure ? 443 : 80) };
    this.#socket = isSecure ? connectSecurely({ ...where, servername: host }) : connectPlainly(where);
    this.#socket
      .once(isSecure ? "secureConnect" : "connect", () => this.#socket.write(request))
      .on("data", (chunk: Buffer) => (this.#isOpen ? this.#take(chunk) : this.#answered(chunk)))
      .on("end", () => (this.#isOpen ? this.push(null) : this.destroy(new ProxyError("CLOSED"))))
      .on("error", (error: NodeJS.ErrnoException) =>
        this.destroy(this.#isOpen ? error : new ProxyError(error.code ?? error.name)),
      )
      .on("close", () => this.destroy());
  }

  #answered(chunk: Buffer): void {
    this.#head += chunk.toString("latin1");
    const end = this.#head.indexOf("\r\n\r\n");
    if (end < 0) {
      if (this.#head.length > maxAnswerHead) this.destroy(new ProxyError("ANSWER"));
      return;
    }
    const status = /^HTTP\/1\.[01] (\d{3})(?: |\r)/.exec(this.#head)?.[1];
    if (!status?.startsWith("2")) return void this.destroy(new ProxyError(status ?? "ANSWER"));
    const rest = Buffer.from(this.#head.slice(end + 4), "latin1");
    this.#head = "";
    this.#isOpen = true;
    this.emit("connect");
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (waiting) this.#socket.write(waiting.chunk, waiting.done);
    if (rest.length > 0) this.#take(rest);
  }

  #take(chunk: Buffer): void {
    if (!this.push(chunk)) this.#socket.pause();
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _write(chunk: Buffer, encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    const bytes = Buffer.isBuffer(chunk) ? chunk : Buffer.from(chunk, encoding);
    if (this.#isOpen) this.#socket.write(bytes, done);
    else this.#waiting = { chunk: bytes, done };
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#socket.end(() => done());
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#socket.destroy();
    done(error);
  }

  setNoDelay(on = true): this {
    this.#socket.setNoDelay(on);
    return this;
  }
  setKeepAlive(on = true, delay = 0): this {
    this.#socket.setKeepAlive(on, delay);
    return this;
  }
  ref(): this {
    this.#socket.ref();
    return this;
  }
  unref(): this {
    this.#socket.unref();
    return this;
  }
}

/** Gives what a stream receives to `onread`, as a socket does that node reads for it. */
export function feed(stream: Duplex, { buffer, callback }: OnReadOpts): void {
  stream.on("data", (chunk: Buffer) => {
    for (let at = 0; at < chunk.length && !stream.destroyed; ) {
      const place = typeof buffer === "function" ? buffer() : buffer;
      const length = chunk.copy(place, 0, at, at + place.length);
      at += length;
      if (!callback(length, place)) return;
    }
  });
}
