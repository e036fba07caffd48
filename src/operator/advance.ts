import { isTrue, toSeconds } from "../api/conditions.ts";
import type { FhirExportStatus } from "../api/fhirexport.gen.ts";
import { same } from "../api/rules.ts";
import type { Effect, ReadyReason, RunView } from "../contracts.ts";
import { secondsSince } from "./accept.ts";
import { planningMessage, queue } from "./admit.ts";
import { beginSample, showPlan, showProgress } from "./counts.ts";
import type { Facts, Verdict } from "./facts.ts";
import { ensure, stop } from "./fence.ts";
import { lastError, repeat } from "./repeat.ts";
import { makeOutput, makeRun } from "./task.ts";

/** The next step of an export that was admitted: plan, then export, then seal. What is done is read off the runs each time. */
export function advance(facts: Facts): Verdict {
  const { runs, attempt, all } = facts;
  const old = all.find((run) => run.attempt !== attempt && (run.live > 0 || run.state === "active"));
  if (old)
    return {
      state: "WaitingForNode",
      message: `workers of attempt ${old.attempt} are not gone yet`,
      effects: stopOld(facts, old),
    };
  const { seal, export: exporting, plan } = runs;
  if (seal) return sealing(facts, seal);
  if (exporting) return exportingStep(facts, exporting);
  return planning(facts, plan);
}

/** The end of an attempt that took too long, its workers stopped. */
export function activeDeadline(facts: Facts): Verdict | undefined {
  const { spec, run, now, all } = facts;
  const seconds = spec.activeDeadlineSeconds;
  if (seconds === undefined || !run || secondsSince(run.startTime, now) < seconds) return undefined;
  return {
    end: "Failed",
    reason: "DeadlineExceeded",
    message: `it did not end within activeDeadlineSeconds (${seconds}); what is stored is kept, raise retry to go on`,
    effects: all.filter((one) => one.state === "active" && !one.going).map((one) => stop(facts, one)),
  };
}

/** Paused: pods are freed, what is stored stays, its slot is free for others. */
export function suspend(facts: Facts): Verdict {
  const active = facts.all.filter((run) => run.state === "active" && !run.going);
  const live = facts.all.some((run) => run.live > 0);
  return {
    state: "Suspended",
    message: live ? "suspended; its workers are stopping" : "suspended; set spec.suspend to false to go on",
    effects: active.map((run) => stop(facts, run)),
  };
}

/** Lets a suspended export go on when its source has a free slot; its deadline begins anew, as a Job's does. */
export function resume(facts: Facts): Verdict | undefined {
  const { status, run, runs, spec, now, source } = facts;
  if (!run || !isTrue(status.conditions, "Suspended")) return undefined;
  const suspended = Object.values(runs).filter((one) => one.state === "suspended" && !one.going);
  const atWork = Object.values(runs).some((one) => one.state === "active");
  const queued = source && !atWork ? queue(facts) : undefined;
  // it keeps Suspended while it waits: that is what marks its slot as free
  if (queued && "state" in queued) return { ...queued, state: "Suspended", message: `going on; ${queued.message}` };
  return {
    ...stage(facts),
    status: { run: { ...run, startTime: toSeconds(now) } },
    effects: spec.queueName === undefined ? suspended.map(({ uid }) => ({ do: "setRun", uid, suspend: false })) : [],
    requeueAfter: 0,
  };
}

function planning(facts: Facts, plan: RunView | undefined): Verdict {
  const { export: object, source, target, run, attempt, settings, status } = facts;
  if (!run) throw new Error("an export that is not admitted cannot be planned");
  if (plan) {
    const report = plan.reports[0];
    if (plan.going) return { state: "Planning", message: "planning" };
    if (plan.state === "complete" && report?.packages === 0)
      return { end: "Complete", reason: "Complete", message: "" };
    if (plan.state === "complete" && report?.packages !== undefined)
      return startExport(facts, report.packages, showPlan(status, report));
    if (plan.state === "complete" || plan.state === "failed") return failed(facts, plan, "Planning");
    // a small export is done by the plan's pod
    if (plan.progress.some(({ totals }) => totals.resources > 0))
      return {
        ...atWork(facts, plan, "Running", "exporting in one pod"),
        status: showProgress(facts, plan),
        requeueAfter: settings.progressSeconds,
      };
    return atWork(facts, plan, "Planning", planningMessage);
  }
  if (run.packages !== undefined) return startExport(facts, run.packages, {});
  if (!source || !target)
    return {
      state: "Waiting",
      message: `waiting: ${!source ? "FhirSource" : "ExportTarget"} was deleted`,
      requeueAfter: 60,
    };
  // nothing was made of this attempt, or it was all removed: what it is to be started with follows source, target and spec until then
  const { repeat: again, sample } = run;
  const fresh = {
    ...makeRun(object, source, target, attempt, run.startTime, settings),
    ...(again ? { repeat: again } : {}),
    ...(sample ? { sample } : {}),
  };
  const output = { ...status.output, ...makeOutput(object, target) };
  if (!same(fresh, run) || !same(output, status.output))
    return { state: "Planning", message: planningMessage, status: { run: fresh, output }, requeueAfter: 0 };
  return { state: "Planning", message: plannedAgain(status) ?? planningMessage, effects: [ensure(facts, "plan")] };
}

