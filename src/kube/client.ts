import { KubeConfig } from "@kubernetes/client-node";
import { Agent, type Dispatcher, ProxyAgent, request } from "undici";
import pkg from "../../package.json" with { type: "json" };
import type { ObjectMeta } from "../api/meta.ts";
import { terminal } from "../failure.ts";
import { withoutTrailingSlash } from "../url.ts";
import { KubeError, nameOf, parseStatus, type Status, unreachable } from "./error.ts";

/** What every object has; all else passes through as JSON, also fields that no type here knows. Times stay strings. */
export interface KubeObject {
  apiVersion?: string;
  kind?: string;
  metadata: ObjectMeta;
}

/** A collection of the API: where it is and what it is called. */
export interface Resource {
  api: string;
  plural: string;
}

const core = (plural: string): Resource => ({ api: "/api/v1", plural });
const ours = (plural: string): Resource => ({ api: "/apis/fhirexport.dev/v1alpha1", plural });

export const resources = {
  namespaces: core("namespaces"),
  nodes: core("nodes"),
  pods: core("pods"),
  secrets: core("secrets"),
  configMaps: core("configmaps"),
  events: { api: "/apis/events.k8s.io/v1", plural: "events" },
  jobs: { api: "/apis/batch/v1", plural: "jobs" },
  leases: { api: "/apis/coordination.k8s.io/v1", plural: "leases" },
  crds: { api: "/apis/apiextensions.k8s.io/v1", plural: "customresourcedefinitions" },
  fhirExports: ours("fhirexports"),
  fhirSources: ours("fhirsources"),
  exportTargets: ours("exporttargets"),
} as const satisfies Record<string, Resource>;

/** The REST path of a collection (all namespaces when none is given), an object, or its subresource. */
export function pathOf(
  { api, plural }: Resource,
  at: { namespace?: string; name?: string; subresource?: string } = {},
): string {
  const parts = [...(at.namespace === undefined ? [] : ["namespaces", at.namespace]), plural];
  if (at.name !== undefined) parts.push(at.name, ...(at.subresource === undefined ? [] : [at.subresource]));
  return [api, ...parts.map(encodeURIComponent)].join("/");
}

export interface ClientOptions {
  /** Called right before anything but a GET is sent; what it throws is what the call rejects with, and nothing is sent. */
  beforeWrite?: () => void;
}

export interface CallOptions {
  signal?: AbortSignal;
  /** for the whole call; default 10 s */
  deadlineMs?: number;
}

export interface ListOptions extends CallOptions {
  labelSelector?: string;
  fieldSelector?: string;
  /** objects per page; default 500 */
  limit?: number;
}

export interface List<Kind> {
  items: Kind[];
  /** the version to watch from */
  resourceVersion: string;
}

export interface WatchOptions {
  signal?: AbortSignal;
  resourceVersion: string;
  labelSelector?: string;
  fieldSelector?: string;
  timeoutSeconds: number;
}

export type WatchEvent<Kind> =
  | { type: "ADDED" | "MODIFIED" | "DELETED"; object: Kind }
  /** only its metadata.resourceVersion counts */
  | { type: "BOOKMARK"; object: KubeObject };

export interface DeleteOptions extends CallOptions {
  uid?: string;
  resourceVersion?: string;
  propagationPolicy?: "Background" | "Foreground" | "Orphan";
  gracePeriodSeconds?: number;
}

/** One connection pool and one set of credentials for all calls: client-node itself would open a new connection, and keep it, per call. */
export class KubeClient {
  /** of the kubeconfig's context, or the pod's own */
  readonly namespace: string;
  readonly #config: KubeConfig;
  readonly #server: string;
  readonly #beforeWrite: (() => void) | undefined;
  #credentials: Promise<Credentials> | undefined;
  #freshUntil = 0;
  #current: Credentials | undefined;

  constructor(config: KubeConfig, { beforeWrite }: ClientOptions = {}) {
    const cluster = config.getCurrentCluster();
    // what loadFromDefault makes when it found nothing
    if (!cluster || (cluster.name === "cluster" && cluster.server === "http://localhost:8080"))
      throw terminal(
        "Internal",
        "no cluster: KUBECONFIG is not set, there is no ~/.kube/config, and this is not a pod",
      );
    this.#config = config;
    this.#beforeWrite = beforeWrite;
    this.#server = withoutTrailingSlash(cluster.server);
    this.namespace = config.getContextObject(config.getCurrentContext())?.namespace ?? "default";
  }

  /** @param path a kubeconfig; default: KUBECONFIG, then ~/.kube/config, then the pod's service account */
  static load(path?: string, options: ClientOptions = {}): KubeClient {
    const config = new KubeConfig();
    if (path === undefined) config.loadFromDefault();
    else config.loadFromFile(path);
    return new KubeClient(config, options);
  }

