import type { KubeClient, KubeObject } from "./client.ts";
import { isGone, KubeError } from "./error.ts";

export interface InformerOptions {
  /** of a collection: one namespace's or, without a namespace in it, the whole cluster's */
  path: string;
  labelSelector?: string;
  fieldSelector?: string;
  /** An object was made, changed or is gone; look it up by `get`. It must not do work: put the key into a queue. */
  onKey: (key: string) => void;
  /** told why a watch or list ended badly, before the next try */
  onError?: (error: unknown) => void;
  /** injected in tests */
  random?: () => number;
  now?: () => number;
  sleep?: (ms: number, signal: AbortSignal) => Promise<void>;
  relistMs?: number;
  silenceMs?: number;
}

/** A watch normally ends itself after 4 to 6 minutes, not all of them at once. */
const watchSeconds = { least: 240, spread: 120 };
/** Full lists, at the end of a watch: they find what a watch lost. */
const relistMs = 600_000;
/** The server sends a bookmark about once a minute; a connection that is silent for longer may be dead without either end knowing. */
const silenceMs = 150_000;
const firstBackoffMs = 500;
const lastBackoffMs = 30_000;
/** A watch that held for so long starts the backoff anew. */
const healthyMs = 60_000;
/** So many bad ends in a row put the version in doubt (a restored etcd counts from an older one): list again. */
const doubtAfter = 3;

/** A copy of a collection, kept current by list and watch through whatever happens to the connection. */
export class Informer<Kind extends KubeObject> {
  /** since the start, for metrics; `missed` are changes that a repeated full list showed before a watch did (a few are normal: the list is newer) */
  readonly counters = { lists: 0, watches: 0, events: 0, errors: 0, missed: 0 };
  readonly #client: KubeClient;
  readonly #options: InformerOptions;
  readonly #objects = new Map<string, Kind>();
  readonly #synced = Promise.withResolvers<void>();
  readonly #now: () => number;
  readonly #random: () => number;
  #isSynced = false;
  #lastEvent: number;
  #listedAt = 0;
  /** where the next watch starts; undefined: list first */
  #version: string | undefined;

  constructor(client: KubeClient, options: InformerOptions) {
    this.#client = client;
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
    this.#random = options.random ?? Math.random;
    this.#lastEvent = this.#now();
    this.#synced.promise.catch(() => {});
  }

  /** @param key `namespace/name`, or the name of an object without namespace */
  get(key: string): Kind | undefined {
    return this.#objects.get(key);
  }
  list(): Iterable<Kind> {
    return this.#objects.values();
  }
  get size(): number {
    return this.#objects.size;
  }
  /** The first list is in. */
  synced(): boolean {
    return this.#isSynced;
  }
  /** Rejects when run() ended before. */
  whenSynced(): Promise<void> {
    return this.#synced.promise;
  }
  /** Milliseconds since the server last sent anything, be it a bookmark. */
  lastEventAge(): number {
    return this.#now() - this.#lastEvent;
  }

  /** Runs until the signal aborts; it never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    let failures = 0;
    while (!signal.aborted) {
      const start = this.#now();
      try {
        if (this.#version === undefined || start - this.#listedAt >= (this.#options.relistMs ?? relistMs))
          await this.#list(signal);
        await this.#watch(signal);
      } catch (error) {
        if (signal.aborted) break;
        if (isGone(error)) this.#version = undefined;
        this.counters.errors += 1;
        this.#options.onError?.(error);
      }
      failures = this.#now() - start >= healthyMs ? 0 : failures + 1;
      if (failures >= doubtAfter) this.#version = undefined;
      await (this.#options.sleep ?? pause)(
        this.#random() * Math.min(lastBackoffMs, firstBackoffMs * 2 ** Math.min(failures, 10)),
        signal,
      );
    }
    if (!this.#isSynced) this.#synced.reject(signal.reason);
  }

  async #list(signal: AbortSignal): Promise<void> {
    const { path, labelSelector, fieldSelector } = this.#options;
    const repeated = this.#version !== undefined;
    const listed = await this.#client.list<Kind>(path, {
      ...(labelSelector && { labelSelector }),
      ...(fieldSelector && { fieldSelector }),
      signal,
    });
    this.counters.lists += 1;
    this.#lastEvent = this.#listedAt = this.#now();
    const gone = new Set(this.#objects.keys());
    const changed: string[] = [];
    for (const object of listed.items) {
      const key = keyOf(object);
      gone.delete(key);
      const before = this.#objects.get(key)?.metadata;
      // versions may only be compared for being equal
      if (before && before.uid === object.metadata.uid && before.resourceVersion === object.metadata.resourceVersion)
        continue;
      this.#objects.set(key, strip(object));
      changed.push(key);
    }
    for (const key of gone) this.#objects.delete(key);
    this.#version = listed.resourceVersion;
    if (repeated) this.counters.missed += changed.length + gone.size;
    // only now: who is told about one key may look up others
    for (const key of [...changed, ...gone]) this.#options.onKey(key);
    if (this.#isSynced) return;
    this.#isSynced = true;
    this.#synced.resolve();
  }

  async #watch(signal: AbortSignal): Promise<void> {
    const { path, labelSelector, fieldSelector } = this.#options;
    const silence = new AbortController();
    const silent = () => silence.abort(new KubeError(`WATCH ${path}`, 0, { reason: "Silent" }));
    const timer = setTimeout(silent, this.#options.silenceMs ?? silenceMs);
    this.counters.watches += 1;
    try {
      const events = this.#client.watch<Kind>(path, {
        resourceVersion: this.#version!,
        timeoutSeconds: Math.round(watchSeconds.least + watchSeconds.spread * this.#random()),
        ...(labelSelector && { labelSelector }),
        ...(fieldSelector && { fieldSelector }),
        signal: AbortSignal.any([signal, silence.signal]),
      });
      for await (const { type, object } of events) {
        timer.refresh();
        this.#lastEvent = this.#now();
        this.#version = object.metadata.resourceVersion;
        if (type === "BOOKMARK") continue;
        this.counters.events += 1;
        const key = keyOf(object);
        if (type === "DELETED") this.#objects.delete(key);
        else this.#objects.set(key, strip(object as Kind));
        this.#options.onKey(key);
      }
    } finally {
      clearTimeout(timer);
    }
  }
}

const keyOf = ({ metadata: { namespace, name } }: KubeObject) =>
  namespace === undefined ? name : `${namespace}/${name}`;

/** Who wrote which field is a third of many an object, and nobody here reads it. */
function strip<Kind extends KubeObject>(object: Kind): Kind {
  delete (object.metadata as { managedFields?: unknown }).managedFields;
  return object;
}

/** Sleeps; an abort ends it early. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    if (signal.aborted) done();
    else signal.addEventListener("abort", done);
  });
}
