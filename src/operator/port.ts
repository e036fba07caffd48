import type { ExportTarget } from "../api/exporttarget.gen.ts";
import type { FhirExport, FhirExportStatus } from "../api/fhirexport.gen.ts";
import type { FhirSource } from "../api/fhirsource.gen.ts";
import type { Effect, World } from "../contracts.ts";

export type ExportWorld = World<FhirExport, FhirSource, ExportTarget>;

/** What reconcile needs of the place it runs in: Kubernetes (src/kube) or one machine (src/standalone). Every call is idempotent. */
export interface Port {
  /** The world of one export as of now, undefined when the object is gone. Reads come from caches, except where acting on a stale
   *  one would destroy or double something. `key` is `namespace/name`. */
  gather(key: string): Promise<ExportWorld | undefined>;
  apply(world: ExportWorld, effect: Effect): Promise<void>;
  /** One write per reconcile, guarded by resourceVersion; a conflict throws a transient FailureError. */
  writeStatus(world: ExportWorld, status: FhirExportStatus): Promise<void>;
}
