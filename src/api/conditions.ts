import type { Condition } from "./meta.ts";

export type ConditionType =
  | "Ready"
  | "Reconciling"
  | "Stalled"
  | "Accepted"
  | "Suspended"
  | "Complete"
  | "Failed"
  | "Cancelled"
  | "Purged"
  | "Exact"
  | "PartialErrors";

export interface ConditionValue {
  type: ConditionType;
  status: Condition["status"];
  reason: string;
  message: string;
}

/** The conditions with one of them set. Its lastTransitionTime changes only when its status does.
 *  @param generation the generation of the object that the condition is about */
export function setCondition(
  conditions: readonly Condition[] | undefined,
  value: ConditionValue,
  generation: number,
  now: Date,
): Condition[] {
  const old = findCondition(conditions, value.type);
  const made: Condition = {
    type: value.type,
    status: value.status,
    observedGeneration: generation,
    lastTransitionTime: old?.status === value.status ? old.lastTransitionTime : toSeconds(now),
    reason: value.reason,
    message: value.message.slice(0, 32768),
  };
  if (!old) return [...(conditions ?? []), made];
  return conditions!.map((condition) => (condition.type === value.type ? made : condition));
}

/** The conditions without those of these types. Conditions that are True when something is wrong or unfinished
 *  (Reconciling, Stalled, Suspended) are absent otherwise, as kstatus demands. */
export const dropConditions = (conditions: readonly Condition[] | undefined, ...types: ConditionType[]): Condition[] =>
  (conditions ?? []).filter(({ type }) => !(types as string[]).includes(type));

export const findCondition = (conditions: readonly Condition[] | undefined, type: ConditionType) =>
  conditions?.find((one) => one.type === type);

export const isTrue = (conditions: readonly Condition[] | undefined, type: ConditionType) =>
  findCondition(conditions, type)?.status === "True";

/** Why an export does not get on: its condition Reconciling says so alone, Ready with what is being done.
 *  @returns undefined: nothing is known to hold it */
export function causeIn(conditions: readonly Condition[] | undefined): string | undefined {
  const [ready, reconciling] = (["Ready", "Reconciling"] as const).map((type) => findCondition(conditions, type));
  return reconciling && reconciling.message !== ready?.message ? reconciling.message : undefined;
}

/** An instant in RFC 3339 with whole seconds. Kubernetes stores no more, so with more digits no comparison with what is
 *  stored would succeed. */
export const toSeconds = (instant: Date) => instant.toISOString().replace(/\.\d+Z$/, "Z");
