import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { type Clock, systemClock } from "../../src/surroundings.ts";
import {
  basePath,
  beginRequest,
  type Counters,
  type Logged,
  type RequestHook,
  respond,
  type SampleServer,
  type Sent,
} from "./exchange.ts";
import { type Auth, type Behaviour, type Control, type Fault, Faults } from "./faults.ts";
import { generate, type SampleOptions, type SampleResource } from "./generator.ts";
import { Searches } from "./search.ts";
import { type Current, Store } from "./store.ts";

export interface SourceOptions extends SampleOptions {
  /** 0: a free one. */
  port?: number;
  host?: string;
  /** Instead of generated ones. */
  resources?: SampleResource[];
  behaviour?: Behaviour;
  auth?: Auth;
  /** `POST /_control`, for tests in another process. */
  control?: boolean;
  /** The server's clock, in milliseconds since 1970. */
  now?: () => number;
  /** What the server waits by; default: the system's clock. */
  clock?: Clock;
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
  /** Faults for requests to come, in addition to those that wait already. */
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

/** A FHIR server over a sample, without the sockets. It behaves well unless its Behaviour or an injected Fault says how
 *  it does not: both have what was seen of real servers. */
export function makeSample(options: SourceOptions = {}): SampleServer {
  const { clock = systemClock, now = clock.now } = options;
  const store = new Store(options.resources ?? sampleFor(options), now, clock);
  const running: SampleServer = {
    store,
    searches: new Searches(store, () => running.behaviour),
    faults: new Faults(),
    hooks: new Set(),
    requests: [],
    clock,
    now,
    counters: { requests: 0, pages: 0, counts: 0, reads: 0, active: 0, maxActive: 0 },
    behaviour: {},
    auth: options.auth ?? { kind: "none" },
  };
  setBehaviour(running, options.behaviour ?? {});
  return running;
}

/** Starts a FHIR server over a sample. */
export async function startSource(options: SourceOptions = {}): Promise<Source> {
  const running = makeSample(options);
  const answerRequest = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const url = new URL(request.url ?? "/", `http://${request.headers.host ?? "localhost"}`);
    const body = await readBody(request);
    if (url.pathname === "/_control" && options.control) answerControl(running, request.method, body, response);
    else await send(await answerTo(running, { request, response, url, body }), request, response);
  };
  const { server, destroySockets } = makeServer(answerRequest);
  const host = options.host ?? "127.0.0.1";
  const port = await listen(server, options.port ?? 0, host);
  return sourceOf(running, `http://${host}:${port}${basePath}`, async () => {
    running.store.close();
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    destroySockets();
    await closed;
  });
}

/** Answers a request that came over HTTP. */
function answerTo(
  running: SampleServer,
  { request, response, url, body }: { request: IncomingMessage; response: ServerResponse; url: URL; body: string },
): Promise<Sent | undefined> {
  response.once("close", beginRequest(running));
  const { method = "GET", url: target = "/", headers } = request;
  return respond(running, { method, target, url, headers, body, isGone: () => response.destroyed });
}

async function send(sent: Sent | undefined, request: IncomingMessage, response: ServerResponse): Promise<void> {
  if (!sent) return void request.socket.destroy();
  response.writeHead(sent.status, sent.headers);
  if (sent.isBroken) response.write(sent.body.subarray(0, sent.body.length >> 1), () => request.socket.destroy());
  else response.end(sent.body);
}

export function setBehaviour(running: SampleServer, changes: Behaviour): void {
  running.behaviour = { ...running.behaviour, ...changes };
  running.store.lag = running.behaviour.lag ?? 0;
  running.store.uuidVersions = running.behaviour.uuidVersions ?? false;
}

/** What a test does with a running server. */
function sourceOf(running: SampleServer, baseURL: string, close: () => Promise<void>): Source {
  const { store, faults, searches, hooks, requests, counters } = running;
  return {
    baseURL,
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
    set: (changes) => setBehaviour(running, changes),
    setAuth: (auth) => void (running.auth = auth),
    catchUp: () => store.catchUp(),
    expireLinks: () => searches.expire(),
    onRequest(hook) {
      hooks.add(hook);
      return () => hooks.delete(hook);
    },
    close,
  };
}

/** Lets a test in another process change the server, and tells it what was requested. */
function answerControl(
  running: SampleServer,
  method: string | undefined,
  body: string,
  response: ServerResponse,
): void {
  if (method === "POST") applyControl(running, JSON.parse(body) as Control);
  response.setHeader("content-type", "application/json");
  response.end(JSON.stringify({ counters: running.counters, requests: running.requests.slice(-1000) }));
}

function applyControl(running: SampleServer, wanted: Control): void {
  const { store, faults } = running;
  if (wanted.clearFaults) faults.clear();
  for (const fault of [wanted.inject ?? []].flat()) faults.add(fault);
  if (wanted.behaviour) setBehaviour(running, wanted.behaviour);
  if (wanted.auth) running.auth = wanted.auth;
  for (const resource of wanted.put ?? [])
    store.put(typeof resource === "string" ? resource : JSON.stringify(resource));
  for (const reference of wanted.delete ?? []) store.delete(...(reference.split("/") as [string, string]));
}

function makeServer(answerRequest: (request: IncomingMessage, response: ServerResponse) => Promise<void>) {
  const sockets = new Set<Socket>();
  const server = createServer({ maxHeaderSize: 65_536, keepAliveTimeout: 60_000 }, (request, response) => {
    answerRequest(request, response).catch(() => response.destroy());
  });
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  const destroySockets = () => {
    for (const socket of sockets) socket.destroy();
  };
  return { server, destroySockets };
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}

async function listen(server: Server, port: number, host: string): Promise<number> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, resolve);
  });
  return (server.address() as AddressInfo).port;
}
