import { isTrue, toSeconds } from "../api/conditions.ts";
import type { FhirExportStatus } from "../api/fhirexport.gen.ts";
import { same } from "../api/rules.ts";
import type { ReadyReason } from "../contracts.ts";
import type { Effect, RunView } from "../effects.ts";
import { secondsSince } from "./accept.ts";
import { planningMessage, waitForSlot } from "./admit.ts";
import { causeOf, lastCause } from "./cause.ts";
import { beginSample, showCounts, showPlan, showProgress } from "./counts.ts";
import type { AttemptEnd, ExportStep, Facts, PolicyResult } from "./facts.ts";
import { decidingError, repeatRun } from "./repeat.ts";
import { ensureRun, stopRun } from "./run-effects.ts";
import { makeOutput, makeRun } from "./task.ts";
import { withNoun } from "./words.ts";

/** how long nothing is looked at that should change by itself */
const watchedSeconds = 60;
const sealingMessage = "completing the output, then writing the manifest";
const exportMessage = (packages: number | undefined) =>
  packages === undefined ? "exporting" : `exporting ${withNoun(packages, "package")}`;

const complete: AttemptEnd = { kind: "end", outcome: "Complete", reason: "Complete", message: "" };

/** The next step of an export that was admitted: plan, then export, then seal. What is done is read from the runs each
 *  time. */
export function advance(facts: Facts): PolicyResult {
  const { runs, attempt, allRuns } = facts;
  const old = allRuns.find((run) => run.attempt !== attempt && (run.live > 0 || run.state === "active"));
  if (old)
    return {
      kind: "step",
      state: "WaitingForNode",
      message: `waiting until the workers of attempt ${old.attempt} have stopped`,
      effects: old.state === "active" && !old.going ? [stopRun(facts, old)] : [],
    };
  const { seal, export: exporting, plan } = runs;
  if (seal) return followSeal(facts, seal);
  if (exporting) return followExport(facts, exporting);
  if (plan) return followPlan(facts, plan);
  return beginPlan(facts);
}

/** The end of an attempt that took longer than activeDeadlineSeconds. Its workers are stopped. */
export function activeDeadline(facts: Facts): AttemptEnd | undefined {
  const { spec, run, now, allRuns, status } = facts;
  const seconds = spec.activeDeadlineSeconds;
  if (seconds === undefined || !run || secondsSince(run.startTime, now) < seconds) return undefined;
  return {
    kind: "end",
    outcome: "Failed",
    reason: "DeadlineExceeded",
    message: `the attempt did not end within activeDeadlineSeconds (${seconds})${lastCause(status)}; what it has stored is kept, so raise retry to continue from there`,
    effects: allRuns.filter((one) => one.state === "active" && !one.going).map((one) => stopRun(facts, one)),
  };
}

/** Pauses an export: its pods are freed, what is stored stays, and others can take its slot. */
export function suspend(facts: Facts): ExportStep {
  const active = facts.allRuns.filter((run) => run.state === "active" && !run.going);
  const isLive = facts.allRuns.some((run) => run.live > 0);
  return {
    kind: "step",
    state: "Suspended",
    message: isLive ? "suspended; its workers are stopping" : "suspended; set spec.suspend to false to continue",
    effects: active.map((run) => stopRun(facts, run)),
  };
}

/** Lets a suspended export continue as soon as its source has a free slot. Its deadline begins anew, as that of a Job
 *  does.
 *  @returns undefined: it is not suspended */
export function resume(facts: Facts): ExportStep | undefined {
  const { status, run, runs, spec, now, source } = facts;
  if (!run || !isTrue(status.conditions, "Suspended")) return undefined;
  const suspended = Object.values(runs).filter((one) => one.state === "suspended" && !one.going);
  const isAtWork = Object.values(runs).some((one) => one.state === "active");
  const queued = source && !isAtWork ? waitForSlot(facts) : undefined;
  // The condition Suspended stays while it waits, since it marks the export's slot as free.
  if (queued) return { ...queued, state: "Suspended", message: `ready to continue; ${queued.message}` };
  return {
    ...stageReached(facts),
    status: { run: { ...run, startTime: toSeconds(now) } },
    effects: spec.queueName === undefined ? suspended.map(({ uid }) => ({ do: "setRun", uid, suspend: false })) : [],
    requeueAfter: 0,
  };
}

