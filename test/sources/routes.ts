import { bundle, outcome } from "./bundle.ts";
import type { Behaviour, Fault, Faults } from "./faults.ts";
import { capabilities } from "./metadata.ts";
import { readable, searchable } from "./parameters.ts";
import { BadQuery } from "./query.ts";
import type { Found, Searches } from "./search.ts";
import type { Store, Version } from "./store.ts";
import { BadValue } from "./values.ts";

/** A request below the base path, decoded. */
export interface Asked {
  method: string;
  /** The segments of the path below the base. */
  path: string[];
  parameters: [string, string][];
  body: string;
  strict: boolean;
  base: string;
}

export interface Answer {
  status: number;
  body: Buffer;
  headers?: Record<string, string>;
  pretty?: boolean;
  /** Whether its search names `_lastUpdated`. */
  windowed?: boolean;
  kind: "page" | "count" | "read" | "write" | "other";
}

export interface Site {
  store: Store;
  searches: Searches;
  faults: Faults;
  behaviour: () => Behaviour;
}

const refusal = (status: number, text: string, code: string): Answer => ({
  status,
  body: Buffer.from(outcome("error", text, code)),
  kind: "other",
});

/** Answers a request as a FHIR server does. */
export function answer(site: Site, asked: Asked, request: string): Answer {
  try {
    return route(site, asked, request);
  } catch (error) {
    if (error instanceof BadQuery || error instanceof BadValue)
      return refusal(site.behaviour().refusalStatus ?? 400, error.message, "invalid");
    throw error;
  }
}

function route(site: Site, asked: Asked, request: string): Answer {
  const { method, path, parameters, base } = asked;
  const behaviour = site.behaviour();
  const [type, second, third, fourth] = path;
  if (type === undefined) {
    const token = parameters.find(([name]) => name === "_getpages")?.[1];
    if (token !== undefined && method === "GET") return next(site, base, token, request);
    return refusal(400, "Searches across types are not supported", "not-supported");
  }
  if (type === "metadata" && second === undefined) {
    const statement = capabilities(behaviour.usesAlias ? behaviour.alias! : base, {
      typeHistory: !behaviour.noTypeHistory,
      instanceHistory: !behaviour.noInstanceHistory,
      interactions: !behaviour.noInteractions,
      changed: behaviour.statement ?? {},
    });
    return { status: 200, body: Buffer.from(statement), kind: "other" };
  }
  const known = searchable.includes(type) || readable.includes(type) || site.store.types().includes(type);
  if (!known) return refusal(404, `Unknown resource type "${type}"`, "not-found");
  if (method === "PUT" || method === "DELETE") return write(site, asked);
  if (method === "POST" && second === "_search" && !behaviour.noPost) return search(site, asked, type, request);
  if (method !== "GET") return refusal(405, `${method} is not supported here`, "not-supported");
  if (second === undefined) return search(site, asked, type, request);
  if (second === "_history" && third === undefined) return history(site, asked, type, request);
  if (second.startsWith("$") || second.startsWith("_"))
    return refusal(400, `Unknown operation "${second}"`, "not-supported");
  if (third === undefined) return read(site, type, second);
  if (third === "_history")
    return fourth === undefined ? history(site, asked, `${type}/${second}`, request) : read(site, type, second, fourth);
  return refusal(400, "Compartment searches are not supported", "not-supported");
}

/** Adds the links that a page has beyond those that it should have. */
function addLinks(found: Found, url: string, behaviour: Behaviour): void {
  const { longLinks, behindEnd, noTotal, linkBehindLast } = behaviour;
  if (url.includes("_behind=1")) Object.assign(found, { entries: [], next: undefined });
  else if (linkBehindLast && found.data && !found.history && found.next === undefined)
    found.next = `${url}${url.includes("?") ? "&" : "?"}_behind=1`;
  if (!found.data) return;
  if (noTotal) found.total = undefined;
  if (found.next && longLinks) found.next += `${found.next.includes("?") ? "&" : "?"}_pad=${"A".repeat(longLinks)}`;
  const type = /[A-Z][A-Za-z]+(?=\?|$)/.exec(found.self.slice(found.base.length))?.[0];
  if (!found.next && behindEnd !== undefined && type) found.next = `${found.base}/${type}?_beyond=1`;
}

