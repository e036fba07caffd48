import type { FhirExport } from "../api/fhirexport.gen.ts";
import { apiVersion } from "../api/names.ts";
import { terminal } from "../failure.ts";
import type { ExportStore } from "../shim/store.ts";
import { type KubeClient, pathOf, resources } from "./client.ts";
import { isAlreadyExists, isNotFound, KubeError, toKubeFailure } from "./error.ts";

/** Whether the HTTP service can have given this name (src/shim/idempotency.ts). Other names are not worth a call. */
const isExportName = (name: string) => /^export-[a-z2-7]{26}$/.test(name);

/** The FhirExports of one namespace for the HTTP service. Polls are answered from the informer's copy. What this
 *  replica wrote itself counts from then on, before the watch shows it. */
export class KubeExports implements ExportStore {
  readonly #client: KubeClient;
  readonly #namespace: string;
  readonly #cached: (key: string) => FhirExport | undefined;
  readonly #all: () => Iterable<FhirExport>;
  /** exports that this replica made and the watch has not shown yet */
  readonly #made = new Map<string, FhirExport>();
  /** names of exports that this replica cancelled, whose cancellation the watch has not shown yet */
  readonly #cancelled = new Set<string>();

  /** @param cached the informer's copy, by `namespace/name`
   *  @param all all of the informer's copies */
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

  /** To be called when the watch has shown an object, or that it is gone. */
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
      // The message has only the names of fields: the server's own text quotes values, and the message is logged, too.
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
    if (!isExportName(name)) return undefined;
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

  /** Reads an export that the informer does not show: another replica may have made it a moment ago, and a client that
   *  polls at once must not get a 404. */
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