  /** Any call with JSON; the named ones below are made of it. `path` may have a query. PATCH is a merge patch. */
  request<Answer>(method: Method, path: string, body?: object, options: CallOptions = {}): Promise<Answer> {
    const type = method === "PATCH" ? "application/merge-patch+json" : "application/json";
    return this.#json(method, path, options, body ? { body, type } : {});
  }

  get<Kind extends KubeObject>(path: string, options: CallOptions = {}): Promise<Kind> {
    return this.#json("GET", path, options);
  }

  /** All pages; the deadline is per page. */
  async list<Kind extends KubeObject>(path: string, options: ListOptions = {}): Promise<List<Kind>> {
    const { labelSelector, fieldSelector, limit = 500, ...call } = options;
    const items: Kind[] = [];
    for (let next: string | undefined; ; ) {
      const query = { labelSelector, fieldSelector, limit: String(limit), continue: next };
      const page: { items?: Kind[]; metadata: { resourceVersion: string; continue?: string } } = await this.#json(
        "GET",
        path,
        call,
        {
          query,
        },
      );
      for (const item of page.items ?? []) items.push(item);
      next = page.metadata.continue || undefined;
      // later pages are of the same version as the first
      if (!next) return { items, resourceVersion: page.metadata.resourceVersion };
    }
  }

  /** @param path of the collection */
  create<Kind extends KubeObject>(
    path: string,
    object: Kind,
    options: CallOptions & { dryRun?: boolean } = {},
  ): Promise<Kind> {
    const { dryRun, ...call } = options;
    // an unknown field is our mistake; the server would drop it without a word
    const query = { fieldValidation: "Strict", dryRun: dryRun ? "All" : undefined };
    return this.#json("POST", path, call, { query, body: object });
  }

  /** Guarded by the object's resourceVersion when it has one. A status is replaced at its subresource's path. */
  replace<Kind extends KubeObject>(path: string, object: Kind, options: CallOptions = {}): Promise<Kind> {
    return this.#json("PUT", path, options, { query: { fieldValidation: "Strict" }, body: object });
  }

  /** A merge patch: null removes, undefined is left alone, lists are replaced. metadata.resourceVersion and uid in it are preconditions. */
  patch<Kind extends KubeObject>(path: string, patch: object, options: CallOptions = {}): Promise<Kind> {
    const query = { fieldValidation: "Strict" };
    return this.#json("PATCH", path, options, { query, body: patch, type: "application/merge-patch+json" });
  }

  /** Server-side apply: the fields of `object` become those of `manager`, those it no longer names are removed. */
  apply<Kind extends KubeObject>(
    path: string,
    object: Kind,
    manager: string,
    options: CallOptions = {},
  ): Promise<Kind> {
    const query = { fieldManager: manager, force: "true", fieldValidation: "Strict" };
    return this.#json("PATCH", path, options, { query, body: object, type: "application/apply-patch+yaml" });
  }

  /** A uid or version that does not match is a Conflict. */
  async delete(path: string, options: DeleteOptions = {}): Promise<void> {
    const { uid, resourceVersion, propagationPolicy, gracePeriodSeconds, ...call } = options;
    const preconditions = uid === undefined && resourceVersion === undefined ? undefined : { uid, resourceVersion };
    const body = { apiVersion: "v1", kind: "DeleteOptions", preconditions, propagationPolicy, gracePeriodSeconds };
    await this.#json("DELETE", path, call, { body });
  }

  /** What is not JSON: logs, /readyz. */
  async text(path: string, options: CallOptions & { query?: Record<string, string> } = {}): Promise<string> {
    const { query, ...call } = options;
    return this.#within("GET", path, call, async (signal) =>
      (await this.#send("GET", path, signal, { ...(query && { query }) })).body.text(),
    );
  }

  /** The changes since a version. Ends when the server ends it (timeoutSeconds); throws a KubeError, a Gone when the version is too old,
   *  and also when the signal aborts. */
  async *watch<Kind extends KubeObject>(path: string, options: WatchOptions): AsyncGenerator<WatchEvent<Kind>> {
    const { signal, resourceVersion, labelSelector, fieldSelector, timeoutSeconds } = options;
    const call = nameOf("WATCH", path);
    const query = { watch: "1", allowWatchBookmarks: "true", resourceVersion, labelSelector, fieldSelector };
    const connecting = new AbortController();
    // only for the headers: the body is to take minutes
    const timer = setTimeout(() => connecting.abort(new DOMException("deadline", "TimeoutError")), 10_000);
    const both = signal ? AbortSignal.any([signal, connecting.signal]) : connecting.signal;
    try {
      const { body } = await this.#send("GET", path, both, {
        query: { ...query, timeoutSeconds: String(timeoutSeconds) },
      });
      clearTimeout(timer);
      for await (const line of lines(body)) {
        const event = JSON.parse(line) as WatchEvent<Kind> | { type: "ERROR"; object: Status };
        if (event.type === "ERROR") throw new KubeError(call, event.object.code ?? 500, event.object);
        yield event;
      }
    } catch (error) {
      throw unreachable(call, error, signal);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Ends all connections. */
  async close(): Promise<void> {
    await this.#current?.dispatcher.destroy();
  }

  async #json<Answer>(
    method: Method,
    path: string,
    call: CallOptions,
    { query, body, type }: Sent = {},
  ): Promise<Answer> {
    return this.#within(method, path, call, async (signal) => {
      const answer = await this.#send(method, path, signal, {
        ...(query && { query }),
        ...(body && { body, type: type ?? "application/json" }),
      });
      return (await answer.body.json()) as Answer;
    });
  }

  async #within<Answer>(
    method: Method,
    path: string,
    options: CallOptions,
    work: (signal: AbortSignal) => Promise<Answer>,
  ): Promise<Answer> {
    const deadline = AbortSignal.timeout(options.deadlineMs ?? 10_000);
    try {
      return await work(options.signal ? AbortSignal.any([options.signal, deadline]) : deadline);
    } catch (error) {
      throw unreachable(nameOf(method, path), error, options.signal);
    }
  }

  async #send(
    method: Method,
    path: string,
    signal: AbortSignal,
    { query, body, type }: Sent,
  ): Promise<Dispatcher.ResponseData> {
    const { headers, dispatcher } = await this.#signIn();
    const url = new URL(this.#server + path);
    for (const [name, value] of Object.entries(query ?? {})) if (value !== undefined) url.searchParams.set(name, value);
    if (method !== "GET") this.#beforeWrite?.();
    const answer = await request(url, {
      method,
      dispatcher,
      signal,
      headers: {
        ...headers,
        accept: "application/json",
        "user-agent": `fhir-export/${pkg.version}`,
        ...(type && { "content-type": type }),
      },
      body: body === undefined ? null : JSON.stringify(body),
    });
    if (answer.statusCode < 300) return answer;
    if (answer.statusCode === 401) this.#credentials = undefined;
    const text = await answer.body.text();
    const retryAfter = Number(answer.headers["retry-after"]);
    throw new KubeError(
      nameOf(method, path),
      answer.statusCode,
      parseStatus(text),
      Number.isFinite(retryAfter) ? retryAfter : undefined,
    );
  }

  /** Asked again every 30 s (client-node reads a token file once a minute): a renewed token, certificate or CA is taken up. */
  #signIn(): Promise<Credentials> {
    if (!this.#credentials || performance.now() > this.#freshUntil) {
      this.#freshUntil = performance.now() + 30_000;
      this.#credentials = this.#read();
      this.#credentials.catch(() => (this.#credentials = undefined));
    }
    return this.#credentials;
  }

  async #read(): Promise<Credentials> {
    const options: Parameters<KubeConfig["applyToHTTPSOptions"]>[0] = {};
    await this.#config.applyToHTTPSOptions(options);
    const { ca, cert, key, rejectUnauthorized, servername, auth } = options;
    const headers = { ...(options.headers as Record<string, string>) };
    if (auth) headers.Authorization = `Basic ${Buffer.from(auth).toString("base64")}`;
    const tls = { ca, cert, key, rejectUnauthorized, servername };
    const same = JSON.stringify(tls);
    const before = this.#current;
    if (before?.same === same) return (this.#current = { ...before, headers });
    const given = Object.fromEntries(Object.entries(tls).filter(([, value]) => value !== undefined));
    const made = { headers, same, dispatcher: makeDispatcher(this.#config, given) };
    this.#current = made;
    // open watches go on until they end
    before?.dispatcher.close().catch(() => {});
    return made;
  }
}

export type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
interface Sent {
  query?: Record<string, string | undefined>;
  body?: object;
  type?: string;
}
interface Credentials {
  headers: Record<string, string>;
  dispatcher: Dispatcher;
  /** of what the connections depend on */
  same: string;
}

function makeDispatcher(config: KubeConfig, tls: Record<string, unknown>): Dispatcher {
  const options = {
    // over HTTP/2 a stalled connection would stall all calls and watches at once
    allowH2: false,
    // below the API server's 90 s, so that it never closes one that is just being used again
    keepAliveTimeout: 60_000,
    keepAliveMaxTimeout: 60_000,
    // calls have deadlines; a watch ends by timeoutSeconds
    headersTimeout: 0,
    bodyTimeout: 0,
  };
  const proxy = config.getCurrentCluster()?.proxyUrl;
  if (proxy?.startsWith("socks"))
    throw terminal("Internal", "a kubeconfig with a SOCKS proxy is not supported; an HTTP proxy is");
  if (proxy) return new ProxyAgent({ ...options, uri: proxy, requestTls: tls });
  return new Agent({ ...options, connect: { ...tls, timeout: 5000, keepAlive: true, keepAliveInitialDelay: 30_000 } });
}

async function* lines(body: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of body) {
    const parts = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = parts.pop()!;
    for (const part of parts) if (part) yield part;
  }
}