function tooMuchAnswer(as: NonNullable<Behaviour["tooMuch"]>["as"]): Answer {
  return as === "too-costly"
    ? refusal(400, "This search has too many results", as)
    : refusal(as, as === 413 ? "The answer is too large" : "Upstream request timeout", "timeout");
}

/** The answer to the next link behind the last page. */
function behind(base: string, type: string, number: number, as: Behaviour["behindEnd"]): Answer {
  if (typeof as === "number") return refusal(as, "There is no such page", "not-found");
  const self = `${base}/${type}?_beyond=${number}`;
  const next = as === "endless" ? { next: `${base}/${type}?_beyond=${number + 1}` } : {};
  return { status: 200, body: bundle({ type: "searchset", base, self, ...next, entries: [] }, []), kind: "page" };
}

function search(site: Site, asked: Asked, type: string, request: string): Answer {
  const { base, parameters, strict } = asked;
  const number = parameters.find(([name]) => name === "_beyond")?.[1];
  if (number !== undefined) return behind(base, type, Number(number), site.behaviour().behindEnd);
  if (!searchable.includes(type) && !site.store.types().includes(type))
    return refusal(400, `${type} cannot be searched`, "not-supported");
  const token = parameters.find(([name]) => name === "_cursor")?.[1];
  if (token !== undefined) return next(site, base, token, request);
  return page(site, site.searches.first(base, type, parameters, strict), request);
}

function next(site: Site, base: string, token: string, request: string): Answer {
  const expired = site.faults.take(request, (kind) => kind === "expired").length > 0;
  const found = expired ? undefined : site.searches.next(base, token);
  return found ? page(site, found, request) : refusal(410, "This search is no longer known; search again", "expired");
}

const pageKinds: Fault["kind"][] = ["wrongType", "outcome", "garbage", "badToken", "shortPage", "doubled", "overlap"];
const linkKinds: Fault["kind"][] = ["foreignNext", "repeatNext", "noNext"];

/** The last entries of the page that was answered last. */
const before = new WeakMap<Store, Found["entries"]>();

function page(site: Site, found: Found, request: string): Answer {
  const applies = (kind: Fault["kind"]) =>
    (found.data && pageKinds.includes(kind)) || (found.next !== undefined && linkKinds.includes(kind));
  const faults = site.faults.take(request, applies);
  const url = `${new URL(found.base).origin}${request.slice(request.indexOf(" ") + 1)}`;
  for (const fault of faults) {
    if (fault.kind === "doubled") found.entries = [...found.entries, ...found.entries];
    if (fault.kind === "overlap") found.entries = [...(before.get(site.store) ?? []), ...found.entries];
    if (fault.kind === "foreignNext")
      found.next = `${fault.origin ?? "http://127.0.0.1:9"}/fhir/${found.next!.split("/").at(-1)}`;
    if (fault.kind === "repeatNext") found.next = url;
  }
  before.set(site.store, found.entries.slice(-3));
  const { poison, emptyPages, tooMuch } = site.behaviour();
  if (tooMuch && found.data && found.entries.length > tooMuch.above) return tooMuchAnswer(tooMuch.as);
  addLinks(found, url, site.behaviour());
  if (emptyPages && found.data && !url.includes("_again=1"))
    return { status: 200, body: bundle({ ...found, entries: [], next: `${url}&_again=1` }, []), kind: "page" };
  if (poison && found.data && found.entries.some(({ id }) => poison.ids.includes(id)))
    return poisoned(poison, bundle(found, faults));
  writeLinks(found, site.behaviour());
  const headers: { link?: string } = {};
  if (site.behaviour().linkHeader && found.next && !faults.some(({ kind }) => kind === "noNext"))
    headers.link = `<${found.next}>; rel="next"`;
  const { pretty, windowed } = found;
  return { status: 200, body: bundle(found, faults), headers, pretty, windowed, kind: found.data ? "page" : "count" };
}