function followPlan(facts: Facts, plan: RunView): PolicyResult {
  const { settings, status } = facts;
  const report = plan.reports[0];
  if (plan.state === "complete" && report?.packages === 0) return complete;
  if (plan.going) return followGoing(plan, { state: "Planning", message: "planning is about to be repeated" });
  if (plan.state === "complete" && report?.packages !== undefined)
    return startExportRun(facts, report.packages, showPlan(status, report));
  if (plan.state === "complete" || plan.state === "failed") return endOrRepeat(facts, plan, "Planning");
  // The pod of the plan also exports and seals a small export.
  if (plan.progress.some(({ totals }) => totals.resources > 0))
    return {
      ...followActive(facts, plan, { state: "Running", message: "exporting in one pod" }),
      status: showProgress(facts, plan),
      requeueAfter: settings.progressSeconds,
    };
  return followActive(facts, plan, { state: "Planning", message: planningMessage });
}

function beginPlan(facts: Facts): PolicyResult {
  const { export: object, source, target, spec, run, attempt, settings, status } = facts;
  if (!run) throw new Error("an export that is not admitted cannot be planned");
  if (run.packages !== undefined) return startExportRun(facts, run.packages, {});
  if (!source || !target) {
    const gone = source ? `ExportTarget ${spec.targetRef.name}` : `FhirSource ${spec.sourceRef.name}`;
    return {
      kind: "step",
      state: "Waiting",
      message: `waiting: ${gone} was deleted; create it again`,
      requeueAfter: 60,
    };
  }
  // Nothing was made of this attempt yet, or all of it was removed. Until something is made, what the attempt is
  // started with follows the source, the target and the spec.
  const resolved = { export: object, source, target };
  const { repeat, sample } = run;
  const fresh = {
    ...makeRun(resolved, { attempt, startTime: run.startTime }, settings),
    ...(repeat ? { repeat } : {}),
    ...(sample ? { sample } : {}),
  };
  const output = { ...status.output, ...makeOutput(resolved) };
  if (!same(fresh, run) || !same(output, status.output))
    return {
      kind: "step",
      state: "Planning",
      message: planningMessage,
      status: { run: fresh, output },
      requeueAfter: 0,
    };
  return {
    kind: "step",
    state: "Planning",
    message: run.repeat?.message ? `${planningMessage}; ${run.repeat.message}` : planningMessage,
    ...(run.repeat?.message && { cause: { reason: run.repeat.reason ?? "Internal", message: run.repeat.message } }),
    effects: [ensureRun(facts, "plan")],
  };
}

function startExportRun(facts: Facts, packages: number, shown: Partial<FhirExportStatus>): ExportStep {
  const run = { ...facts.run!, packages, sample: facts.run?.sample ?? beginSample(facts) };
  return {
    kind: "step",
    state: "Running",
    message: exportMessage(packages),
    status: { ...shown, run },
    effects: [ensureRun(facts, "export", packages, wantedParallelism(facts, packages))],
  };
}

function followExport(facts: Facts, run: RunView): PolicyResult {
  const { status, runs, settings } = facts;
  const report = runs.plan?.reports[0];
  const packages = facts.run?.packages ?? report?.packages;
  // After a crash between the making of the run and the writing of the status, the plan's report is not in the status.
  const missed = facts.run?.packages === undefined && report ? showPlan(status, report) : {};
  const known = facts.run && packages !== undefined ? { run: { ...facts.run, packages } } : {};
  const shown = { ...missed, ...known };
  if (run.going) return { ...followGoing(run, { state: "Running", message: exportMessage(packages) }), status: shown };
  if (run.state === "complete") {
    // The seal says nothing until it has ended, so all counts of the packages are published before there is one.
    const counts = showCounts({ ...status, ...shown }, run);
    if (!same(counts.progress, status.progress))
      return {
        kind: "step",
        state: "Running",
        message: exportMessage(packages),
        status: { ...shown, ...counts },
        requeueAfter: 0,
      };
    return {
      kind: "step",
      state: "Sealing",
      message: sealingMessage,
      status: shown,
      effects: [ensureRun(facts, "seal")],
    };
  }
  if (run.state === "failed") return endOrRepeat(facts, run, "Running");
  const progress = showProgress({ ...facts, status: { ...status, ...shown } }, run);
  const wanted = wantedParallelism(facts, packages ?? 1);
  const effects: Effect[] =
    run.parallelism !== undefined && run.parallelism !== wanted
      ? [{ do: "setRun", uid: run.uid, parallelism: wanted }]
      : [];
  const step = followActive(facts, run, { state: "Running", message: exportMessage(packages) });
  return {
    ...step,
    status: { ...shown, ...progress },
    effects: [...(step.effects ?? []), ...effects],
    requeueAfter: settings.progressSeconds,
  };
}

