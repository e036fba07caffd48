import type { KubeClient, KubeObject } from "./client.ts";
import { isGone, KubeError } from "./error.ts";
import { pause } from "./pause.ts";

export interface InformerOptions {
  /** the path of a collection in one namespace or, without a namespace in it, in the whole cluster */
  path: string;
  labelSelector?: string;
  fieldSelector?: string;
  /** Called with the key of an object that was made, changed or deleted; `get` has its present state. The call must be
   *  short: put the key into a queue. */
  onKey: (key: string) => void;
  /** called with the error of a watch or list, before the next try */
  onError?: (error: unknown) => void;
  /** injected in tests */
  random?: () => number;
  now?: () => number;
  sleep?: (ms: number, signal: AbortSignal) => Promise<void>;
  relistMs?: number;
  silenceMs?: number;
}

/** The server is asked to end each watch after 4 to 6 minutes, so that not all watches end at once. */
const watchSeconds = { least: 240, spread: 120 };
/** At the end of a watch everything is listed again if the last list is this old: this finds changes that a watch
 *  lost. */
const relistMs = 600_000;
/** The server sends a bookmark about once a minute. A connection that is silent for this long may be dead without
 *  either end knowing. */
const silenceMs = 150_000;
const shortestPauseMs = 500;
const longestPauseMs = 30_000;
/** After a round (list and watch) of this length the wait before the next one starts from the shortest again. */
const healthyMs = 60_000;
/** After this many short rounds in a row the version is no longer trusted, and everything is listed again: a restored
 *  etcd counts from an older version. */
const doubtAfter = 3;

/** A copy of a collection that list and watch keep current, whatever happens to the connection. */
export class Informer<Kind extends KubeObject> {
  /** Counts since the start. `missed` counts changes that a repeated full list showed before a watch did; a few are
   *  normal, as the list is newer. */
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
  /** the version from which the next watch starts; undefined = list first */
  #version: string | undefined;

  constructor(client: KubeClient, options: InformerOptions) {
    this.#client = client;
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
    this.#random = options.random ?? Math.random;
    this.#lastEvent = this.#now();
    this.#synced.promise.catch(() => {});
  }

  /** @param key `namespace/name`; of an object without a namespace its name alone */
  get(key: string): Kind | undefined {
    return this.#objects.get(key);
  }
  list(): Iterable<Kind> {
    return this.#objects.values();
  }
  get size(): number {
    return this.#objects.size;
  }
  /** Whether the first list is complete. */
  synced(): boolean {
    return this.#isSynced;
  }
  /** Resolves when the first list is complete; rejects when run() ended before. */
  whenSynced(): Promise<void> {
    return this.#synced.promise;
  }
  /** Milliseconds since the server last sent anything, even a bookmark. */
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
        this.#random() * Math.min(longestPauseMs, shortestPauseMs * 2 ** Math.min(failures, 10)),
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
      const key = cacheKey(object);
      gone.delete(key);
      const before = this.#objects.get(key)?.metadata;
      // The API allows versions to be compared for equality only.
      if (before && before.uid === object.metadata.uid && before.resourceVersion === object.metadata.resourceVersion)
        continue;
      this.#objects.set(key, strip(object));
      changed.push(key);
    }
    for (const key of gone) this.#objects.delete(key);
    this.#version = listed.resourceVersion;
    if (repeated) this.counters.missed += changed.length + gone.size;
    // Only now, as whoever handles one key may look up others.
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
        const key = cacheKey(object);
        if (type === "DELETED") this.#objects.delete(key);
        else this.#objects.set(key, strip(object as Kind));
        this.#options.onKey(key);
      }
    } finally {
      clearTimeout(timer);
    }
  }
}

const cacheKey = ({ metadata: { namespace, name } }: KubeObject) =>
  namespace === undefined ? name : `${namespace}/${name}`;

/** Removes managedFields (who wrote which field): they are a third of many objects, and nothing here reads them. */
function strip<Kind extends KubeObject>(object: Kind): Kind {
  delete (object.metadata as { managedFields?: unknown }).managedFields;
  return object;
}
