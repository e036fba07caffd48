import type { ExportTarget } from "../api/exporttarget.gen.ts";
import type { FhirExport, FhirExportStatus } from "../api/fhirexport.gen.ts";
import type { FhirSource } from "../api/fhirsource.gen.ts";
import type { Effect, World } from "../effects.ts";

export type ExportWorld = World<FhirExport, FhirSource, ExportTarget>;

/** What reconcile needs of the place that it runs in: Kubernetes (src/kube) or one machine (src/standalone). Every call
 *  is idempotent. */
export interface Port {
  /** Gathers the world of one export as it is now. It reads from caches, except where to act on a stale cache would
   *  destroy something or make it twice.
   *  @param key as the place names an export: `namespace/name`, in standalone the name
   *  @returns undefined: the object is gone */
  gather(key: string): Promise<ExportWorld | undefined>;
  /** Applies one effect. An effect that changes the object itself (outcome, finalizer) puts the changed object into
   *  `world.export`, so that the status can be written after it.
   *  @throws for `ensureRun` a FailureError: terminal where the run can never be made, waiting where a person or the
   *    world must change something first (a quota, a missing permission) */
  apply(world: ExportWorld, effect: Effect): Promise<void>;
  /** Writes the status, at most once per reconcile.
   *  @throws a transient FailureError where the object was changed since it was gathered (by its resourceVersion) */
  writeStatus(world: ExportWorld, status: FhirExportStatus): Promise<void>;
}