function startExport(facts: Facts, packages: number, shown: Partial<FhirExportStatus>): Verdict {
  const run = { ...facts.run!, packages, sample: facts.run?.sample ?? beginSample(facts) };
  return {
    state: "Running",
    message: exportMessage(packages),
    status: { ...shown, run },
    effects: [ensure(facts, "export", packages, wantedParallelism(facts, packages))],
  };
}

function exportingStep(facts: Facts, run: RunView): Verdict {
  const { status, runs, settings } = facts;
  const report = runs.plan?.reports[0];
  const packages = facts.run?.packages ?? report?.packages;
  // the plan's report may have been missed by a crash between making the run and writing the status
  const missed = facts.run?.packages === undefined && report ? showPlan(status, report) : {};
  const known = facts.run && packages !== undefined ? { run: { ...facts.run, packages } } : {};
  const shown = { ...missed, ...known };
  if (run.going) return { state: "Running", message: exportMessage(packages), status: shown };
  if (run.state === "complete")
    return { state: "Sealing", message: "writing the manifest", status: shown, effects: [ensure(facts, "seal")] };
  if (run.state === "failed") return failed(facts, run, "Running");
  const progress = showProgress({ ...facts, status: { ...status, ...shown } }, run);
  const wanted = wantedParallelism(facts, packages ?? 1);
  const effects: Effect[] =
    run.parallelism !== undefined && run.parallelism !== wanted
      ? [{ do: "setRun", uid: run.uid, parallelism: wanted }]
      : [];
  const step = atWork(facts, run, "Running", exportMessage(packages));
  return {
    ...step,
    status: { ...shown, ...progress },
    effects: [...(step.effects ?? []), ...effects],
    requeueAfter: settings.progressSeconds,
  };
}

function sealing(facts: Facts, run: RunView): Verdict {
  if (run.going) return { state: "Sealing", message: "writing the manifest" };
  if (run.state === "complete" && run.reports[0]?.totals) return { end: "Complete", reason: "Complete", message: "" };
  if (run.state === "complete" || run.state === "failed") return failed(facts, run, "Sealing");
  return atWork(facts, run, "Sealing", "writing the manifest");
}

/** A run that ended without a result: the end of the export when a person must act, else it is repeated. */
function failed(facts: Facts, run: RunView, state: ReadyReason): Verdict {
  const error = lastError(run);
  if (error?.class === "terminal") return { end: "Failed", reason: error.reason, message: error.message };
  // an Indexed run has had its repetitions, unless it waits for the world
  if (run.state === "failed" && facts.runs.export === run && error?.class !== "waiting")
    return {
      end: "Failed",
      reason: error?.reason ?? "Internal",
      message: error?.message ?? `its workers failed again and again (${run.reason ?? "unknown"})`,
    };
  const again = repeat(facts, run);
  if (again.exhausted) return { end: "Failed", reason: again.reason, message: again.message };
  return {
    state,
    message: again.message,
    status: { run: { ...facts.run!, ...(again.repeat ? { repeat: again.repeat } : {}) } },
    effects: again.effects,
    requeueAfter: again.requeueAfter,
  };
}

function atWork(
  { spec }: Facts,
  run: RunView,
  state: ReadyReason,
  message: string,
): Verdict & { state: ReadyReason; effects?: Effect[] } {
  if (run.state === "suspended" && spec.queueName !== undefined)
    return { state: "Queued", message: `waiting for room in the queue ${spec.queueName}`, requeueAfter: 30 };
  // someone else suspended it, or a crash came between; the export is not to be suspended
  if (run.state === "suspended") return { state, message, effects: [{ do: "setRun", uid: run.uid, suspend: false }] };
  if (run.blocked) return { state, message: `${message}; it does not get on: ${run.blocked}`, requeueAfter: 15 };
  // why a run gets no pods at all is told by nothing that we watch
  return run.live > 0 ? { state, message } : { state, message, requeueAfter: 10 };
}

/** The stage that a run has reached, for the summary. */
function stage({ runs, run }: Facts): { state: ReadyReason; message: string } {
  if (runs.seal) return { state: "Sealing", message: "writing the manifest" };
  if (runs.export) return { state: "Running", message: exportMessage(run?.packages) };
  return { state: "Planning", message: planningMessage };
}

const exportMessage = (packages: number | undefined) =>
  packages === undefined ? "exporting" : `exporting ${packages} package${packages === 1 ? "" : "s"}`;

/** A repeated plan keeps saying why it is repeated until it got through. */
const plannedAgain = ({ run, conditions }: FhirExportStatus) =>
  run?.repeat ? conditions?.find(({ type }) => type === "Ready")?.message : undefined;

const wantedParallelism = ({ spec, run }: Facts, packages: number) =>
  Math.max(1, Math.min(spec.parallelism ?? 4, run?.parallelism ?? 1, packages));

/** Workers of an attempt that failed are on their way out; what still runs is stopped. */
const stopOld = (facts: Facts, run: RunView): Effect[] =>
  run.state === "active" && !run.going ? [stop(facts, run)] : [];
