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

/** The conditions with this one set. Its lastTransitionTime moves only when its status does. */
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

/** The conditions without these: what is abnormal-true (Reconciling, Stalled, Suspended) is absent when all is well, as kstatus wants it. */
export const dropConditions = (conditions: readonly Condition[] | undefined, ...types: ConditionType[]): Condition[] =>
  (conditions ?? []).filter(({ type }) => !(types as string[]).includes(type));

export const findCondition = (conditions: readonly Condition[] | undefined, type: ConditionType) =>
  conditions?.find((one) => one.type === type);

export const isTrue = (conditions: readonly Condition[] | undefined, type: ConditionType) =>
  findCondition(conditions, type)?.status === "True";

/** Kubernetes keeps these instants in whole seconds; more digits would make every comparison with what was stored fail. */
export const toSeconds = (instant: Date) => instant.toISOString().replace(/\.\d+Z$/, "Z");
