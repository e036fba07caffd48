import { finalizer } from "../api/names.ts";
import type { Decision } from "./end.ts";
import type { Facts } from "./facts.ts";
import { purgeOutput } from "./run-effects.ts";
import { addCondition, showState } from "./states.ts";

/** What happens to an export that is being deleted: with deletionPolicy Delete its finalizer holds it until its files
 *  are deleted. Its runs and Secrets are removed by the place (by owner references in Kubernetes). */
export function removeExport(facts: Facts): Decision {
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
          note: `the namespace is being deleted, so no pod could be started that deletes the files in ${where}; delete them by hand`,
        },
        ...release.effects,
      ],
    };
  const purge = purgeOutput(facts, true);
  if (purge.state === "done") return release;
  if (purge.state === "failed")
    return {
      status: addCondition(facts, status, {
        type: "Purged",
        status: "False",
        reason: purge.reason,
        message: purge.message,
      }),
      effects: [],
    };
  const shown = facts.outcome
    ? status
    : showState(facts, status, { state: "Cancelling", message: "the export is being deleted" });
  const { run } = shown;
  const next = run && purge.repeat ? { ...shown, run: { ...run, repeat: purge.repeat } } : shown;
  return {
    status: addCondition(facts, next, {
      type: "Purged",
      status: "Unknown",
      reason: "Purging",
      message: `${purge.message}; to keep the files, set deletionPolicy to Retain`,
    }),
    effects: purge.effects,
    requeueAfter: purge.requeueAfter ?? 15,
  };
}
