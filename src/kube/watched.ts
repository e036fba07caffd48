import { type ApiCollection, type KubeClient, type KubeObject, pathOf } from "./client.ts";
import { Informer, type InformerOptions } from "./informer.ts";
import type { Cache } from "./port.ts";

interface WatchedOptions extends Pick<InformerOptions, "onKey" | "onError" | "labelSelector"> {
  /** the namespaces to watch; none = all of the cluster */
  namespaces: readonly string[];
}

/** A copy of a collection over several namespaces: one informer for each of them, or one for the whole cluster. */
export class Watched<Kind extends KubeObject> implements Cache<Kind> {
  /** by namespace; "" = the whole cluster */
  readonly #informers: Map<string, Informer<Kind>>;

  constructor(client: KubeClient, collection: ApiCollection, { namespaces, ...options }: WatchedOptions) {
    const make = (path: string) => new Informer<Kind>(client, { path, ...options });
    this.#informers = new Map(
      namespaces.length === 0
        ? [["", make(pathOf(collection))]]
        : namespaces.map((namespace) => [namespace, make(pathOf(collection, { namespace }))]),
    );
  }

  get(key: string): Kind | undefined {
    return (this.#informers.get("") ?? this.#informers.get(key.split("/", 1)[0] ?? ""))?.get(key);
  }
  *list(): Iterable<Kind> {
    for (const informer of this.#informers.values()) yield* informer.list();
  }
  get size(): number {
    return [...this.#informers.values()].reduce((sum, { size }) => sum + size, 0);
  }
  /** All first lists are in. */
  synced(): boolean {
    return [...this.#informers.values()].every((one) => one.synced());
  }
  /** Rejects when run() ended before. */
  async whenSynced(): Promise<void> {
    await Promise.all([...this.#informers.values()].map((one) => one.whenSynced()));
  }
  /** Runs until the signal aborts; it never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    await Promise.all([...this.#informers.values()].map((one) => one.run(signal)));
  }
}
