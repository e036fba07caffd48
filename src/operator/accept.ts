import { findCondition } from "../api/conditions.ts";
import type { FhirExportSpec } from "../api/fhirexport.gen.ts";
import type { Condition, ObjectMeta } from "../api/meta.ts";
import { checkContainer, checkTypeFilter } from "../api/parameters.ts";
import type { Facts, Verdict } from "./facts.ts";

/** Whether an export that is not started may be: its request makes sense (else refused), its source and target are there and Ready (else it
 *  waits). Undefined = accepted. Texts name fields and objects, never their values. */
export function accept(facts: Facts): Verdict | undefined {
  const { spec, source, target } = facts;
  const refusal = refuse(facts);
  if (refusal) return { end: "Failed", refused: true, ...refusal };
  const missing = [
    unready("FhirSource", spec.sourceRef.name, source),
    unready("ExportTarget", spec.targetRef.name, target),
  ].filter((text) => text !== undefined);
  // their events wake us; the timer is for a place that has none
  if (missing.length > 0)
    return startDeadline(facts) ?? { state: "Waiting", message: `waiting: ${missing.join("; ")}`, requeueAfter: 60 };
  return undefined;
}

/** The end of an export that was not started in time. */
export function startDeadline({ export: { metadata }, spec, attempt, now }: Facts): Verdict | undefined {
  const seconds = spec.startDeadlineSeconds;
  if (seconds === undefined || attempt > 1 || secondsSince(metadata.creationTimestamp, now) < seconds) return undefined;
  return {
    end: "Failed",
    reason: "StartDeadlineExceeded",
    message: `it was not started within startDeadlineSeconds (${seconds})`,
  };
}

function refuse({ spec, source, target }: Facts): { reason: string; message: string } | undefined {
  for (const [index, filter] of (spec.typeFilters ?? []).entries()) {
    const problem = checkTypeFilter(filter, spec.types);
    if (problem) return { reason: "InvalidFilter", message: `spec.typeFilters[${index}]: ${problem}` };
  }
  const problem = target && spec.container !== undefined ? checkContainer(spec.container, target.spec) : undefined;
  if (problem) return { reason: "InvalidContainer", message: `spec.container: ${problem}` };
  const accounts = [source?.spec.auth?.workloadIdentity, target?.spec.azureBlob?.auth.workloadIdentity].map(
    (one) => one?.serviceAccountName,
  );
  if (accounts[0] && accounts[1] && accounts[0] !== accounts[1])
    return {
      reason: "DifferentServiceAccounts",
      message: `FhirSource ${spec.sourceRef.name} and ExportTarget ${spec.targetRef.name} name different service accounts for workload identity; a pod has only one`,
    };
  return undefined;
}

function unready(
  kind: string,
  name: FhirExportSpec["sourceRef"]["name"],
  object: Referred | undefined,
): string | undefined {
  if (!object) return `${kind} ${name} does not exist`;
  if (object.metadata.deletionTimestamp) return `${kind} ${name} is being deleted`;
  const ready = findCondition(object.status?.conditions, "Ready");
  if (!ready || (ready.observedGeneration ?? 0) < (object.metadata.generation ?? 0))
    return `${kind} ${name} ${notSeen}`;
  if (ready.status === "True") return undefined;
  return `${kind} ${name} is not ready: ${ready.message}`;
}

/** Said of an object that was made or edited a moment ago: nothing that anyone has to be told of. */
export const notSeen = "was not looked at yet";

interface Referred {
  metadata: ObjectMeta;
  status?: { conditions?: Condition[] };
}

/** Seconds from an instant to now; 0 when it is unknown. */
export const secondsSince = (instant: string | undefined, now: Date) =>
  instant ? (now.getTime() - Date.parse(instant)) / 1000 : 0;
