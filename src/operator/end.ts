import { type ConditionValue, dropConditions, findCondition, isTrue, toSeconds } from "../api/conditions.ts";
import type { FhirExportStatus } from "../api/fhirexport.gen.ts";
import type { Report } from "../contracts.ts";
import type { Effect } from "../effects.ts";
import { showTotals } from "./counts.ts";
import type { AttemptEnd, Facts } from "./facts.ts";
import type { Outcome } from "./outcome.ts";
import { proofSummary, proofsOf } from "./proofs.ts";
import { purgeOutput } from "./run-effects.ts";
import { addCondition, showState } from "./states.ts";
import { withNoun } from "./words.ts";

/** A Job stays this long after the outcome is in the status, so that the logs of its pods can be read. */
const runTTLSeconds = 86_400;

export interface Decision {
  status: FhirExportStatus;
  effects: Effect[];
  /** seconds; 0 = at once, absent = when something changes */
  requeueAfter?: number;
}

/** Writes the outcome down for good, before the status says it. */
export function concludeAttempt(facts: Facts, end: AttemptEnd): Decision {
  return {
    status: endStatus(facts, end),
    effects: [...(end.effects ?? []), { do: "outcome", value: end.outcome, attempt: facts.attempt }],
    requeueAfter: 0,
  };
}

/** The status of an end. It is the same whether the end was just decided or is found again after a crash. */
export function endStatus(facts: Facts, end: AttemptEnd): FhirExportStatus {
  const { runs, spec, now } = facts;
  const { queuePosition: _, ...before } = { ...facts.status, ...end.status };
  const completionTime = toSeconds(now);
  const ttl = spec.ttlSecondsAfterFinished;
  const status: FhirExportStatus = {
    ...before,
    completionTime,
    ...(ttl === undefined ? {} : { expirationTime: toSeconds(new Date(now.getTime() + ttl * 1000)) }),
  };
  if (end.outcome === "Complete") return completeStatus(facts, status, (runs.seal ?? runs.plan)?.reports[0]);
  const { estimatedCompletionTime: __, ...progress } = status.progress ?? {};
  const ended = { ...status, ...(status.progress ? { progress } : {}) };
  const { message, reason } = end;
  if (end.outcome === "Cancelled") return showPurge(facts, showState(facts, ended, { state: "Cancelled", message }));
  return showState(facts, ended, { state: end.refused ? "Refused" : "Failed", message, reason });
}

function completeStatus(facts: Facts, status: FhirExportStatus, report: Report | undefined): FhirExportStatus {
  if (!report)
    return showState(facts, status, {
      state: "Complete",
      message: "complete; the last worker's report was lost, so the counts are only in the manifest",
    });
  const { files = 0, resources = 0, errors = 0 } = report.totals ?? {};
  const summary = `${withNoun(resources, "resource")} in ${withNoun(files, "file")}`;
  let shown = showState(
    facts,
    { ...status, ...showTotals(status, report) },
    { state: "Complete", message: errors ? `${summary}, ${withNoun(errors, "error")}` : summary },
  );
  shown = addCondition(facts, shown, exactCondition(report));
  if (!errors) return shown;
  return addCondition(facts, shown, {
    type: "PartialErrors",
    status: "True",
    reason: "PartialErrors",
    message: `${withNoun(errors, "error")}: not everything that the source answered could be exported; the files in the folder errors say what and why`,
  });
}

/** Whether the export is exact, and how many types are proven how. */
function exactCondition(report: Report): ConditionValue {
  const summary = proofSummary(proofsOf(report));
  const proven = summary && `; ${summary}`;
  return (report.exact ?? true)
    ? {
        type: "Exact",
        status: "True",
        reason: "Exact",
        message: `the files hold every matching resource as of transactionTime, once${proven}`,
      }
    : {
        type: "Exact",
        status: "False",
        reason: "NotExact",
        message: `the source did not allow to prove that the files hold every matching resource as of transactionTime, once${proven}; the files that the manifest lists under error say why`,
      };
}

/** What happens to an export whose end is in the status: its runs get a time to live, its files are deleted as cancel
 *  and onCancel say, and it is deleted itself when ttlSecondsAfterFinished is over. */
