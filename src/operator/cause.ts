import { causeIn } from "../api/conditions.ts";
import type { FhirExportRun, FhirExportStatus } from "../api/fhirexport.gen.ts";
import type { RunView } from "../effects.ts";

/** Why an export does not get on, although it is not over. It is the condition Reconciling of such an export, and what
 *  HTTP clients are told. */
export interface Cause {
  /** one CamelCase word */
  reason: string;
  message: string;
}

/** The cause of the state Waiting, which it is itself. */
export const waitingFor = (message: string): Cause => ({ reason: "Waiting", message });

/** What has held an export that is given up, for the message that says so; empty where nothing is known. */
export function lastCause({ conditions }: FhirExportStatus): string {
  const cause = causeIn(conditions);
  return cause ? `; what held it at last: ${cause}` : "";
}

/** Why a run that has not ended does not get on; undefined: nothing is known to hold it.
 *  @param repeat why the run before it was repeated */
export function causeOf(run: RunView, repeat: FhirExportRun["repeat"]): Cause | undefined {
  if (run.blocked) return { reason: "Blocked", message: `it is blocked: ${run.blocked}` };
  const met = run.progress.find(({ trouble }) => trouble)?.trouble;
  if (met) return { reason: met.reason, message: `${met.reason}: ${met.message}` };
  if (run.progress.some(({ paused }) => paused))
    return { reason: "Throttled", message: "the source asks to wait (Retry-After)" };
  // What the last try has met holds until this one has something to show.
  const isAtWork = run.done > 0 || run.progress.some(({ totals }) => totals.resources > 0);
  if (isAtWork || repeat?.runName !== run.name || repeat.runUID === run.uid || !repeat.message) return undefined;
  return { reason: repeat.reason ?? "Internal", message: `${repeat.message}; this is try ${repeat.count + 1}` };
}
