import { isTrue } from "../api/conditions.ts";
import type { FhirExport } from "../api/fhirexport.gen.ts";
import { annotations } from "../api/names.ts";
import type { RunView } from "../effects.ts";

/** How an attempt ended. */
export interface Outcome {
  value: "Complete" | "Cancelled" | "Failed";
  attempt: number;
}

/** How the export ended: from its annotation, which a backup keeps while it loses the status, else from its
 *  conditions. */
export function outcomeOf({ metadata, status }: FhirExport): Outcome | undefined {
  const [value, attempt] = (metadata.annotations?.[annotations.outcome] ?? "").split("/");
  if (value === "Complete" || value === "Cancelled") return { value, attempt: status?.attempt ?? 1 };
  if (value === "Failed") return { value, attempt: Number(attempt) || 1 };
  for (const type of ["Complete", "Cancelled", "Failed"] as const)
    if (isTrue(status?.conditions, type)) return { value: type, attempt: status?.attempt ?? 1 };
  return undefined;
}

/** The value of the annotation. */
export const formatOutcome = ({ value, attempt }: Outcome) => (value === "Failed" ? `${value}/${attempt}` : value);

/** The attempt that counts, and its outcome if it has ended. Complete and Cancelled are final. After a failure, a
 *  greater `retry` begins the next attempt. A `retry` that grows while an attempt is under way counts only when that
 *  one has failed. */
export function attemptOf(object: FhirExport, runs: readonly RunView[]): { attempt: number; outcome?: Outcome } {
  const outcome = outcomeOf(object);
  if (outcome && outcome.value !== "Failed") return { attempt: outcome.attempt, outcome };
  const failed = outcome?.attempt ?? 0;
  const wanted = (object.spec.retry ?? 0) + 1;
  const underWay = Math.max(object.status?.run?.attempt ?? 0, ...runs.map(({ attempt }) => attempt));
  if (underWay > failed) return { attempt: underWay };
  if (wanted > failed && !(outcome && object.spec.cancel)) return { attempt: wanted };
  return { attempt: failed, ...(outcome ? { outcome } : {}) };
}
