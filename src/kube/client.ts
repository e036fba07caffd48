import { KubeConfig } from "@kubernetes/client-node";
import { Agent, type Dispatcher, ProxyAgent, request } from "undici";
import pkg from "../../package.json" with { type: "json" };
import type { ObjectMeta } from "../api/meta.ts";
import { terminal } from "../failure.ts";
import { withoutTrailingSlash } from "../url.ts";
import { KubeError, nameOf, parseStatus, type Status, unreachable } from "./error.ts";

/** What every object of the API has. All other fields pass through as JSON, also those that no type here knows. Times
 *  stay strings. */
export interface KubeObject {
  apiVersion?: string;
  kind?: string;
  metadata: ObjectMeta;
}

/** A collection of the API: Kubernetes calls it a resource, which in this project is FHIR's word. */
export interface ApiCollection {
  /** path of its API group and version */
  api: string;
  plural: string;
}

const core = (plural: string): ApiCollection => ({ api: "/api/v1", plural });
const ours = (plural: string): ApiCollection => ({ api: "/apis/fhirexport.dev/v1alpha1", plural });

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
} as const satisfies Record<string, ApiCollection>;

/** The REST path of a collection (in all namespaces if none is given), of an object, or of its subresource. */
export function pathOf(
  { api, plural }: ApiCollection,
  at: { namespace?: string; name?: string; subresource?: string } = {},
): string {
  const parts = [...(at.namespace === undefined ? [] : ["namespaces", at.namespace]), plural];
  if (at.name !== undefined) parts.push(at.name, ...(at.subresource === undefined ? [] : [at.subresource]));
  return [api, ...parts.map(encodeURIComponent)].join("/");
}

export interface ClientOptions {
  /** Called right before any request but a GET is sent. If it throws, nothing is sent, and the call rejects with that
   *  error. */
  beforeWrite?: () => void;
}

export interface CallOptions {
  signal?: AbortSignal;
  /** milliseconds for the whole call; default 10,000 */
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
  /** the version that a watch continues from */
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
  /** only its metadata.resourceVersion is set */
  | { type: "BOOKMARK"; object: KubeObject };

export interface DeleteOptions extends CallOptions {
  uid?: string;
  resourceVersion?: string;
  propagationPolicy?: "Background" | "Foreground" | "Orphan";
  gracePeriodSeconds?: number;
}

/** A client of the API server with one connection pool and one set of credentials for all calls. (client-node's own
 *  clients open a connection per call, and keep it.) Every call throws a KubeError when the API server refuses it or
 *  does not answer. */
export class KubeClient {
  /** the namespace of the kubeconfig's context, or the pod's own */
  readonly namespace: string;
  readonly #config: KubeConfig;
  readonly #server: string;
  readonly #beforeWrite: (() => void) | undefined;
  #credentials: Promise<ClusterCredentials> | undefined;
  #freshUntil = 0;
  #current: ClusterCredentials | undefined;

  constructor(config: KubeConfig, { beforeWrite }: ClientOptions = {}) {
    const cluster = config.getCurrentCluster();
    // This is the cluster that loadFromDefault makes up when it finds no configuration.
    if (!cluster || (cluster.name === "cluster" && cluster.server === "http://localhost:8080"))
      throw terminal(
        "Internal",
        "no cluster is configured: KUBECONFIG is not set, there is no ~/.kube/config, and this is not a pod; set KUBECONFIG or --kubeconfig",
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

  /** Any call with JSON. `path` may have a query. PATCH is a merge patch. */
  request<Answer>(method: Method, path: string, body?: object, options: CallOptions = {}): Promise<Answer> {
    const type = method === "PATCH" ? "application/merge-patch+json" : "application/json";
    return this.#json(method, path, options, body ? { body, type } : {});
  }

  get<Kind extends KubeObject>(path: string, options: CallOptions = {}): Promise<Kind> {
    return this.#json("GET", path, options);
  }

  /** All objects, page by page; the deadline is per page. */
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
      // All pages show the version of the first one.
      if (!next) return { items, resourceVersion: page.metadata.resourceVersion };
    }
  }

  /** @param path of the collection. @throws a KubeError AlreadyExists when the name is taken */
  create<Kind extends KubeObject>(
    path: string,
    object: Kind,
    options: CallOptions & { dryRun?: boolean } = {},
  ): Promise<Kind> {
    const { dryRun, ...call } = options;
    // An unknown field is our mistake. Without Strict the server would drop it silently.
    const query = { fieldValidation: "Strict", dryRun: dryRun ? "All" : undefined };
    return this.#json("POST", path, call, { query, body: object });
  }

  /** Replaces an object; if it has a resourceVersion, only that version (else Conflict). A status is replaced at its
   *  subresource's path. */
  replace<Kind extends KubeObject>(path: string, object: Kind, options: CallOptions = {}): Promise<Kind> {
    return this.#json("PUT", path, options, { query: { fieldValidation: "Strict" }, body: object });
  }

