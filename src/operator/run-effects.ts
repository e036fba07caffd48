import type { FhirExportRun } from "../api/fhirexport.gen.ts";
import { runName } from "../api/names.ts";
import type { Command } from "../contracts.ts";
import type { Effect, RunSpec, RunView } from "../effects.ts";
import type { Facts } from "./facts.ts";
import { repeatRun } from "./repeat.ts";
import { makeTask } from "./task.ts";

/** Asks for the run of a command. The Task goes with the first run of an attempt; later runs find it in the Secret (or
 *  file) of the attempt. */
export function ensureRun(facts: Facts, command: Command, completions = 1, parallelism = 1): Effect {
  const { export: object, source, target, run, attempt, settings, spec } = facts;
  const isFirst = Object.keys(facts.runs).length === 0;
  const wanted: RunSpec = {
    name: runName(object.metadata, command, attempt),
    command,
    attempt,
    ...(isFirst && run && source && target
      ? { task: makeTask({ export: object, source, target }, run, settings) }
      : {}),
    completions,
    parallelism,
    // Kueue starts suspended Jobs itself when its queue has room.
    suspend: spec.queueName !== undefined,
  };
  return { do: "ensureRun", run: wanted };
}

interface WorkersStop {
  /** no process of any attempt is left, or can still be started */
  stopped: boolean;
  /** a process cannot be stopped, since its node does not answer */
  stuck: boolean;
  effects: Effect[];
  message: string;
}

/** Stops all runs that work on the export, except the purge. */
export function stopWorkers(facts: Facts): WorkersStop {
  const runs = facts.allRuns.filter((run) => run !== facts.runs.purge);
  const live = runs.reduce((sum, run) => sum + run.live, 0);
  const active = runs.filter((run) => run.state === "active" && !run.going);
  const stuck = runs.find((run) => (run.live > 0 || run.going) && run.blocked);
  return {
    stopped: live === 0 && active.length === 0 && !runs.some((run) => run.going),
    stuck: stuck !== undefined,
    effects: active.map((run) => stopRun(facts, run)),
    message: stuck?.blocked ?? "waiting until its workers have stopped",
  };
}

/** Suspends a run. Kueue would start a suspended Job again, so a Job of a Kueue queue is deleted; it can be made again,
 *  since commands continue from what is stored. */
export const stopRun = ({ spec }: Facts, { uid }: RunView): Effect =>
  spec.queueName === undefined ? { do: "setRun", uid, suspend: true } : { do: "deleteRun", uid };

/** How far the deletion of an export's files is. */
type PurgeProgress =
  | { state: "done"; wroteNothing: boolean }
  | { state: "failed"; reason: string; message: string }
  | { state: "pending"; effects: Effect[]; message: string; repeat?: FhirExportRun["repeat"]; requeueAfter?: number };

/** Deletes what the export wrote, as soon as no worker is left: by the purge run, which is repeated while the storage
 *  does not answer.
 *  @param insist the run is also repeated where the storage refuses or objects are left */
export function purgeOutput(facts: Facts, insist = false): PurgeProgress {
  const { status, runs, allRuns } = facts;
  if (!status.run && allRuns.length === 0 && !status.output) return { state: "done", wroteNothing: true };
  const { stopped, effects, message } = stopWorkers(facts);
  if (!stopped) return { state: "pending", effects, message };
  const { purge: run } = runs;
  if (!run) return { state: "pending", effects: [ensureRun(facts, "purge")], message: deletingMessage };
  const [report] = run.reports;
  if (run.going || run.state === "active" || run.state === "suspended")
    return { state: "pending", effects: [], message: run.blocked ?? deletingMessage };
  if (run.state === "complete" && report && !(insist && report.left))
    return report.left
      ? { state: "failed", reason: "ObjectsLeft", message: leftMessage(report.left) }
      : { state: "done", wroteNothing: false };
  if (report?.error?.class === "terminal" && !insist)
    return { state: "failed", reason: report.error.reason, message: report.error.message };
  const repeat = repeatRun(facts, run, insist);
  if (repeat.exhausted) return { state: "failed", reason: repeat.reason, message: repeat.message };
  return {
    state: "pending",
    effects: repeat.effects,
    message: repeat.message,
    repeat: repeat.repeat,
    requeueAfter: repeat.requeueAfter,
  };
}

const deletingMessage = "deleting its files";
const leftMessage = (count: number) =>
  `${count} objects are still in its folder, although its files were deleted; end what else writes there, then delete them by hand`;
