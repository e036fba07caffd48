import type { FhirExport } from "../api/fhirexport.gen.ts";
import { apiVersion } from "../api/names.ts";
import { terminal } from "../failure.ts";
import type { ExportStore } from "../shim/store.ts";
import { type KubeClient, pathOf, resources } from "./client.ts";
import { isAlreadyExists, isNotFound, KubeError, toKubeFailure } from "./error.ts";

/** the shim's own names (src/shim/routes.ts): no other name is worth a call */
const isOurs = (name: string) => /^export-[a-z2-7]{26}$/.test(name);

/** FhirExports of one namespace for the shim: polls are answered from the informer's copy, and what this replica wrote itself counts before the
 *  watch has shown it. */
export class KubeExports implements ExportStore {
  readonly #client: KubeClient;
  readonly #namespace: string;
  readonly #cached: (key: string) => FhirExport | undefined;
  readonly #all: () => Iterable<FhirExport>;
  /** written here and not yet seen in the watch */
  readonly #made = new Map<string, FhirExport>();
  readonly #cancelled = new Set<string>();

  /** @param cached the informer's copy, by `namespace/name`
   *  @param all the informer's copies */
  constructor(
    client: KubeClient,
    namespace: string,
    cached: (key: string) => FhirExport | undefined,
    all: () => Iterable<FhirExport>,
  ) {
    this.#client = client;
    this.#namespace = namespace;
    this.#cached = cached;
    this.#all = all;
  }

  /** The watch has news of an object. */
  seen(key: string): void {
    const name = key.slice(key.indexOf("/") + 1);
    this.#made.delete(name);
    const object = this.#cached(key);
    if (!object || object.spec.cancel) this.#cancelled.delete(name);
  }

  async create({ metadata, spec }: Parameters<ExportStore["create"]>[0]): Promise<FhirExport | undefined> {
    const object: FhirExport = {
      apiVersion,
      kind: "FhirExport",
      metadata: { ...metadata, namespace: this.#namespace },
      spec,
    };
    try {
      const made = await this.#client.create(pathOf(resources.fhirExports, { namespace: this.#namespace }), object);
      if (!this.#cached(this.#key(metadata.name))) this.#made.set(metadata.name, made);
      return made;
    } catch (error) {
      if (isAlreadyExists(error)) return undefined;
      // the fields only: the server's words quote values, and this goes into the log, too
      if (error instanceof KubeError && error.reason === "Invalid") {
        const fields = [...new Set(error.causes.flatMap(({ field }) => field ?? []))];
        throw terminal(
          "UnsupportedParameter",
          `the export is not valid${fields.length ? `: ${fields.join(", ")}` : ""}`,
          error,
        );
      }
      throw toKubeFailure(error);
    }
  }

  *list(): Generator<FhirExport> {
    for (const object of this.#all()) yield this.#asCancelled(object);
    for (const object of this.#made.values()) yield this.#asCancelled(object);
  }

  async get(name: string): Promise<FhirExport | undefined> {
    if (!isOurs(name)) return undefined;
    const object = this.#cached(this.#key(name)) ?? this.#made.get(name) ?? (await this.#read(name));
    return object && this.#asCancelled(object);
  }

  #asCancelled(object: FhirExport): FhirExport {
    return this.#cancelled.has(object.metadata.name) ? { ...object, spec: { ...object.spec, cancel: true } } : object;
  }

  async cancel(name: string): Promise<void> {
    try {
      await this.#client.patch(pathOf(resources.fhirExports, { namespace: this.#namespace, name }), {
        spec: { cancel: true },
      });
      if (this.#cached(this.#key(name))?.spec.cancel !== true) this.#cancelled.add(name);
    } catch (error) {
      if (!isNotFound(error)) throw toKubeFailure(error);
    }
  }

  /** Another replica may have made it a moment ago: a client that polls at once must not be told that there is none. */
  async #read(name: string): Promise<FhirExport | undefined> {
    try {
      return await this.#client.get<FhirExport>(pathOf(resources.fhirExports, { namespace: this.#namespace, name }));
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw toKubeFailure(error);
    }
  }

  #key(name: string): string {
    return `${this.#namespace}/${name}`;
  }
}
