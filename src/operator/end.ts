import { dropConditions, findCondition, isTrue, toSeconds } from "../api/conditions.ts";
import type { FhirExportStatus } from "../api/fhirexport.gen.ts";
import type { Effect, ReadyReason, Report } from "../contracts.ts";
import { showTotals } from "./counts.ts";
import type { End, Facts } from "./facts.ts";
import { purge } from "./fence.ts";
import type { Outcome } from "./outcome.ts";
import { addCondition, showState } from "./states.ts";

/** Kept so long after the outcome is in the status: time to read a pod's log. */
const runTTLSeconds = 86_400;

export interface Decision {
  status: FhirExportStatus;
  effects: Effect[];
  /** seconds; 0 = at once; absent = when something changes */
  requeueAfter?: number;
}

/** The end was decided: it is written down for good before the status says so. */
export function conclude(facts: Facts, end: End): Decision {
  const value: Outcome = { value: end.end, attempt: facts.attempt };
  return {
    status: endStatus(facts, end),
    effects: [...(end.effects ?? []), { do: "outcome", value: value.value, attempt: value.attempt }],
    requeueAfter: 0,
  };
}

/** The status of an end, the same whether it was just decided or is found again after a crash. */
export function endStatus(facts: Facts, end: End): FhirExportStatus {
  const { runs, spec, now } = facts;
  const { queuePosition: _, ...before } = { ...facts.status, ...end.status };
  const completionTime = toSeconds(now);
  const ttl = spec.ttlSecondsAfterFinished;
  const status: FhirExportStatus = {
    ...before,
    completionTime,
    ...(ttl === undefined ? {} : { expirationTime: toSeconds(new Date(now.getTime() + ttl * 1000)) }),
  };
  if (end.end === "Complete") return completeStatus(facts, status, (runs.seal ?? runs.plan)?.reports[0]);
  const { estimatedCompletionTime: __, ...progress } = status.progress ?? {};
  const ended = { ...status, ...(status.progress ? { progress } : {}) };
  if (end.end === "Cancelled") return showPurge(facts, showState(facts, ended, "Cancelled", end.message));
  return showState(facts, ended, end.refused ? "Refused" : "Failed", end.message, end.reason);
}

function completeStatus(facts: Facts, status: FhirExportStatus, report: Report | undefined): FhirExportStatus {
  if (!report) return showState(facts, status, "Complete", "complete; its counts are in the manifest only");
  const counted = { ...status, ...showTotals(status, report) };
  const { files = 0, resources = 0, errors = 0 } = report.totals ?? {};
  let shown = showState(
    facts,
    counted,
    "Complete",
    `${resources} resources in ${files} files${errors ? `, ${errors} errors` : ""}`,
  );
  const exact = report.exact ?? true;
  const why = exact
    ? "every matching resource as of transactionTime, once"
    : "the source did not allow to tell; the manifest's errors say why";
  shown = addCondition(facts, shown, "Exact", exact ? "True" : "False", exact ? "Exact" : "NotExact", why);
  return errors
    ? addCondition(
        facts,
        shown,
        "PartialErrors",
        "True",
        "PartialErrors",
        `${errors} OperationOutcomes are in the errors folder`,
      )
    : shown;
}

/** An export that has ended: its runs go by themselves, its files as cancel and onCancel say, it itself after its time to live. */
export function settled(facts: Facts): Decision {
  const { export: object, spec, now, all } = facts;
  const observedGeneration = object.metadata.generation ?? 0;
  // an edit after the end changes nothing of what the conditions say; waiting for them must not hang on it
  const conditions = (facts.status.conditions ?? []).map((one) => ({ ...one, observedGeneration }));
  let status: FhirExportStatus = { ...facts.status, observedGeneration, conditions };
  // only now that the outcome is in the status may the runs that tell it go
  const effects: Effect[] = all
    .filter((run) => (run.state === "complete" || run.state === "failed") && !run.going && run.ttlSeconds === undefined)
    .map(({ uid }) => ({ do: "setRun", uid, ttlSeconds: runTTLSeconds }));
  const purged = findCondition(status.conditions, "Purged")?.status ?? "Unknown";
  let requeueAfter: number | undefined;
  if (spec.cancel && purged === "Unknown") {
    const done = purging(facts, status);
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
  // who started it over HTTP may be downloading (Bulk Data IG: files should not be deleted meanwhile)
  const grace = spec.origin && spec.deletionPolicy === "Delete" ? facts.settings.downloadGraceSeconds : 0;
  const left = (expires - now.getTime()) / 1000 + grace;
  if (left <= 0 && requeueAfter === undefined) return { status: facts.status, effects: [{ do: "deleteExport" }] };
  return { status, effects, requeueAfter: Math.min(requeueAfter ?? left, left > 0 ? left : (requeueAfter ?? 1)) };
}

/** The purge of a cancelled export, as far as it is. */
function purging(facts: Facts, status: FhirExportStatus): Decision {
  const shown = showPurge(facts, status);
  if (facts.spec.onCancel === "Keep") return { status: shown, effects: [] };
  const step = purge(facts);
  if (step.state !== "pending") return { status: shown, effects: [] };
  return { status: shown, effects: step.effects, requeueAfter: step.requeueAfter ?? 15 };
}

/** Purged and, while the files are being deleted, Reconciling instead of Stalled. */
function showPurge(facts: Facts, before: FhirExportStatus): FhirExportStatus {
  const { spec } = facts;
  if (!spec.cancel) return before;
  if (spec.onCancel === "Keep") return addCondition(facts, before, "Purged", "False", "Kept", "onCancel is Keep");
  const step = purge(facts);
  if (step.state === "failed") return addCondition(facts, before, "Purged", "False", step.reason, step.message);
  if (step.state === "done")
    return addCondition(
      facts,
      unreconcile(facts, before),
      "Purged",
      "True",
      "Purged",
      step.nothing ? "nothing was written" : "its files are deleted",
    );
  const run = before.run && step.repeat ? { run: { ...before.run, repeat: step.repeat } } : {};
  const waiting = addCondition(facts, { ...before, ...run }, "Purged", "Unknown", "Purging", step.message);
  if (!isTrue(waiting.conditions, "Cancelled")) return waiting;
  const { conditions = [], ...rest } = waiting;
  return addCondition(
    facts,
    { ...rest, conditions: dropConditions(conditions, "Stalled") },
    "Reconciling",
    "True",
    "Purging",
    step.message,
  );
}

function unreconcile(facts: Facts, status: FhirExportStatus): FhirExportStatus {
  const ended: ReadyReason = "Cancelled";
  if (!isTrue(status.conditions, ended)) return status;
  return showState(facts, status, ended, findCondition(status.conditions, "Ready")?.message ?? "");
}

/** Whether the status already says how it ended. */
export const isShown = ({ status }: Facts, { value }: Outcome) => isTrue(status.conditions, value);
