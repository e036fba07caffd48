import type { FhirExport } from "../api/fhirexport.gen.ts";

/** The FhirExports of the service's namespace. On a cluster the API server keeps them, behind a cache
 *  (src/kube/exports.ts); on one machine a database does (src/standalone/store.ts). */
export interface ExportStore {
  /** Makes an object, by one write.
   *  @returns undefined when the name is taken
   *  @throws FailureError: terminal when the object is refused, waiting or transient when it cannot be stored now */
  create(object: {
    metadata: { name: string; labels?: Record<string, string>; annotations?: Record<string, string> };
    spec: FhirExport["spec"];
  }): Promise<FhirExport | undefined>;
  /** All FhirExports, also those that were not made by the service. */
  list(): Iterable<FhirExport>;
  /** An object of that name; undefined when there is none. */
  get(name: string): Promise<FhirExport | undefined>;
  /** Sets `spec.cancel`. The next `get` of this process sees it. */
  cancel(name: string): Promise<void>;
}
