import { dropConditions, findCondition, isTrue } from "../api/conditions.ts";
import { finalizer } from "../api/names.ts";
import type { Effect, Failure } from "../contracts.ts";
import { accept, notSeen, secondsSince } from "./accept.ts";
import { admit } from "./admit.ts";
import { activeDeadline, advance, resume, suspend } from "./advance.ts";
import { conclude, type Decision, endStatus, isShown, settled } from "./end.ts";
import { type End, type Facts, readFacts, type Step, type Verdict } from "./facts.ts";
import { fence } from "./fence.ts";
import type { ExportWorld } from "./port.ts";
import { remove } from "./remove.ts";
import type { Settings } from "./settings.ts";
import { showState } from "./states.ts";

export type { Decision } from "./end.ts";

/** All that an export does (DESIGN section 5): from the world as it is, the status to show and the effects to apply, in order, before the
 *  status is written. Everything is safe to be stopped after any effect: the next decision comes to the same end. `failed` = why the effects
 *  of the last decision could not be applied. */
export function decide(world: ExportWorld, now: Date, settings: Settings, failed?: Failure): Decision {
  const facts = readFacts(world, now, settings, failed);
  const decision = judgeAll(facts);
  // told before the outcome is written: after it the next attempt may begin at once, and this one would never be told of
  const ending = decision.effects.filter((effect) => effect.do === "outcome");
  const others = decision.effects.filter((effect) => effect.do !== "outcome");
  return { ...decision, effects: [...hold(facts), ...others, ...announce(facts, decision), ...ending] };
}

function judgeAll(facts: Facts): Decision {
  const { outcome } = facts;
  if (facts.export.metadata.deletionTimestamp) return remove(facts);
  if (outcome)
    return isShown(facts, outcome)
      ? settled(facts)
      : { status: endStatus(facts, again(facts, outcome)), effects: [], requeueAfter: 0 };
  const verdict = judge(facts);
  return "end" in verdict ? conclude(facts, verdict) : goOn(facts, verdict);
}

/** The finalizer is there before anything is written, and follows deletionPolicy. */
function hold({ export: { metadata }, spec }: Facts): Effect[] {
  const wanted = spec.deletionPolicy === "Delete";
  if (metadata.deletionTimestamp || wanted === (metadata.finalizers ?? []).includes(finalizer)) return [];
  return [{ do: "finalizer", on: wanted }];
}

/** One line per policy, first come first served. */
function judge(facts: Facts): Verdict {
  const { spec, run, failed } = facts;
  if (spec.cancel) return cancel(facts);
  if (failed?.class === "terminal") return { end: "Failed", reason: failed.reason, message: failed.message };
  if (!run) {
    const early = accept(facts);
    if (early && "end" in early) return early;
    return spec.suspend ? suspend(facts) : (early ?? admit(facts));
  }
  if (!spec.suspend) return resume(facts) ?? activeDeadline(facts) ?? advance(facts);
  // what has already ended is not paused
  const next = advance(facts);
  return "end" in next ? next : suspend(facts);
}

/** An export is cancelled when none of its workers can write any more. */
function cancel(facts: Facts): Verdict {
  const { fenced, stuck, effects, message } = fence(facts);
  if (fenced) return { end: "Cancelled", reason: "Cancelled", message: "cancelled" };
  return { state: stuck ? "WaitingForNode" : "Cancelling", message, effects, requeueAfter: 15 };
}

function goOn(facts: Facts, step: Step): Decision {
  const { failed, attempt } = facts;
  const { queuePosition: _, completionTime: __, expirationTime: ___, ...old } = facts.status;
  const before =
    old.attempt === attempt
      ? old
      : { ...old, conditions: dropConditions(old.conditions, "Purged", "Exact", "PartialErrors") };
  // what cannot be made yet is shown, and tried again soon
  const message = failed ? `${step.message}; ${failed.message}` : step.message;
  const requeueAfter = least(failed ? 30 : step.requeueAfter, untilDeadline(facts));
  return {
    status: showState(facts, { ...before, ...step.status }, step.state, message),
    effects: failed ? (step.effects ?? []).filter((effect) => effect.do !== "ensureRun") : (step.effects ?? []),
    ...(requeueAfter === undefined ? {} : { requeueAfter }),
  };
}

/** Seconds until startDeadlineSeconds or activeDeadlineSeconds can be over: nothing else may happen until then. */
function untilDeadline({ export: { metadata }, spec, run, attempt, now }: Facts): number | undefined {
  const [seconds, since] = run
    ? [spec.activeDeadlineSeconds, run.startTime]
    : [spec.startDeadlineSeconds, metadata.creationTimestamp];
  if (seconds === undefined || spec.suspend || spec.cancel || (!run && attempt > 1)) return undefined;
  return Math.max(1, seconds - secondsSince(since, now));
}

const least = (a: number | undefined, b: number | undefined) =>
  a === undefined || b === undefined ? (a ?? b) : Math.min(a, b);

/** How an attempt ended whose outcome was written, but not its status: judged again from what is left of it. */
function again(facts: Facts, outcome: NonNullable<Facts["outcome"]>): End {
  const { outcome: _, ...open } = facts;
  if (outcome.value === "Failed") {
    const verdict = judge({ ...open, spec: { ...open.spec, cancel: false, suspend: false } });
    if ("end" in verdict && verdict.end === "Failed") return verdict;
    return {
      end: "Failed",
      reason: "Internal",
      message: "it failed; the cause was lost with its status, raise retry to go on",
    };
  }
  return { end: outcome.value, reason: outcome.value, message: outcome.value.toLowerCase() };
}

const told = new Set(["Waiting", "Planning", "Running", "Suspended", "Complete", "Refused", "Failed", "Cancelled"]);
const warnings = new Set(["Waiting", "Refused", "Failed"]);

/** An event where the summary changes, after what caused it. */
function announce({ status: before, attempt }: Facts, { status }: Decision): Effect[] {
  const [old, now] = [findCondition(before.conditions, "Ready"), findCondition(status.conditions, "Ready")];
  if (!now || !told.has(now.reason) || now.message.endsWith(notSeen)) return [];
  if (now.reason === old?.reason && before.attempt === attempt && !old.message.endsWith(notSeen)) return [];
  const reason =
    now.reason === "Failed" || now.reason === "Refused"
      ? (findCondition(status.conditions, "Failed")?.reason ?? now.reason)
      : now.reason;
  const note =
    isTrue(status.conditions, "Exact") || !findCondition(status.conditions, "Exact")
      ? now.message
      : `${now.message}; not exact`;
  return [{ do: "event", warning: warnings.has(now.reason), reason, note: (note || now.reason).slice(0, 1024) }];
}
