import assert from "node:assert/strict";
import { test } from "node:test";
import { admitted, checkDecision, checkStable, type DecisionRow, decideAt, doneRun, world } from "./decisions.ts";

const table: DecisionRow[] = [
  {
    case: "cancelling: a Job is active",
    world: world({ spec: { cancel: true }, status: admitted(), runs: { plan: doneRun("plan"), export: {} } }),
    reason: "Cancelling",
    ready: "False",
    holds: ["Reconciling"],
    effects: ["set uid-export suspend true"],
    requeueAfter: 15,
  },
  {
    case: "cancelling: suspended, but one pod still runs",
    world: world({ spec: { cancel: true }, status: admitted(), runs: { export: { state: "suspended", live: 1 } } }),
    reason: "Cancelling",
    ready: "False",
    holds: ["Reconciling"],
    effects: [],
  },
  {
    case: "cancelling: a pod on a lost node",
    world: world({
      spec: { cancel: true },
      status: admitted(),
      runs: { export: { state: "suspended", live: 1, blocked: "a pod on node n does not end" } },
    }),
    reason: "WaitingForNode",
    ready: "Unknown",
    holds: ["Reconciling"],
    message: /node n/,
    effects: [],
  },
  {
    case: "cancelling: a Job that is being deleted may have pods",
    world: world({
      spec: { cancel: true },
      status: admitted(),
      runs: { export: { state: "active", live: 0, going: true } },
    }),
    reason: "Cancelling",
    ready: "False",
    holds: ["Reconciling"],
    effects: [],
  },
  {
    case: "cancelling: a failed Job with a pod that terminates",
    world: world({ spec: { cancel: true }, status: admitted(), runs: { export: { state: "failed", live: 1 } } }),
    reason: "Cancelling",
    ready: "False",
    holds: ["Reconciling"],
    effects: [],
  },
  {
    case: "cancelled in a Kueue queue: the Job is deleted, or Kueue would start it again",
    world: world({ spec: { cancel: true, queueName: "q" }, status: admitted(), runs: { export: {} } }),
    reason: "Cancelling",
    ready: "False",
    holds: ["Reconciling"],
    effects: ["delete uid-export"],
  },
  {
    case: "cancelled: no worker is left",
    world: world({ spec: { cancel: true }, status: admitted(), runs: { export: { state: "suspended", live: 0 } } }),
    reason: "Cancelled",
    ready: "False",
    holds: ["Cancelled", "Reconciling"],
    effects: ["outcome Cancelled/1"],
  },
];
for (const row of table) test(`decide: ${row.case}`, () => checkDecision(row));
test("these decisions change nothing that they are made from, and lead to no new ones", () => checkStable(table));

test("a cancelled export has no estimated completion time", () => {
  const progress = { percent: 20, resources: 10, estimatedCompletionTime: "2026-03-04T05:08:01Z" };
  const { status } = decideAt(
    world({
      spec: { cancel: true },
      status: admitted({ progress }),
      runs: { export: { state: "suspended", live: 0 } },
    }),
  );
  assert.deepEqual(status.progress, { percent: 20, resources: 10 });
});
