import { findCondition } from "../api/conditions.ts";
import type { Condition, ObjectMeta } from "../api/meta.ts";
import { checkContainer, checkTypeFilter } from "../api/parameters.ts";
import { lastCause, waitingFor } from "./cause.ts";
import type { AttemptEnd, Facts, PolicyResult } from "./facts.ts";

/** Whether an export that has not started may start. It is refused where its request cannot be carried out, and waits
 *  until its source and target exist and are Ready. The texts name fields and objects, never their values.
 *  @returns undefined: it is accepted */
export function accept(facts: Facts): PolicyResult | undefined {
  const { spec, source, target } = facts;
  const refusal = findRefusal(facts);
  if (refusal) return { kind: "end", outcome: "Failed", refused: true, ...refusal };
  const missing = [
    whyNotReady("FhirSource", spec.sourceRef.name, source),
    whyNotReady("ExportTarget", spec.targetRef.name, target),
  ].filter((text) => text !== undefined);
  // A change of the source or target wakes the export. The timer only covers a wake that was missed.
  if (missing.length > 0)
    return (
      startDeadline(facts) ?? {
        kind: "step",
        state: "Waiting",
        message: `waiting: ${missing.join(". ")}`,
        cause: waitingFor(missing.join(". ")),
        requeueAfter: 60,
      }
    );
  return undefined;
}

/** The end of an export that was not started within startDeadlineSeconds; undefined: it has time. A retry has no such
 *  deadline. */
export function startDeadline({ export: { metadata }, spec, attempt, now, status }: Facts): AttemptEnd | undefined {
  const seconds = spec.startDeadlineSeconds;
  if (seconds === undefined || attempt > 1 || secondsSince(metadata.creationTimestamp, now) < seconds) return undefined;
  return {
    kind: "end",
    outcome: "Failed",
    reason: "StartDeadlineExceeded",
    message: `the export was not started within startDeadlineSeconds (${seconds})${lastCause(status)}; raise retry to start it without this deadline`,
  };
}

function findRefusal({ spec, source, target }: Facts): { reason: string; message: string } | undefined {
  for (const [index, filter] of (spec.typeFilters ?? []).entries()) {
    const problem = checkTypeFilter(filter, spec.types);
    if (problem)
      return {
        reason: "InvalidFilter",
        message: `spec.typeFilters[${index}]: ${problem}; make another FhirExport with a filter that can be used`,
      };
  }
  const problem = target && spec.container !== undefined ? checkContainer(spec.container, target.spec) : undefined;
  if (problem)
    return {
      reason: "InvalidContainer",
      message: `spec.container: ${problem}; name another container in another FhirExport, or widen allowedContainers of ExportTarget ${spec.targetRef.name} and raise retry`,
    };
  const accounts = [source?.spec.auth?.workloadIdentity, target?.spec.azureBlob?.auth.workloadIdentity].map(
    (identity) => identity?.serviceAccountName,
  );
  if (accounts[0] && accounts[1] && accounts[0] !== accounts[1])
    return {
      reason: "DifferentServiceAccounts",
      message: `FhirSource ${spec.sourceRef.name} and ExportTarget ${spec.targetRef.name} name different service accounts for workload identity, but a pod has only one; name the same in both, then raise retry`,
    };
  return undefined;
}

/** What keeps a source or target from being used; undefined: nothing does. */
function whyNotReady(kind: string, name: string, object: ReferredObject | undefined): string | undefined {
  if (!object) return `${kind} ${name} does not exist; create it`;
  if (object.metadata.deletionTimestamp) return `${kind} ${name} is being deleted; create it again`;
  const ready = findCondition(object.status?.conditions, "Ready");
  if (!ready || (ready.observedGeneration ?? 0) < (object.metadata.generation ?? 0))
    return `${kind} ${name} ${notYetChecked}`;
  if (ready.status === "True") return undefined;
  return `${kind} ${name} is not ready: ${ready.message}`;
}

/** Ends the message about an object that was made or edited a moment ago. It passes by itself, so it causes no
 *  event. */
export const notYetChecked = "has not been checked yet";

interface ReferredObject {
  metadata: ObjectMeta;
  status?: { conditions?: Condition[] };
}

/** Seconds from an instant to now; 0 where the instant is unknown. */
export const secondsSince = (instant: string | undefined, now: Date) =>
  instant ? (now.getTime() - Date.parse(instant)) / 1000 : 0;
