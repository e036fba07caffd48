import { dropConditions, findCondition, isTrue } from "../api/conditions.ts";
import { finalizer } from "../api/names.ts";
import type { Failure, ReadyReason } from "../contracts.ts";
import type { Effect } from "../effects.ts";
import { accept, notYetChecked, secondsSince } from "./accept.ts";
import { admit } from "./admit.ts";
import { activeDeadline, advance, resume, suspend } from "./advance.ts";
import { concludeAttempt, type Decision, endStatus, isEndShown, settleEnded } from "./end.ts";
import { type AttemptEnd, type ExportStep, type Facts, type PolicyResult, readFacts } from "./facts.ts";
import type { Outcome } from "./outcome.ts";
import type { ExportWorld } from "./port.ts";
import { removeExport } from "./remove.ts";
import { stopWorkers } from "./run-effects.ts";
import type { Settings } from "./settings.ts";
import { showState } from "./states.ts";

export type { Decision } from "./end.ts";

/** All behaviour of an export, as a pure function: from the world as it is to the status to show and the effects to
 *  apply, in their order, before the status is written. The operator may be stopped after any effect: the next decision
 *  comes to the same end. docs/internals/controller.md describes the whole.
 *
 *  1. An object that is being deleted: `removeExport`.
 *  2. An attempt that has ended: its end is shown, then `settleEnded`.
 *  3. Else the policies, see `applyPolicies`.
 *
 *  @param effectFailure why the effects of the last decision could not be applied */
export function decide(world: ExportWorld, now: Date, settings: Settings, effectFailure?: Failure): Decision {
  const facts = readFacts(world, now, settings, effectFailure);
  const decision = decideFrom(facts);
  // The event comes before the outcome. After the outcome the next attempt may begin at once, and the end of this one
  // would never be announced.
  const outcomes = decision.effects.filter((effect) => effect.do === "outcome");
  const others = decision.effects.filter((effect) => effect.do !== "outcome");
  return {
    ...decision,
    effects: [...finalizerEffect(facts), ...others, ...announceState(facts, decision), ...outcomes],
  };
}

function decideFrom(facts: Facts): Decision {
  const { outcome } = facts;
  if (facts.export.metadata.deletionTimestamp) return removeExport(facts);
  if (outcome)
    return isEndShown(facts, outcome)
      ? settleEnded(facts)
      : { status: endStatus(facts, recoverEnd(facts, outcome)), effects: [], requeueAfter: 0 };
  const result = applyPolicies(facts);
  return result.kind === "end" ? concludeAttempt(facts, result) : continueWith(facts, result);
}

/** The finalizer follows deletionPolicy, and is set before anything is written to storage. */
function finalizerEffect({ export: { metadata }, spec }: Facts): Effect[] {
  const isWanted = spec.deletionPolicy === "Delete";
  if (metadata.deletionTimestamp || isWanted === (metadata.finalizers ?? []).includes(finalizer)) return [];
  return [{ do: "finalizer", on: isWanted }];
}

/** The policies, one per line. The first that decides something is followed. */
function applyPolicies(facts: Facts): PolicyResult {
  const { spec, run, effectFailure } = facts;
  if (spec.cancel) return cancel(facts);
  if (effectFailure?.class === "terminal")
    return { kind: "end", outcome: "Failed", reason: effectFailure.reason, message: effectFailure.message };
  if (!run) {
    const early = accept(facts);
    if (early?.kind === "end") return early;
    return spec.suspend ? suspend(facts) : (early ?? admit(facts));
  }
  if (!spec.suspend) return resume(facts) ?? activeDeadline(facts) ?? advance(facts);
  // An export whose last run has ended is not suspended any more.
  const next = advance(facts);
  return next.kind === "end" ? next : suspend(facts);
}

const cancelledMessage = "cancelled";

/** An export is cancelled as soon as none of its workers can write any more. */
function cancel(facts: Facts): PolicyResult {
  const { stopped, stuck, effects, message } = stopWorkers(facts);
  if (stopped) return { kind: "end", outcome: "Cancelled", reason: "Cancelled", message: cancelledMessage };
  return { kind: "step", state: stuck ? "WaitingForNode" : "Cancelling", message, effects, requeueAfter: 15 };
}

