/** One request to the sample server, and its answer. */
import { gzipSync } from "node:zlib";
import type { Clock } from "../../src/surroundings.ts";
import { outcome } from "./bundle.ts";
import type { Auth, Behaviour, Fault, Faults } from "./faults.ts";
import { type Answer, type Asked, answer } from "./routes.ts";
import type { Searches } from "./search.ts";
import type { Store } from "./store.ts";
import { pretty } from "./text.ts";

export const basePath = "/fhir";

export interface Logged {
  method: string;
  /** Path and query as sent. */
  url: string;
  /** Form parameters of a POST search, decoded. */
  form?: [string, string][];
  /** Milliseconds since 1970, by the clock that the server waits by. */
  at: number;
  /** 0 while the request has no answer, and when its connection was dropped. */
  status: number;
}

/** Called before a request is answered, with its number from 1. A promise holds the answer back. */
export type RequestHook = (request: Logged, number: number) => void | Promise<void>;

export interface Counters {
  requests: number;
  pages: number;
  counts: number;
  reads: number;
  /** Requests being answered now. */
  active: number;
  /** The most that were answered at once. */
  maxActive: number;
}

/** What a running server consists of. */
export interface SampleServer {
  readonly store: Store;
  readonly searches: Searches;
  readonly faults: Faults;
  readonly hooks: Set<RequestHook>;
  readonly requests: Logged[];
  readonly counters: Counters;
  /** What the server waits by. */
  readonly clock: Clock;
  /** The server's time, which may be wrong. */
  readonly now: () => number;
  behaviour: Behaviour;
  auth: Auth;
}

/** A request that was received whole. */
export interface Received {
  method: string;
  /** Path and query as sent. */
  target: string;
  url: URL;
  headers: Readonly<Record<string, string | string[] | undefined>>;
  body: string;
  /** Whether nobody waits for the answer any more. */
  isGone: () => boolean;
}

/** What the server sends. */
export interface Sent {
  status: number;
  headers: Record<string, string | number>;
  body: Buffer;
  /** The connection ends halfway through the body. */
  isBroken: boolean;
}

/** Counts a request as being answered, until the function that it returns is called. */
export function beginRequest({ counters }: SampleServer): () => void {
  counters.requests++;
  counters.maxActive = Math.max(counters.maxActive, ++counters.active);
  return () => void counters.active--;
}

/** Answers a request.
 *
 *  1. Log and count it, and wait for the hooks of tests.
 *  2. Find the faults that hit it: a slow one waits, a dropped one ends here.
 *  3. Make the answer: by a fault, by a limit of the server, or as a FHIR server does.
 *  4. Wait as long as the page takes.
 *
 *  @returns undefined where the connection ends without an answer */
export async function respond(server: SampleServer, received: Received): Promise<Sent | undefined> {
  const date = dateHeaders(server);
  try {
    return await exchange(server, received, date);
  } catch (error) {
    const body = Buffer.from(outcome("error", String(error), "exception"));
    return { status: 500, headers: { ...date, "content-type": "application/fhir+json" }, body, isBroken: false };
  }
}

/** The time of the answer, which a cache may have kept. */
function dateHeaders({ behaviour: { date }, now }: SampleServer): Sent["headers"] {
  if (date === "none") return {};
  const keptSeconds = date === "aged" ? 30 : 0;
  return {
    date: new Date(now() - keptSeconds * 1000).toUTCString(),
    ...(keptSeconds > 0 && { age: keptSeconds }),
  };
}

async function exchange(server: SampleServer, received: Received, date: Sent["headers"]): Promise<Sent | undefined> {
  const { counters, clock } = server;
  const { body } = received;
  const logged = log(server, received);
  for (const hook of [...server.hooks]) await hook(logged, counters.requests);

  const name = `${logged.method} ${readableURL(logged.url)}${logged.form ? ` ${readableURL(body)}` : ""}`;
  const hit = server.faults.take(name, (kind) => exchangeFaults.includes(kind));
  const slow = faultOf(hit, "slow");
  if (slow) await clock.sleep(slow.ms);
  if (faultOf(hit, "drop")) return undefined;

  const answered = faultAnswer(hit) ?? limitAnswer(server, received, logged) ?? fhirAnswer(server, received, logged);

  if (answered.kind === "page") counters.pages++;
  else if (answered.kind === "count") counters.counts++;
  else if (answered.kind === "read") counters.reads++;
  const { pageDelay = 0, windowDelay = 0 } = server.behaviour;
  const delay = pageDelay + (answered.windowed ? windowDelay : 0);
  if (answered.kind === "page" && delay > 0) await clock.sleep(delay);
  if (received.isGone()) return undefined;
  logged.status = answered.status;
  const sent = makeSent(answered, server.behaviour, { ...received, cut: faultOf(hit, "cut") });
  return { ...sent, headers: { ...date, ...sent.headers } };
}

