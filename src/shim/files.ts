import type { FhirExport } from "../api/fhirexport.gen.ts";
import { waiting } from "../failure.ts";
import { manifestPath } from "../sink/layout.ts";
import type { Manifest } from "../sink/manifest.ts";
import type { Store } from "../sink/store.ts";

/** Reads manifests of complete exports from storage. They never change, so the ones asked for last are kept: a
 *  client that fetches a thousand files must not cause a thousand reads of the manifest. */
export class Manifests {
  readonly #open: (object: FhirExport) => Promise<Store>;
  readonly #kept = new Map<string, Promise<Manifest>>();
  readonly #limit: number;

  constructor(open: (object: FhirExport) => Promise<Store>, limit = 16) {
    this.#open = open;
    this.#limit = limit;
  }

  /** @throws waiting TargetUnreachable, also when storage has no manifest, because a complete export once had one */
  async get(object: FhirExport): Promise<Manifest> {
    const key = object.metadata.uid ?? object.metadata.name;
    const kept = this.#kept.get(key) ?? this.#read(object);
    this.#kept.delete(key);
    this.#kept.set(key, kept);
    if (this.#kept.size > this.#limit) this.#kept.delete(this.#kept.keys().next().value!);
    try {
      return await kept;
    } catch (error) {
      this.#kept.delete(key);
      throw error;
    }
  }

  async #read(object: FhirExport): Promise<Manifest> {
    const store = await this.#open(object);
    try {
      const found = await store.read(manifestPath);
      if (!found)
        throw waiting(
          "TargetUnreachable",
          "storage has no manifest of a complete export; its files may have been removed",
        );
      return JSON.parse(found.bytes.toString()) as Manifest;
    } finally {
      await store.close();
    }
  }
}