function followSeal(facts: Facts, run: RunView): PolicyResult {
  if (run.state === "complete" && run.reports[0]?.totals) return complete;
  if (run.going) return followGoing(run, { state: "Sealing", message: sealingMessage });
  if (run.state === "complete" || run.state === "failed") return endOrRepeat(facts, run, "Sealing");
  return followActive(facts, run, { state: "Sealing", message: sealingMessage });
}

/** What follows from a run that ended without a result: the attempt ends where a person must act, else the run is
 *  repeated. */
function endOrRepeat(facts: Facts, run: RunView, state: ReadyReason): PolicyResult {
  const error = decidingError(run);
  if (error?.class === "terminal")
    return { kind: "end", outcome: "Failed", reason: error.reason, message: error.message };
  // The Job has repeated each index of an Indexed run itself, so the run is repeated only where it waits for the world.
  if (run.state === "failed" && facts.runs.export === run && error?.class !== "waiting")
    return {
      kind: "end",
      outcome: "Failed",
      reason: error?.reason ?? "Internal",
      message:
        error?.message ??
        `its workers failed again and again without a report (${run.reason ?? "no reason is known"}); look at their logs, mend the cause, then raise retry to continue`,
    };
  const repeat = repeatRun(facts, run);
  if (repeat.exhausted)
    return {
      kind: "end",
      outcome: "Failed",
      reason: repeat.reason,
      message: `${repeat.message}; mend the cause, then raise retry to continue`,
    };
  return {
    kind: "step",
    state,
    message: repeat.message,
    cause: { reason: repeat.reason, message: repeat.why },
    status: { run: { ...facts.run!, ...(repeat.repeat ? { repeat: repeat.repeat } : {}) } },
    effects: repeat.effects,
    requeueAfter: repeat.requeueAfter,
  };
}

type Stage = Pick<ExportStep, "state" | "message">;

/** The step of a run that has not ended: it works, waits in a Kueue queue, or does not get on. */
function followActive({ spec, run: attempt }: Facts, run: RunView, stage: Stage): ExportStep {
  if (run.state === "suspended" && spec.queueName !== undefined)
    return {
      kind: "step",
      state: "Queued",
      message: `waiting until the Kueue queue ${spec.queueName} has room for its pods`,
      requeueAfter: 30,
    };
  // The export is not to be suspended: someone else has suspended the run, or a crash came between.
  if (run.state === "suspended")
    return { kind: "step", ...stage, effects: [{ do: "setRun", uid: run.uid, suspend: false }] };
  // No change of an object that is watched tells that a run gets no pods, or that what has ended does not go. So it is
  // looked at again.
  const again = { requeueAfter: run.live > 0 ? watchedSeconds : 10 };
  const cause = causeOf(run, attempt?.repeat);
  return cause
    ? { kind: "step", ...again, ...stage, message: `${stage.message}; ${cause.message}`, cause }
    : { kind: "step", ...again, ...stage };
}

/** The step while a run is being deleted, so that it can be made again. */
function followGoing(run: RunView, { state, message }: Stage): ExportStep {
  const cause = causeOf(run, undefined);
  return {
    kind: "step",
    state,
    requeueAfter: watchedSeconds,
    message: cause ? `${message}; ${cause.message}` : message,
    ...(cause && { cause }),
  };
}

/** The stage that an export has reached, for its summary. */
function stageReached({ runs, run }: Facts): ExportStep {
  if (runs.seal) return { kind: "step", state: "Sealing", message: sealingMessage };
  if (runs.export) return { kind: "step", state: "Running", message: exportMessage(run?.packages) };
  return { kind: "step", state: "Planning", message: planningMessage };
}

const wantedParallelism = ({ spec, run }: Facts, packages: number) =>
  Math.max(1, Math.min(spec.parallelism ?? 4, run?.parallelism ?? 1, packages));
