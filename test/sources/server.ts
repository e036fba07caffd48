import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import { outcome } from "./bundle.ts";
import { type Auth, type Behaviour, type Control, type Fault, Faults } from "./faults.ts";
import { generate, type SampleOptions, type SampleResource } from "./generator.ts";
import { type Answer, answer } from "./routes.ts";
import { Searches } from "./search.ts";
import { type Current, Store } from "./store.ts";
import { pretty } from "./text.ts";

export interface SourceOptions extends SampleOptions {
  /** 0: a free one */
  port?: number;
  host?: string;
  /** instead of generated ones */
  resources?: SampleResource[];
  behaviour?: Behaviour;
  auth?: Auth;
  /** `POST /_control` for tests in another process */
  control?: boolean;
  /** the server's clock, ms since 1970 */
  now?: () => number;
}

export interface Logged {
  method: string;
  /** path and query as sent */
  url: string;
  /** form parameters of a POST search, decoded */
  form?: [string, string][];
  /** ms since 1970, by the real clock */
  at: number;
  /** 0 while unanswered or when the connection was dropped */
  status: number;
}

/** Called before a request is answered, with its number from 1; a promise holds the answer back. */
export type RequestHook = (request: Logged, number: number) => void | Promise<void>;

export interface Counters {
  requests: number;
  pages: number;
  counts: number;
  reads: number;
  /** requests being answered, now and at most */
  active: number;
  maxActive: number;
}

export interface Source {
  /** `http://127.0.0.1:PORT/fhir` */
  readonly baseURL: string;
  readonly requests: readonly Logged[];
  readonly counters: Readonly<Counters>;
  /** Creates or updates from JSON text; the server sets meta.versionId and meta.lastUpdated. */
  put(text: string): Current;
  delete(type: string, id: string): boolean;
  /** The current version's JSON text as served. */
  get(type: string, id: string): string | undefined;
  /** `Type/id` -> line that an export must hold (system level, nothing filtered). */
  dump(type?: string): Map<string, Buffer>;
  /** Faults for requests to come, in addition to those waiting. */
  inject(...faults: Fault[]): void;
  clearFaults(): void;
  /** Changes what the server is like; members that are not named stay. */
  set(behaviour: Behaviour): void;
  setAuth(auth: Auth): void;
  /** An index that lags (Behaviour.lag) shows all writes so far. */
  catchUp(): void;
  /** All next links given so far answer 410. */
  expireLinks(): void;
  /** @returns a function that takes the hook off again */
  onRequest(hook: RequestHook): () => void;
  close(): Promise<void>;
}

const basePath = "/fhir";

/** A sample takes a quarter of a second to make, and no test changes it: it is made once for a process. */
const samples = new Map<string, SampleResource[]>();
function sampleFor({ seed, scale }: SampleOptions): SampleResource[] {
  const key = `${seed} ${scale}`;
  let sample = samples.get(key);
  if (!sample)
    samples.set(
      key,
      (sample = generate({ ...(seed !== undefined && { seed }), ...(scale !== undefined && { scale }) })),
    );
  return sample;
}

