import { type ConditionType, dropConditions, setCondition } from "../api/conditions.ts";
import type { FhirExportStatus } from "../api/fhirexport.gen.ts";
import type { Condition } from "../api/meta.ts";
import type { ReadyReason } from "../contracts.ts";
import type { Facts } from "./facts.ts";

type Status = Condition["status"];
interface Row {
  ready: Status;
  accepted?: Status;
  /** the other conditions that hold; Reconciling and Stalled exclude each other, and what is not named here goes */
  true: ConditionType[];
}

/** DESIGN section 4 as a table. A finished export whose files are still being deleted reconciles; its end is not in doubt. */
const table: Record<ReadyReason, Row> = {
  Waiting: { ready: "Unknown", accepted: "Unknown", true: ["Reconciling"] },
  Queued: { ready: "Unknown", accepted: "True", true: ["Reconciling"] },
  Planning: { ready: "Unknown", accepted: "True", true: ["Reconciling"] },
  Running: { ready: "Unknown", accepted: "True", true: ["Reconciling"] },
  Sealing: { ready: "Unknown", accepted: "True", true: ["Reconciling"] },
  WaitingForNode: { ready: "Unknown", true: ["Reconciling"] },
  Suspended: { ready: "False", true: ["Reconciling", "Suspended"] },
  Cancelling: { ready: "False", true: ["Reconciling"] },
  Complete: { ready: "True", accepted: "True", true: ["Complete"] },
  Refused: { ready: "False", accepted: "False", true: ["Stalled", "Failed"] },
  Failed: { ready: "False", true: ["Stalled", "Failed"] },
  Cancelled: { ready: "False", true: ["Stalled", "Cancelled"] },
};
const managed: ConditionType[] = ["Reconciling", "Stalled", "Suspended", "Complete", "Failed", "Cancelled"];

/** The status with the conditions of a state. `reason` says more than the state where there is more to say (why it failed). */
export function showState(
  facts: Facts,
  status: FhirExportStatus,
  state: ReadyReason,
  message: string,
  reason: string = state,
): FhirExportStatus {
  const row = table[state];
  const generation = facts.export.metadata.generation ?? 0;
  const set = (list: Condition[] | undefined, type: ConditionType, value: Status, why: string, text: string) =>
    setCondition(list, { type, status: value, reason: why, message: text }, generation, facts.now);
  let conditions = set(status.conditions, "Ready", row.ready, state, message);
  conditions = dropConditions(conditions, ...managed.filter((type) => !row.true.includes(type)));
  for (const type of row.true) conditions = set(conditions, type, "True", reason, message);
  if (row.accepted) {
    const text = row.accepted === "True" ? "the request makes sense; source and target are ready" : message;
    conditions = set(conditions, "Accepted", row.accepted, row.accepted === "True" ? "Accepted" : reason, text);
  }
  return { ...status, conditions, observedGeneration: generation, attempt: facts.attempt };
}

/** The status with one more condition. */
export function addCondition(
  facts: Facts,
  status: FhirExportStatus,
  type: ConditionType,
  value: Status,
  reason: string,
  message: string,
): FhirExportStatus {
  const generation = facts.export.metadata.generation ?? 0;
  return {
    ...status,
    conditions: setCondition(status.conditions, { type, status: value, reason, message }, generation, facts.now),
  };
}
