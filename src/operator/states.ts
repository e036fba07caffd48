import { type ConditionType, type ConditionValue, dropConditions, setCondition } from "../api/conditions.ts";
import type { FhirExportStatus } from "../api/fhirexport.gen.ts";
import type { Condition } from "../api/meta.ts";
import type { ReadyReason } from "../contracts.ts";
import type { Cause } from "./cause.ts";
import type { Facts } from "./facts.ts";

type ConditionStatus = Condition["status"];

interface StateRow {
  ready: ConditionStatus;
  accepted?: ConditionStatus;
  /** The other conditions that are True. Those that are not named here are removed. */
  holds: ConditionType[];
}

/** The conditions of each state. Reconciling and Stalled exclude each other, as kstatus demands. A finished export
 *  whose files are still being deleted is Reconciling, although its end is decided (see showPurge). */
const stateTable: Record<ReadyReason, StateRow> = {
  Waiting: { ready: "Unknown", accepted: "Unknown", holds: ["Reconciling"] },
  Queued: { ready: "Unknown", accepted: "True", holds: ["Reconciling"] },
  Planning: { ready: "Unknown", accepted: "True", holds: ["Reconciling"] },
  Running: { ready: "Unknown", accepted: "True", holds: ["Reconciling"] },
  Sealing: { ready: "Unknown", accepted: "True", holds: ["Reconciling"] },
  WaitingForNode: { ready: "Unknown", holds: ["Reconciling"] },
  Suspended: { ready: "False", holds: ["Reconciling", "Suspended"] },
  Cancelling: { ready: "False", holds: ["Reconciling"] },
  Complete: { ready: "True", accepted: "True", holds: ["Complete"] },
  Refused: { ready: "False", accepted: "False", holds: ["Stalled", "Failed"] },
  Failed: { ready: "False", holds: ["Stalled", "Failed"] },
  Cancelled: { ready: "False", holds: ["Stalled", "Cancelled"] },
};
/** the conditions that the table sets and removes */
const managedConditions: ConditionType[] = ["Reconciling", "Stalled", "Suspended", "Complete", "Failed", "Cancelled"];

interface ShownState {
  state: ReadyReason;
  message: string;
  /** why the export is in the state, where that is more than the state itself: why it failed */
  reason?: string;
  /** why it does not get on: the condition Reconciling then has this reason and message */
  cause?: Cause | undefined;
}

/** The status with the conditions of a state. */
export function showState(facts: Facts, status: FhirExportStatus, shown: ShownState): FhirExportStatus {
  const { state, message, reason = state, cause } = shown;
  const row = stateTable[state];
  const kept = dropConditions(status.conditions, ...managedConditions.filter((type) => !row.holds.includes(type)));
  let next = addCondition(
    facts,
    { ...status, conditions: kept },
    { type: "Ready", status: row.ready, reason: state, message },
  );
  for (const type of row.holds) {
    const why = (type === "Reconciling" && cause) || { reason, message };
    next = addCondition(facts, next, { type, status: "True", reason: why.reason, message: why.message });
  }
  if (row.accepted === "True")
    next = addCondition(facts, next, {
      type: "Accepted",
      status: "True",
      reason: "Accepted",
      message: "the request is valid, and its source and target are ready",
    });
  else if (row.accepted) next = addCondition(facts, next, { type: "Accepted", status: row.accepted, reason, message });
  return { ...next, observedGeneration: facts.export.metadata.generation ?? 0, attempt: facts.attempt };
}

/** The status with one condition set. */
export function addCondition(facts: Facts, status: FhirExportStatus, condition: ConditionValue): FhirExportStatus {
  const generation = facts.export.metadata.generation ?? 0;
  return { ...status, conditions: setCondition(status.conditions, condition, generation, facts.now) };
}