function continueWith(facts: Facts, step: ExportStep): Decision {
  const { effectFailure, attempt } = facts;
  const { queuePosition: _, completionTime: __, expirationTime: ___, ...old } = facts.status;
  const before =
    old.attempt === attempt
      ? old
      : { ...old, conditions: dropConditions(old.conditions, "Purged", "Exact", "PartialErrors") };
  // A run that cannot be made yet is shown with the reason, and tried again soon.
  const message = effectFailure ? `${step.message}; ${effectFailure.message}` : step.message;
  const cause = effectFailure ? { reason: effectFailure.reason, message: effectFailure.message } : step.cause;
  const requeueAfter = sooner(effectFailure ? 30 : step.requeueAfter, secondsToDeadline(facts));
  const effects = step.effects ?? [];
  return {
    status: showState(facts, { ...before, ...step.status }, { state: step.state, message, cause }),
    effects: effectFailure ? effects.filter((effect) => effect.do !== "ensureRun") : effects,
    ...(requeueAfter === undefined ? {} : { requeueAfter }),
  };
}

/** Seconds until startDeadlineSeconds or activeDeadlineSeconds is over. It may be that nothing else wakes the export at
 *  that time. */
function secondsToDeadline({ export: { metadata }, spec, run, attempt, now }: Facts): number | undefined {
  const [seconds, since] = run
    ? [spec.activeDeadlineSeconds, run.startTime]
    : [spec.startDeadlineSeconds, metadata.creationTimestamp];
  if (seconds === undefined || spec.suspend || spec.cancel || (!run && attempt > 1)) return undefined;
  return Math.max(1, seconds - secondsSince(since, now));
}

const sooner = (a: number | undefined, b: number | undefined) =>
  a === undefined || b === undefined ? (a ?? b) : Math.min(a, b);

/** How an attempt ended whose outcome was written, but not its status: the policies are applied once more to what is
 *  left of it. */
function recoverEnd(facts: Facts, outcome: Outcome): AttemptEnd {
  const { outcome: _, ...open } = facts;
  if (outcome.value === "Failed") {
    const result = applyPolicies({ ...open, spec: { ...open.spec, cancel: false, suspend: false } });
    if (result.kind === "end" && result.outcome === "Failed") return result;
    return {
      kind: "end",
      outcome: "Failed",
      reason: "Internal",
      message: "the attempt failed, but the cause was lost together with the status; raise retry to continue",
    };
  }
  return {
    kind: "end",
    outcome: outcome.value,
    reason: outcome.value,
    message: outcome.value === "Cancelled" ? cancelledMessage : "",
  };
}

/** The states whose begin is an event. */
export const announcedStates: ReadonlySet<string> = new Set<ReadyReason>([
  "Waiting",
  "Planning",
  "Running",
  "Suspended",
  "Complete",
  "Cancelled",
  "Refused",
  "Failed",
]);
const warningStates: ReadonlySet<string> = new Set<ReadyReason>(["Waiting", "Refused", "Failed"]);

/** An event where the state changes. It comes after the effects that cause the change. */
function announceState({ status: before, attempt }: Facts, { status }: Decision): Effect[] {
  const [old, now] = [findCondition(before.conditions, "Ready"), findCondition(status.conditions, "Ready")];
  if (!now || !announcedStates.has(now.reason) || now.message.endsWith(notYetChecked)) return [];
  if (now.reason === old?.reason && before.attempt === attempt && !old.message.endsWith(notYetChecked)) return [];
  const reason =
    now.reason === "Failed" || now.reason === "Refused"
      ? (findCondition(status.conditions, "Failed")?.reason ?? now.reason)
      : now.reason;
  const isDoubtful = findCondition(status.conditions, "Exact") && !isTrue(status.conditions, "Exact");
  const note = isDoubtful ? `${now.message}; not proven to be exact, see the condition Exact` : now.message;
  return [{ do: "event", warning: warningStates.has(now.reason), reason, note: (note || now.reason).slice(0, 1024) }];
}