/** Starts a FHIR server over a sample, as real ones are: reference "Real FHIR servers as sources". */
export async function startSource(options: SourceOptions = {}): Promise<Source> {
  const now = options.now ?? Date.now;
  const store = new Store(options.resources ?? sampleFor(options), now);
  let behaviour: Behaviour = {};
  let auth: Auth = options.auth ?? { kind: "none" };
  const faults = new Faults();
  const searches = new Searches(store, () => behaviour);
  const hooks = new Set<RequestHook>();
  const requests: Logged[] = [];
  const counters: Counters = { requests: 0, pages: 0, counts: 0, reads: 0, active: 0, maxActive: 0 };
  const set = (changes: Behaviour) => {
    behaviour = { ...behaviour, ...changes };
    store.lag = behaviour.lag ?? 0;
  };
  set(options.behaviour ?? {});

  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    // Node's own Date header is cached and follows the real clock
    response.setHeader("date", new Date(now()).toUTCString());
    const url = new URL(request.url ?? "/", `http://${request.headers.host ?? "localhost"}`);
    const body = await read(request);
    if (url.pathname === "/_control" && options.control) return void control(request.method ?? "GET", body, response);

    const logged: Logged = { method: request.method ?? "GET", url: request.url ?? "/", at: Date.now(), status: 0 };
    const isForm = logged.method === "POST" && url.pathname.endsWith("/_search");
    if (isForm) logged.form = [...new URLSearchParams(body)];
    requests.push(logged);
    counters.requests++;
    counters.maxActive = Math.max(counters.maxActive, ++counters.active);
    response.once("close", () => counters.active--);
    for (const hook of [...hooks]) await hook(logged, counters.requests);

    const name = `${logged.method} ${readableURL(logged.url)}${isForm ? ` ${readableURL(body)}` : ""}`;
    const hit = faults.take(name, (kind) => plainKinds.includes(kind));
    const find = <K extends Fault["kind"]>(kind: K) =>
      hit.find((fault): fault is Extract<Fault, { kind: K }> => fault.kind === kind);
    const slow = find("slow");
    if (slow) await sleep(slow.ms);
    if (find("drop")) return void request.socket.destroy();

    const answered = ((): Answer => {
      if (find("html")) return page200;
      if (find("notBundle")) return { status: 200, body: Buffer.from('{"hello":["world"]}'), kind: "other" };
      if (find("outcomeInstead"))
        return { status: 200, body: Buffer.from(outcome("error", "History is not supported here")), kind: "other" };
      const status = find("status");
      if (status) {
        const headers = status.retryAfter === undefined ? {} : { "retry-after": String(status.retryAfter) };
        return {
          status: status.status,
          body: Buffer.from(outcome("error", "Try again", "transient")),
          headers,
          kind: "other",
        };
      }
      if (!url.pathname.startsWith(`${basePath}/`) && url.pathname !== basePath) return { ...page200, status: 404 };
      const open = url.pathname === `${basePath}/metadata` && !behaviour.closedMetadata;
      if (!open && !authorized(request, auth)) return unauthorized(auth);
      if (logged.url.length > (behaviour.maxURL ?? 8192)) return { ...page200, status: 414 };
      if (isForm && body.length > (behaviour.maxForm ?? 200_000))
        return { status: 500, body: Buffer.from(outcome("error", "Unable to parse form content")), kind: "other" };
      const asked = {
        method: logged.method,
        path: url.pathname.slice(basePath.length).split("/").filter(Boolean).map(decodeURIComponent),
        parameters: [...queryOf(logged.url), ...(logged.form ?? [])].filter(([name]) => name !== "_again"),
        body,
        strict: /handling\s*=\s*strict/.test(String(request.headers.prefer ?? "")),
        base: `${url.origin}${basePath}`,
      };
      return answer({ store, searches, faults, behaviour: () => behaviour }, asked, `${logged.method} ${logged.url}`);
    })();

    if (answered.kind === "page") counters.pages++;
    else if (answered.kind === "count") counters.counts++;
    else if (answered.kind === "read") counters.reads++;
    const delay = (behaviour.pageDelay ?? 0) + (answered.windowed ? (behaviour.windowDelay ?? 0) : 0);
    if (answered.kind === "page" && delay > 0) await sleep(delay);
    if (response.destroyed) return;
    logged.status = answered.status;
    send(request, response, answered, behaviour, find("cut"));
  };

  const apply = (wanted: Control): void => {
    if (wanted.clearFaults) faults.clear();
    for (const fault of [wanted.inject ?? []].flat()) faults.add(fault);
    if (wanted.behaviour) set(wanted.behaviour);
    if (wanted.auth) auth = wanted.auth;
    for (const resource of wanted.put ?? [])
      store.put(typeof resource === "string" ? resource : JSON.stringify(resource));
    for (const reference of wanted.delete ?? []) store.delete(...(reference.split("/") as [string, string]));
  };
  const control = (method: string, body: string, response: ServerResponse): void => {
    if (method === "POST") apply(JSON.parse(body) as Control);
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ counters, requests: requests.slice(-1000) }));
  };

  const sockets = new Set<Socket>();
  const server = createServer({ maxHeaderSize: 65_536, keepAliveTimeout: 60_000 }, (request, response) => {
    handle(request, response).catch((error: unknown) => {
      if (response.headersSent) response.destroy();
      else
        response
          .writeHead(500, { "content-type": "application/fhir+json" })
          .end(outcome("error", String(error), "exception"));
    });
  });
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  const port = await listen(server, options.port ?? 0, options.host ?? "127.0.0.1");

  return {
    baseURL: `http://${options.host ?? "127.0.0.1"}:${port}${basePath}`,
    requests,
    counters,
    put: (text) => store.put(text),
    delete: (type, id) => store.delete(type, id),
    get: (type, id) => store.get(type, id)?.bytes.toString(),
    dump: (type) => store.dump(type),
    inject: (...added) => {
      for (const fault of added) faults.add(fault);
    },
    clearFaults: () => faults.clear(),
    set,
    setAuth: (changed) => void (auth = changed),
    catchUp: () => store.catchUp(),
    expireLinks: () => searches.expire(),
    onRequest(hook) {
      hooks.add(hook);
      return () => hooks.delete(hook);
    },
    async close() {
      store.close();
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

const plainKinds: Fault["kind"][] = ["status", "html", "cut", "drop", "slow", "notBundle", "outcomeInstead"];
const page200: Answer = {
  status: 200,
  body: Buffer.from("<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in.</body></html>"),
  headers: { "content-type": "text/html; charset=utf-8" },
  kind: "other",
};

function unauthorized(auth: Auth): Answer {
  const challenge = auth.kind === "basic" ? 'Basic realm="fhir"' : "Bearer";
  return {
    status: 401,
    body: Buffer.from(outcome("error", "Authentication is required", "login")),
    headers: { "www-authenticate": challenge },
    kind: "other",
  };
}

function authorized(request: IncomingMessage, auth: Auth): boolean {
  if (auth.kind === "none") return true;
  const expected =
    auth.kind === "bearer"
      ? `Bearer ${auth.token}`
      : `Basic ${Buffer.from(`${auth.username}:${auth.password}`).toString("base64")}`;
  return request.headers.authorization === expected;
}

function send(
  request: IncomingMessage,
  response: ServerResponse,
  answered: Answer,
  behaviour: Behaviour,
  cut: Extract<Fault, { kind: "cut" }> | undefined,
): void {
  let { body } = answered;
  response.setHeader("content-type", "application/fhir+json; charset=utf-8");
  for (const [name, value] of Object.entries(answered.headers ?? {})) response.setHeader(name, value);
  if ((behaviour.pretty || answered.pretty) && body[0] === 0x7b) body = Buffer.from(pretty(body.toString()));
  if (cut?.clean) body = body.subarray(0, body.length >> 1);
  if (behaviour.gzip && /\bgzip\b/.test(String(request.headers["accept-encoding"] ?? ""))) {
    body = gzipSync(body, { level: 1 });
    response.setHeader("content-encoding", "gzip");
  }
  response.writeHead(answered.status, answered.status === 204 ? {} : { "content-length": body.length });
  if (cut && !cut.clean) response.write(body.subarray(0, body.length >> 1), () => request.socket.destroy());
  else response.end(body);
}

async function read(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}

/** Parameters in order. A `+` is a blank, as to form decoders; an offset that was sent so is still understood. */
function queryOf(url: string): [string, string][] {
  const at = url.indexOf("?");
  return at < 0 ? [] : [...new URLSearchParams(url.slice(at + 1))];
}

function readableURL(url: string): string {
  try {
    return decodeURIComponent(url);
  } catch {
    return url;
  }
}

async function listen(server: Server, port: number, host: string): Promise<number> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, resolve);
  });
  return (server.address() as AddressInfo).port;
}
