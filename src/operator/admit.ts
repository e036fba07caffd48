import { findCondition, isTrue, toSeconds } from "../api/conditions.ts";
import type { FhirExport } from "../api/fhirexport.gen.ts";
import { startDeadline } from "./accept.ts";
import type { ExportStep, Facts, PolicyResult } from "./facts.ts";
import { outcomeOf } from "./outcome.ts";
import type { ExportWorld } from "./port.ts";
import { defaultConcurrentExports } from "./share.ts";
import { makeOutput, makeRun } from "./task.ts";

export const planningMessage = "asking the source what it can do and how much it holds";

/** Starts an accepted export when its source has a free slot for which no export before it waits. What the attempt is
 *  started with is written into status.run before anything is made, so that an operator that continues after a crash
 *  makes the same. */
export function admit(facts: Facts): PolicyResult {
  const { export: object, source, target, attempt, now, settings, status } = facts;
  const late = startDeadline(facts);
  if (late) return late;
  const queued = waitForSlot(facts);
  if (queued) return queued;
  const startTime = toSeconds(now);
  const resolved = { export: object, source: source!, target: target! };
  return {
    kind: "step",
    state: "Planning",
    message: planningMessage,
    status: {
      run: makeRun(resolved, { attempt, startTime }, settings),
      output: makeOutput(resolved),
      startTime: status.startTime ?? startTime,
    },
    requeueAfter: 0,
  };
}

/** The wait for a free slot; undefined where it is this export's turn. */
export function waitForSlot({ source, running, settings, spec }: Facts): ExportStep | undefined {
  const limit = source?.spec.limits?.maxConcurrentExports ?? defaultConcurrentExports;
  const isFull = settings.maxExports !== undefined && running.all >= settings.maxExports;
  if (running.ahead < limit - running.source && !isFull) return undefined;
  return {
    kind: "step",
    state: "Queued",
    message: isFull
      ? `waiting for a free slot: ${settings.maxExports} exports run at a time over all sources (--max-exports)`
      : `waiting for a free slot of FhirSource ${spec.sourceRef.name}: ${limit} of its exports run at a time (limits.maxConcurrentExports)`,
    status: { queuePosition: running.ahead + 1 },
    requeueAfter: 10,
  };
}

/** Whether an export has started and puts load on its source, so that it counts against the limits. */
export function holdsSlot(object: FhirExport): boolean {
  const attempt = object.status?.run?.attempt;
  if (attempt === undefined || isTrue(object.status?.conditions, "Suspended")) return false;
  const outcome = outcomeOf(object);
  return !outcome || (outcome.value === "Failed" && outcome.attempt < attempt);
}

/** Whether an export waits for a slot. An export that no decision was made about yet counts, so that a younger one that
 *  is seen earlier does not overtake it. */
export function waitsForSlot(object: FhirExport): boolean {
  const { metadata, spec, status } = object;
  if (spec.suspend || spec.cancel || metadata.deletionTimestamp || holdsSlot(object)) return false;
  const outcome = outcomeOf(object);
  if (outcome && (outcome.value !== "Failed" || (spec.retry ?? 0) + 1 <= outcome.attempt)) return false;
  const accepted = findCondition(status?.conditions, "Accepted")?.status;
  return accepted === undefined || accepted === "True";
}

/** World.running of one export: how many of the other exports hold a slot, over all and of its source, and how many are
 *  before it in the queue for its source (greater priority, then older, then by name). */
export function countRunning(self: FhirExport, all: Iterable<FhirExport>): ExportWorld["running"] {
  const counts = { source: 0, all: 0, ahead: 0 };
  for (const other of all) {
    if (other.metadata.uid === self.metadata.uid) continue;
    const related =
      other.metadata.namespace === self.metadata.namespace && other.spec.sourceRef.name === self.spec.sourceRef.name;
    if (holdsSlot(other)) {
      counts.all += 1;
      if (related) counts.source += 1;
    } else if (related && waitsForSlot(other) && queuesBefore(other, self)) counts.ahead += 1;
  }
  return counts;
}

function queuesBefore(a: FhirExport, b: FhirExport): boolean {
  const priority = (b.spec.priority ?? 0) - (a.spec.priority ?? 0);
  if (priority !== 0) return priority < 0;
  const [one = "", two = ""] = [a.metadata.creationTimestamp, b.metadata.creationTimestamp];
  return one === two ? a.metadata.name < b.metadata.name : one < two;
}