  /** A merge patch: null removes a field, undefined leaves it alone, lists are replaced. metadata.resourceVersion and
   *  uid are preconditions. */
  patch<Kind extends KubeObject>(path: string, patch: object, options: CallOptions = {}): Promise<Kind> {
    const query = { fieldValidation: "Strict" };
    return this.#json("PATCH", path, options, { query, body: patch, type: "application/merge-patch+json" });
  }

  /** Server-side apply: `manager` takes over the fields of `object`; fields that it had and `object` no longer names
   *  are removed. */
  apply<Kind extends KubeObject>(
    path: string,
    object: Kind,
    manager: string,
    options: CallOptions = {},
  ): Promise<Kind> {
    const query = { fieldManager: manager, force: "true", fieldValidation: "Strict" };
    return this.#json("PATCH", path, options, { query, body: object, type: "application/apply-patch+yaml" });
  }

  /** Deletes an object. If it has another uid or version than the given one, it stays, and the call throws a
   *  Conflict. */
  async delete(path: string, options: DeleteOptions = {}): Promise<void> {
    const { uid, resourceVersion, propagationPolicy, gracePeriodSeconds, ...call } = options;
    const preconditions = uid === undefined && resourceVersion === undefined ? undefined : { uid, resourceVersion };
    const body = { apiVersion: "v1", kind: "DeleteOptions", preconditions, propagationPolicy, gracePeriodSeconds };
    await this.#json("DELETE", path, call, { body });
  }

  /** GET of an answer that is not JSON: logs, /readyz. */
  async text(path: string, options: CallOptions & { query?: Record<string, string> } = {}): Promise<string> {
    const { query, ...call } = options;
    return this.#within("GET", path, call, async (signal) =>
      (await this.#send("GET", path, signal, { ...(query && { query }) })).body.text(),
    );
  }

  /** The changes since a version, until the server ends the watch (timeoutSeconds). Throws when the signal aborts.
   *  @throws a KubeError; Gone (410) when the version is too old to continue from */
  async *watch<Kind extends KubeObject>(path: string, options: WatchOptions): AsyncGenerator<WatchEvent<Kind>> {
    const { signal, resourceVersion, labelSelector, fieldSelector, timeoutSeconds } = options;
    const call = nameOf("WATCH", path);
    const query = { watch: "1", allowWatchBookmarks: "true", resourceVersion, labelSelector, fieldSelector };
    const connecting = new AbortController();
    // The deadline is for the headers only: the body takes minutes.
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
    throw new KubeError(nameOf(method, path), answer.statusCode, parseStatus(text), {
      retryAfterSeconds: Number.isFinite(retryAfter) ? retryAfter : undefined,
    });
  }

  /** The credentials, read again every 30 s, so that a renewed token, certificate or CA is used. (client-node reads a
   *  token file once a minute.) */
  #signIn(): Promise<ClusterCredentials> {
    if (!this.#credentials || performance.now() > this.#freshUntil) {
      this.#freshUntil = performance.now() + 30_000;
      this.#credentials = this.#readCredentials();
      this.#credentials.catch(() => (this.#credentials = undefined));
    }
    return this.#credentials;
  }

  async #readCredentials(): Promise<ClusterCredentials> {
    const options: Parameters<KubeConfig["applyToHTTPSOptions"]>[0] = {};
    await this.#config.applyToHTTPSOptions(options);
    const { ca, cert, key, rejectUnauthorized, servername, auth } = options;
    const headers = { ...(options.headers as Record<string, string>) };
    if (auth) headers.Authorization = `Basic ${Buffer.from(auth).toString("base64")}`;
    const tls = { ca, cert, key, rejectUnauthorized, servername };
    const tlsText = JSON.stringify(tls);
    const before = this.#current;
    if (before?.tls === tlsText) return (this.#current = { ...before, headers });
    const given = Object.fromEntries(Object.entries(tls).filter(([, value]) => value !== undefined));
    const made = { headers, tls: tlsText, dispatcher: makeDispatcher(this.#config, given) };
    this.#current = made;
    // close() waits for open watches, so these end in their own time.
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
interface ClusterCredentials {
  headers: Record<string, string>;
  dispatcher: Dispatcher;
  /** what the connections depend on, as JSON: while it is the same they are kept */
  tls: string;
}

function makeDispatcher(config: KubeConfig, tls: Record<string, unknown>): Dispatcher {
  const options = {
    // With HTTP/2 one stalled connection would stall all calls and watches at once.
    allowH2: false,
    // This is less than the API server's 90 s, so that the server never closes a connection that is just being used
    // again.
    keepAliveTimeout: 60_000,
    keepAliveMaxTimeout: 60_000,
    // Calls have deadlines of their own, and a watch ends by timeoutSeconds.
    headersTimeout: 0,
    bodyTimeout: 0,
  };
  const proxy = config.getCurrentCluster()?.proxyUrl;
  if (proxy?.startsWith("socks"))
    throw terminal(
      "Internal",
      "the kubeconfig's proxy-url names a SOCKS proxy, which is not supported; use an HTTP proxy",
    );
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