export function settleEnded(facts: Facts): Decision {
  const { export: object, spec, now, allRuns } = facts;
  const observedGeneration = object.metadata.generation ?? 0;
  // An edit after the end changes nothing that the conditions say. They observe it, so that nobody who waits for them
  // hangs.
  const conditions = (facts.status.conditions ?? []).map((one) => ({ ...one, observedGeneration }));
  let status: FhirExportStatus = { ...facts.status, observedGeneration, conditions };
  // The runs report how the export ended. They may be removed only now that this is in the status.
  const effects: Effect[] = allRuns
    .filter((run) => (run.state === "complete" || run.state === "failed") && !run.going && run.ttlSeconds === undefined)
    .map(({ uid }) => ({ do: "setRun", uid, ttlSeconds: runTTLSeconds }));
  const purged = findCondition(status.conditions, "Purged")?.status ?? "Unknown";
  let requeueAfter: number | undefined;
  if (spec.cancel && purged === "Unknown") {
    const done = purgeCancelled(facts, status);
    status = done.status;
    effects.push(...done.effects);
    requeueAfter = done.requeueAfter;
  }
  const ttl = spec.ttlSecondsAfterFinished;
  if (ttl === undefined || !status.completionTime) {
    const { expirationTime: _, ...kept } = status;
    return { status: kept, effects, ...(requeueAfter === undefined ? {} : { requeueAfter }) };
  }
  const expires = Date.parse(status.completionTime) + ttl * 1000;
  status = { ...status, expirationTime: toSeconds(new Date(expires)) };
  // A client that started it over HTTP may be downloading. Bulk Data IG: files should not be deleted meanwhile.
  const grace = spec.origin && spec.deletionPolicy === "Delete" ? facts.settings.downloadGraceSeconds : 0;
  const left = (expires - now.getTime()) / 1000 + grace;
  if (left <= 0 && requeueAfter === undefined) return { status: facts.status, effects: [{ do: "deleteExport" }] };
  return { status, effects, requeueAfter: Math.min(requeueAfter ?? left, left > 0 ? left : (requeueAfter ?? 1)) };
}

/** The next step of the purge of a cancelled export. */
function purgeCancelled(facts: Facts, status: FhirExportStatus): Decision {
  const shown = showPurge(facts, status);
  if (facts.spec.onCancel === "Keep") return { status: shown, effects: [] };
  const purge = purgeOutput(facts);
  if (purge.state !== "pending") return { status: shown, effects: [] };
  return { status: shown, effects: purge.effects, requeueAfter: purge.requeueAfter ?? 15 };
}

/** The condition Purged of a cancelled export, and, while its files are being deleted, Reconciling instead of
 *  Stalled. */
function showPurge(facts: Facts, before: FhirExportStatus): FhirExportStatus {
  const { spec } = facts;
  if (!spec.cancel) return before;
  if (spec.onCancel === "Keep")
    return addCondition(facts, before, {
      type: "Purged",
      status: "False",
      reason: "Kept",
      message: "its files are kept, since onCancel is Keep",
    });
  const purge = purgeOutput(facts);
  if (purge.state === "failed")
    return addCondition(facts, before, {
      type: "Purged",
      status: "False",
      reason: purge.reason,
      message: purge.message,
    });
  if (purge.state === "done")
    return addCondition(facts, showCancelled(facts, before), {
      type: "Purged",
      status: "True",
      reason: "Purged",
      message: purge.wroteNothing ? "nothing was written" : "its files are deleted",
    });
  const { message, repeat } = purge;
  const run = before.run && repeat ? { run: { ...before.run, repeat } } : {};
  const waiting = addCondition(
    facts,
    { ...before, ...run },
    { type: "Purged", status: "Unknown", reason: "Purging", message },
  );
  if (!isTrue(waiting.conditions, "Cancelled")) return waiting;
  return addCondition(
    facts,
    { ...waiting, conditions: dropConditions(waiting.conditions, "Stalled") },
    { type: "Reconciling", status: "True", reason: "Purging", message },
  );
}

/** The conditions of a cancelled export whose purge is over. A finished export that was cancelled later stays as it
 *  is. */
function showCancelled(facts: Facts, status: FhirExportStatus): FhirExportStatus {
  if (!isTrue(status.conditions, "Cancelled")) return status;
  const message = findCondition(status.conditions, "Ready")?.message ?? "";
  return showState(facts, status, { state: "Cancelled", message });
}

/** Whether the status already says how the attempt ended. */
export const isEndShown = ({ status }: Facts, { value }: Outcome) => isTrue(status.conditions, value);
