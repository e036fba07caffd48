import { findCondition, isTrue, toSeconds } from "../api/conditions.ts";
import type { FhirExport } from "../api/fhirexport.gen.ts";
import { startDeadline } from "./accept.ts";
import type { Facts, Verdict } from "./facts.ts";
import { outcomeOf } from "./outcome.ts";
import type { ExportWorld } from "./port.ts";
import { makeOutput, makeRun } from "./task.ts";

export const planningMessage = "asking the source what there is";

/** Starts an accepted export when its source has a free slot that no one before it waits for. What the attempt is started with is written
 *  into status.run before anything is made, so that whoever goes on after a crash makes the same. */
export function admit(facts: Facts): Verdict {
  const { export: object, source, target, attempt, now, settings, status } = facts;
  const late = startDeadline(facts);
  if (late) return late;
  const queued = queue(facts);
  if (queued) return queued;
  const startTime = toSeconds(now);
  return {
    state: "Planning",
    message: planningMessage,
    status: {
      run: makeRun(object, source!, target!, attempt, startTime, settings),
      output: makeOutput(object, target!),
      startTime: status.startTime ?? startTime,
    },
    requeueAfter: 0,
  };
}

/** The place in the queue, or undefined when it is this export's turn. */
export function queue({ source, running, settings, spec }: Facts): Verdict | undefined {
  const slots = (source?.spec.limits?.maxConcurrentExports ?? 2) - running.source;
  const overall = (settings.maxExports ?? Number.POSITIVE_INFINITY) - running.all;
  if (running.ahead < slots && overall > 0) return undefined;
  return {
    state: "Queued",
    message: `waiting for one of the exports that FhirSource ${spec.sourceRef.name} may run at once`,
    status: { queuePosition: running.ahead + 1 },
    requeueAfter: 10,
  };
}

/** Whether an export has started and loads its source: it counts against the limits. */
export function holdsSlot(object: FhirExport): boolean {
  const attempt = object.status?.run?.attempt;
  if (attempt === undefined || isTrue(object.status?.conditions, "Suspended")) return false;
  const outcome = outcomeOf(object);
  return !outcome || (outcome.value === "Failed" && outcome.attempt < attempt);
}

/** Whether an export waits for a slot. One that was never looked at counts, so that it cannot be overtaken by being slower to appear. */
export function waitsForSlot(object: FhirExport): boolean {
  const { metadata, spec, status } = object;
  if (spec.suspend || spec.cancel || metadata.deletionTimestamp || holdsSlot(object)) return false;
  const outcome = outcomeOf(object);
  if (outcome && (outcome.value !== "Failed" || (spec.retry ?? 0) + 1 <= outcome.attempt)) return false;
  const accepted = findCondition(status?.conditions, "Accepted")?.status;
  return accepted === undefined || accepted === "True";
}

/** World.running of one export among all of the place: those that hold a slot, and those of its source that are before it in the queue
 *  (greater priority, then older, then by name). */
export function countRunning(self: FhirExport, all: Iterable<FhirExport>): ExportWorld["running"] {
  const counts = { source: 0, all: 0, ahead: 0 };
  for (const other of all) {
    if (other.metadata.uid === self.metadata.uid) continue;
    const related =
      other.metadata.namespace === self.metadata.namespace && other.spec.sourceRef.name === self.spec.sourceRef.name;
    if (holdsSlot(other)) {
      counts.all += 1;
      if (related) counts.source += 1;
    } else if (related && waitsForSlot(other) && isBefore(other, self)) counts.ahead += 1;
  }
  return counts;
}

function isBefore(a: FhirExport, b: FhirExport): boolean {
  const priority = (b.spec.priority ?? 0) - (a.spec.priority ?? 0);
  if (priority !== 0) return priority < 0;
  const [one = "", two = ""] = [a.metadata.creationTimestamp, b.metadata.creationTimestamp];
  return one === two ? a.metadata.name < b.metadata.name : one < two;
}
