import { finalizer } from "../api/names.ts";
import type { Decision } from "./end.ts";
import type { Facts } from "./facts.ts";
import { purge } from "./fence.ts";
import { addCondition, showState } from "./states.ts";

/** An export that is being deleted: with deletionPolicy Delete its finalizer holds it until its files are gone. What it owns (runs, Secrets)
 *  is collected by the place. */
export function remove(facts: Facts): Decision {
  const { export: object, spec, status, closing } = facts;
  if (!object.metadata.finalizers?.includes(finalizer)) return { status, effects: [] };
  const release: Decision = { status, effects: [{ do: "finalizer", on: false }] };
  if (spec.deletionPolicy !== "Delete") return release;
  const where = `${status.output?.container ?? "volume"}/${status.output?.prefix ?? ""}`;
  if (closing)
    return {
      ...release,
      effects: [
        {
          do: "event",
          warning: true,
          reason: "OutputKept",
          note: `the namespace is being deleted, so the files in ${where} could not be deleted`,
        },
        ...release.effects,
      ],
    };
  const step = purge(facts, true);
  if (step.state === "done") return release;
  if (step.state === "failed")
    return { status: addCondition(facts, status, "Purged", "False", step.reason, step.message), effects: [] };
  const shown = facts.outcome ? status : showState(facts, status, "Cancelling", "being deleted");
  const { run } = shown;
  const next = run && step.repeat ? { ...shown, run: { ...run, repeat: step.repeat } } : shown;
  return {
    status: addCondition(
      facts,
      next,
      "Purged",
      "Unknown",
      "Purging",
      `${step.message}; set deletionPolicy to Retain to keep the files`,
    ),
    effects: step.effects,
    requeueAfter: step.requeueAfter ?? 15,
  };
}