function log({ requests, clock }: SampleServer, { method, target, url, body }: Received): Logged {
  const logged: Logged = { method, url: target, at: clock.now(), status: 0 };
  const isForm = logged.method === "POST" && url.pathname.endsWith("/_search");
  if (isForm) logged.form = [...new URLSearchParams(body)];
  requests.push(logged);
  return logged;
}

/** Faults of the exchange as a whole; others are faults of a page. */
const exchangeFaults: Fault["kind"][] = ["status", "html", "cut", "drop", "slow", "notBundle", "outcomeInstead"];

function faultOf<K extends Fault["kind"]>(hit: Fault[], kind: K): Extract<Fault, { kind: K }> | undefined {
  return hit.find((fault): fault is Extract<Fault, { kind: K }> => fault.kind === kind);
}

function faultAnswer(hit: Fault[]): Answer | undefined {
  if (faultOf(hit, "html")) return webPage;
  if (faultOf(hit, "notBundle")) return { status: 200, body: Buffer.from('{"hello":["world"]}'), kind: "other" };
  if (faultOf(hit, "outcomeInstead"))
    return { status: 200, body: Buffer.from(outcome("error", "History is not supported here")), kind: "other" };
  const status = faultOf(hit, "status");
  return (
    status && {
      status: status.status,
      body: Buffer.from(outcome("error", "Try again", "transient")),
      headers: status.retryAfter === undefined ? {} : { "retry-after": String(status.retryAfter) },
      kind: "other",
    }
  );
}

/** Answers what never reaches FHIR: another path, no sign-in, too long a URL or form. */
function limitAnswer(
  { behaviour, auth }: SampleServer,
  { headers, url, body }: Received,
  logged: Logged,
): Answer | undefined {
  if (!url.pathname.startsWith(`${basePath}/`) && url.pathname !== basePath) return { ...webPage, status: 404 };
  const isOpen = url.pathname === `${basePath}/metadata` && !behaviour.closedMetadata;
  if (!isOpen && !isSignedIn(headers.authorization, auth)) return unauthorized(auth);
  if (logged.url.length > (behaviour.maxURL ?? 8192)) return { ...webPage, status: 414 };
  if (logged.form?.some(([name]) => name === "_pad"))
    return { status: 400, body: Buffer.from(outcome("error", "A continuation token is for a GET")), kind: "other" };
  if (logged.form && body.length > (behaviour.maxForm ?? 200_000))
    return { status: 500, body: Buffer.from(outcome("error", "Unable to parse form content")), kind: "other" };
  return undefined;
}

/** Answers as a FHIR server does. */
function fhirAnswer(
  server: SampleServer,
  { headers, url, body }: Received,
  { method, url: target, form }: Logged,
): Answer {
  const asked: Asked = {
    method,
    path: url.pathname.slice(basePath.length).split("/").filter(Boolean).map(decodeURIComponent),
    parameters: [...queryOf(target), ...(form ?? [])].filter(([name]) => !["_again", "_behind", "_pad"].includes(name)),
    body,
    strict: /handling\s*=\s*strict/.test(String(headers.prefer ?? "")),
    base: `${url.origin}${basePath}`,
  };
  const { store, searches, faults } = server;
  return answer({ store, searches, faults, behaviour: () => server.behaviour }, asked, `${method} ${target}`);
}

/** A login page, as a proxy in front of a FHIR server gives it with 200. */
const webPage: Answer = {
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

function isSignedIn(authorization: string | string[] | undefined, auth: Auth): boolean {
  if (auth.kind === "none") return true;
  const expected =
    auth.kind === "bearer"
      ? `Bearer ${auth.token}`
      : `Basic ${Buffer.from(`${auth.username}:${auth.password}`).toString("base64")}`;
  return authorization === expected;
}

function makeSent(
  answered: Answer,
  behaviour: Behaviour,
  { headers: asked, cut }: Pick<Received, "headers"> & { cut: Extract<Fault, { kind: "cut" }> | undefined },
): Sent {
  let { body } = answered;
  const { retryAfter } = behaviour;
  const headers: Sent["headers"] = {
    ...(retryAfter !== undefined && answered.status < 300 && { "retry-after": retryAfter }),
    "content-type": "application/fhir+json; charset=utf-8",
    ...answered.headers,
  };
  if ((behaviour.pretty || answered.pretty) && body[0] === 0x7b) body = Buffer.from(pretty(body.toString()));
  if (cut?.clean) body = body.subarray(0, body.length >> 1);
  if (behaviour.gzip && /\bgzip\b/.test(String(asked["accept-encoding"] ?? ""))) {
    body = gzipSync(body, { level: 1 });
    headers["content-encoding"] = "gzip";
  }
  if (answered.status !== 204) headers["content-length"] = body.length;
  return { status: answered.status, headers, body, isBroken: cut !== undefined && !cut.clean };
}

/** Parameters in their order. A `+` is a blank, as for form decoders; values.ts still understands an offset that was
 *  sent so. */
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
