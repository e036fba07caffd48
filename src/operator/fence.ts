import type { FhirExportRun } from "../api/fhirexport.gen.ts";
import { runName } from "../api/names.ts";
import type { Command, Effect, RunSpec, RunView } from "../contracts.ts";
import type { Facts } from "./facts.ts";
import { repeat } from "./repeat.ts";
import { makeTask } from "./task.ts";

/** The run of a command as decide asks for it. The Task goes with an attempt's first run; later ones reuse the Secret (or file) by name. */
export function ensure(facts: Facts, command: Command, completions = 1, parallelism = 1): Effect {
  const { export: object, source, target, run, attempt, settings, spec } = facts;
  const first = Object.keys(facts.runs).length === 0;
  const made: RunSpec = {
    name: runName(object.metadata, command, attempt),
    command,
    attempt,
    ...(first && run && source && target ? { task: makeTask(object, source, target, run, settings) } : {}),
    completions,
    parallelism,
    // Kueue starts suspended Jobs itself when there is room
    suspend: spec.queueName !== undefined,
  };
  return { do: "ensureRun", run: made };
}

/** Stops what works on the export. Fenced = no process of any attempt that is not proven gone. */
export function fence(facts: Facts): { fenced: boolean; stuck: boolean; effects: Effect[]; message: string } {
  const runs = facts.all.filter((run) => run !== facts.runs.purge);
  const live = runs.reduce((sum, run) => sum + run.live, 0);
  const open = runs.filter((run) => run.state === "active" && !run.going);
  const effects = open.map((run) => stop(facts, run));
  const stuck = runs.find((run) => run.live > 0 && run.blocked);
  return {
    fenced: live === 0 && open.length === 0 && !runs.some((run) => run.going),
    stuck: stuck !== undefined,
    effects,
    message: stuck?.blocked ?? "stopping its workers",
  };
}

/** A Job that Kueue manages would be started again by it, so it is deleted; commands are idempotent. */
export const stop = ({ spec }: Facts, { uid }: RunView): Effect =>
  spec.queueName === undefined ? { do: "setRun", uid, suspend: true } : { do: "deleteRun", uid };

export type Purge =
  | { state: "done"; nothing: boolean }
  | { state: "failed"; reason: string; message: string }
  | { state: "pending"; effects: Effect[]; message: string; repeat?: FhirExportRun["repeat"]; requeueAfter?: number };

/** Deletes what the export wrote, once no worker is left: the purge run, repeated while the storage is not there, and with `insist` also
 *  when it is refused. */
export function purge(facts: Facts, insist = false): Purge {
  const { status, runs, all } = facts;
  if (!status.run && all.length === 0 && !status.output) return { state: "done", nothing: true };
  const { fenced, effects, message } = fence(facts);
  if (!fenced) return { state: "pending", effects, message };
  const { purge: run } = runs;
  if (!run) return { state: "pending", effects: [ensure(facts, "purge")], message: "deleting its files" };
  const [report] = run.reports;
  if (run.going || run.state === "active" || run.state === "suspended")
    return { state: "pending", effects: [], message: run.blocked ?? "deleting its files" };
  if (run.state === "complete" && report && !(insist && report.left))
    return report.left
      ? { state: "failed", reason: "ObjectsLeft", message: `${report.left} objects could not be deleted` }
      : { state: "done", nothing: false };
  if (report?.error?.class === "terminal" && !insist)
    return { state: "failed", reason: report.error.reason, message: report.error.message };
  const again = repeat(facts, run, insist);
  if (again.exhausted) return { state: "failed", reason: again.reason, message: again.message };
  return {
    state: "pending",
    effects: again.effects,
    message: again.message,
    repeat: again.repeat,
    requeueAfter: again.requeueAfter,
  };
}
