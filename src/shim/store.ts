import type { FhirExport } from "../api/fhirexport.gen.ts";

/** The FhirExports of the shim's namespace, whichever place keeps them (src/kube: the API server behind an informer; src/standalone: node:sqlite). */
export interface ExportStore {
  /** One write. undefined when the name is taken. Throws a FailureError when the object is refused (terminal) or the place is not there (waiting). */
  create(object: {
    metadata: { name: string; labels?: Record<string, string>; annotations?: Record<string, string> };
    spec: FhirExport["spec"];
  }): Promise<FhirExport | undefined>;
  /** all of the cache, also what others made */
  list(): Iterable<FhirExport>;
  /** From the cache; undefined when there is none. */
  get(name: string): Promise<FhirExport | undefined>;
  /** Sets `spec.cancel`; visible to the next `get` of this process. */
  cancel(name: string): Promise<void>;
}
