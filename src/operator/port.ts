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
  /** An effect that changes the object itself (outcome, finalizer) puts the changed object into `world.export`, so that the status can
   *  be written after it. `ensureRun` throws a FailureError: terminal when the run can never be made so, waiting (quota, a missing
   *  permission) when a person or the world must change first. */
  apply(world: ExportWorld, effect: Effect): Promise<void>;
  /** One write per reconcile, guarded by resourceVersion; a conflict throws a transient FailureError. */
  writeStatus(world: ExportWorld, status: FhirExportStatus): Promise<void>;
}
