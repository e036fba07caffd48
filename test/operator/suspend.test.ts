import { test } from "node:test";
import {
  admitted,
  checkDecision,
  checkStable,
  type DecisionRow,
  doneRun,
  later,
  runOf,
  startTime,
  world,
} from "./decisions.ts";

const table: DecisionRow[] = [
  {
    case: "suspended before it starts",
    world: world({ spec: { suspend: true } }),
    reason: "Suspended",
    ready: "False",
    holds: ["Reconciling", "Suspended"],
    effects: [],
  },
  {
    case: "suspending while exporting",
    world: world({
      spec: { suspend: true },
      status: admitted({ run: runOf({}, { packages: 3 }) }),
      runs: { export: {} },
    }),
    reason: "Suspended",
    ready: "False",
    holds: ["Reconciling", "Suspended"],
    message: /stopping/,
    effects: ["set uid-export suspend true"],
  },
  {
    case: "suspended between plan and export: nothing is made",
    world: world({ spec: { suspend: true }, status: admitted(), runs: { plan: doneRun("plan") } }),
    reason: "Suspended",
    ready: "False",
    holds: ["Reconciling", "Suspended"],
    effects: [],
  },
  {
    case: "suspended far beyond its deadline",
    world: world({ spec: { suspend: true, activeDeadlineSeconds: 1 }, status: admitted() }),
    now: later(9999),
    reason: "Suspended",
    ready: "False",
    holds: ["Reconciling", "Suspended"],
  },
  {
    case: "suspend is taken back: its Job is started again",
    world: world({
      status: admitted({
        run: runOf({}, { packages: 3 }),
        conditions: [
          { type: "Suspended", status: "True", reason: "Suspended", message: "", lastTransitionTime: startTime },
        ],
      }),
      runs: { plan: doneRun("plan"), export: { state: "suspended", live: 0 } },
    }),
    reason: "Running",
    ready: "Unknown",
    holds: ["Accepted", "Reconciling"],
    effects: ["set uid-export suspend false"],
    requeueAfter: 0,
  },
  {
    case: "its slot was taken, but one of its Jobs was started again: it puts load on the source, so it continues",
    world: world({
      running: { source: 2 },
      status: admitted({
        run: runOf({}, { packages: 3 }),
        conditions: [
          { type: "Suspended", status: "True", reason: "Suspended", message: "", lastTransitionTime: startTime },
        ],
      }),
      runs: { plan: doneRun("plan"), export: {} },
    }),
    reason: "Running",
    ready: "Unknown",
    holds: ["Accepted", "Reconciling"],
    effects: [],
  },
  {
    case: "suspend is taken back, but its slot was taken",
    world: world({
      running: { source: 2 },
      status: admitted({
        run: runOf({}, { packages: 3 }),
        conditions: [
          { type: "Suspended", status: "True", reason: "Suspended", message: "", lastTransitionTime: startTime },
        ],
      }),
      runs: { export: { state: "suspended", live: 0 } },
    }),
    reason: "Suspended",
    ready: "False",
    holds: ["Reconciling", "Suspended"],
    message: /ready to continue; waiting for a free slot of FhirSource s: 2 of its exports run/,
    effects: [],
  },
];
for (const row of table) test(`decide: ${row.case}`, () => checkDecision(row));
test("these decisions change nothing that they are made from, and lead to no new ones", () => checkStable(table));