/** Writes the links of a page as the server does. */
function writeLinks(found: Found, { ownBase, linkForm }: Behaviour): void {
  const { base } = found;
  const written = (link: string) => {
    if (linkForm === "relative" && link.startsWith(`${base}/`)) return link.slice(base.length + 1);
    if (linkForm === "query" && link.includes("?")) return link.slice(link.indexOf("?"));
    return ownBase !== undefined && link.startsWith(base) ? ownBase + link.slice(base.length) : link;
  };
  found.self = written(found.self);
  if (found.next !== undefined) found.next = written(found.next);
  if (ownBase !== undefined) found.base = ownBase;
}

/** The answer in place of a page that has a resource which the server cannot render. */
function poisoned({ ids, as }: NonNullable<Behaviour["poison"]>, body: Buffer): Answer {
  if (as === 500) return refusal(500, "A resource cannot be rendered", "exception");
  return { status: 200, body: as === "cut" ? body.subarray(0, -100) : notJSON(body, ids), kind: "page" };
}

/** The page, where some resources have a member that is no JSON. Without the space it would be, but another number. */
function notJSON(body: Buffer, ids: readonly string[]): Buffer {
  const damaged = ids.reduce((text, id) => text.replaceAll(`"id":"${id}"`, `"id":"${id}","x":0.5 1`), body.toString());
  return Buffer.from(damaged);
}

function history(site: Site, { base, parameters }: Asked, path: string, request: string): Answer {
  const [type, id] = path.split("/") as [string, string | undefined];
  const { noTypeHistory, noInstanceHistory, refusalStatus = 400 } = site.behaviour();
  if (id === undefined ? noTypeHistory : noInstanceHistory)
    return refusal(refusalStatus, "History is not supported here", "not-supported");
  const versions = id === undefined ? [...site.store.history(type)] : [...site.store.versions(type, id)];
  if (id !== undefined && versions.length === 0) return refusal(404, "Resource is not known", "not-found");
  const wrong = parameters.find(([name]) => !["_since", "_at", "_count", "_format", "_pretty"].includes(name));
  if (wrong) return refusal(400, `Unknown history parameter "${wrong[0]}"`, "invalid");
  return page(site, site.searches.history(base, path, versions, parameters), request);
}

function read(site: Site, type: string, id: string, versionId?: string): Answer {
  const versions = site.store.versions(type, id);
  const version = versionId === undefined ? versions.at(-1) : versions.find((it) => it.versionId === versionId);
  if (!version) return refusal(404, `Resource ${type}/${id} is not known`, "not-found");
  if (!version.bytes) return refusal(410, "Resource was deleted", "deleted");
  return { status: 200, body: version.bytes, headers: versionHeaders(version), kind: "read" };
}

function write(site: Site, { method, path, body, base }: Asked): Answer {
  const [type, id] = path as [string, string | undefined];
  if (id === undefined || path.length > 2) return refusal(405, `${method} needs Type/id`, "not-supported");
  if (method === "DELETE") {
    site.store.delete(type, id);
    return { status: 204, body: Buffer.alloc(0), kind: "write" };
  }
  const before = site.store.get(type, id);
  const version = site.store.put(body);
  const headers = { ...versionHeaders(version), location: `${base}/${type}/${id}/_history/${version.versionId}` };
  return { status: before ? 200 : 201, body: version.bytes, headers, kind: "write" };
}

function versionHeaders({ versionId, lastUpdated }: Version): Record<string, string> {
  return { etag: `W/"${versionId}"`, "last-modified": new Date(lastUpdated).toUTCString() };
}
