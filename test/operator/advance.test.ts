import assert from "node:assert/strict";
import { test } from "node:test";
import type { FhirExportSpec } from "../../src/api/fhirexport.gen.ts";
import {
  admitted,
  checkDecision,
  checkStable,
  type DecisionRow,
  decideAt,
  doneRun,
  runOf,
  world,
} from "./decisions.ts";
import { makeSource } from "./fake.ts";

const table: DecisionRow[] = [
  {
    case: "admitted",
    world: world({ status: admitted() }),
    reason: "Planning",
    ready: "Unknown",
    holds: ["Accepted", "Reconciling"],
    effects: ["ensure plan with task"],
  },
  {
    case: "admitted, then the source was edited before anything was made: status.run follows it",
    world: world({ status: admitted(), source: makeSource({ limits: { maxConcurrentExports: 1 } }) }),
    reason: "Planning",
    ready: "Unknown",
    holds: ["Accepted", "Reconciling"],
    effects: [],
    requeueAfter: 0,
  },
  {
    case: "planning",
    world: world({ status: admitted(), runs: { plan: {} } }),
    reason: "Planning",
    ready: "Unknown",
    holds: ["Accepted", "Reconciling"],
    effects: [],
  },
  {
    case: "planning, source edited: nothing changes",
    world: world({
      status: admitted(),
      source: makeSource({ limits: { maxConcurrentExports: 1 } }),
      runs: { plan: {} },
    }),
    reason: "Planning",
    ready: "Unknown",
    holds: ["Accepted", "Reconciling"],
    effects: [],
  },
  {
    case: "the image cannot be pulled",
    world: world({ status: admitted(), runs: { plan: { blocked: "ImagePullBackOff: no such image" } } }),
    reason: "Planning",
    ready: "Unknown",
    holds: ["Accepted", "Reconciling"],
    message: /ImagePullBackOff: no such image/,
  },
  {
    case: "the source asks to wait",
    world: world({
      status: admitted(),
      runs: {
        plan: {
          progress: [
            {
              v: 1,
              uid: "x",
              index: 0,
              totals: { files: 0, resources: 0, bytes: 0, errors: 0 },
              types: [],
              throttledSeconds: 0,
              paused: true,
            },
          ],
        },
      },
    }),
    reason: "Planning",
    ready: "Unknown",
    holds: ["Accepted", "Reconciling"],
    message: /the source asks to wait \(Retry-After\)/,
  },
  {
    case: "planned",
    world: world({ status: admitted(), runs: { plan: doneRun("plan") } }),
    reason: "Running",
    ready: "Unknown",
    holds: ["Accepted", "Reconciling"],
    message: /3 packages/,
    effects: ["ensure export"],
  },
  {
    case: "exporting",
    world: world({
      status: admitted({ run: runOf({}, { packages: 3 }) }),
      runs: { plan: doneRun("plan"), export: { parallelism: 3 } },
    }),
    reason: "Running",
    ready: "Unknown",
    holds: ["Accepted", "Reconciling"],
    effects: [],
    requeueAfter: 30,
  },
  {
    case: "exporting, parallelism was lowered",
    world: world({
      spec: { parallelism: 1 },
      status: admitted({ run: runOf({}, { packages: 3 }) }),
      runs: { export: { parallelism: 3 } },
    }),
    reason: "Running",
    ready: "Unknown",
    holds: ["Accepted", "Reconciling"],
    effects: ["set uid-export parallelism 1"],
  },
  {
    case: "exporting, parallelism was raised: it counts from the next attempt",
    world: world({
      spec: { parallelism: 9 },
      status: admitted({ run: runOf({}, { packages: 30 }) }),
      runs: { export: { parallelism: 4 } },
    }),
    reason: "Running",
    ready: "Unknown",
    holds: ["Accepted", "Reconciling"],
    effects: [],
  },
  {
    case: "exporting, someone else suspended the Job",
    world: world({
      status: admitted({ run: runOf({}, { packages: 3 }) }),
      runs: { export: { state: "suspended", live: 0 } },
    }),
    reason: "Running",
    ready: "Unknown",
    holds: ["Accepted", "Reconciling"],
    effects: ["set uid-export suspend false"],
  },
  {
    case: "exported: the counts of the packages are published first",
    world: world({
      status: admitted({ run: runOf({}, { packages: 3 }) }),
      runs: { plan: doneRun("plan"), export: doneRun("export") },
    }),
    reason: "Running",
    ready: "Unknown",
    holds: ["Accepted", "Reconciling"],
    effects: [],
    requeueAfter: 0,
  },
  {
    case: "exported",
    world: world({
      status: admitted({
        run: runOf({}, { packages: 3 }),
        progress: { percent: 99, resources: 10, bytes: 1000, expectedResources: 10 },
      }),
      runs: { plan: doneRun("plan"), export: doneRun("export") },
    }),
    reason: "Sealing",
    ready: "Unknown",
    holds: ["Accepted", "Reconciling"],
    effects: ["ensure seal"],
  },
  {
    case: "sealing, and someone has removed the Jobs of plan and export",
    world: world({ status: admitted(), runs: { seal: {} } }),
    reason: "Sealing",
    ready: "Unknown",
    holds: ["Accepted", "Reconciling"],
    effects: [],
  },
  {
    case: "waiting in a Kueue queue",
    world: world({ spec: { queueName: "q" }, status: admitted(), runs: { plan: { state: "suspended", live: 0 } } }),
    reason: "Queued",
    ready: "Unknown",
    holds: ["Accepted", "Reconciling"],
    message: /queue q/,
    effects: [],
  },
  {
    case: "a run of another attempt still has a pod",
    world: world({
      status: { ...admitted(), attempt: 2, run: runOf({}, { attempt: 2 }) },
      spec: { retry: 1 },
      metadata: { annotations: { "fhirexport.dev/outcome": "Failed/1" } },
      runs: { export: { state: "failed", live: 1 } },
    }),
    reason: "WaitingForNode",
    ready: "Unknown",
    holds: ["Reconciling"],
    message: /attempt 1/,
    effects: [],
  },
  {
    case: "a Job of its name that belongs to another owner is ignored",
    world: world({ status: admitted(), runs: { plan: { ...doneRun("plan"), ours: false } } }),
    reason: "Planning",
    ready: "Unknown",
    holds: ["Accepted", "Reconciling"],
    effects: ["ensure plan with task"],
  },
];
for (const row of table) test(`decide: ${row.case}`, () => checkDecision(row));
test("these decisions change nothing that they are made from, and lead to no new ones", () => checkStable(table));

test("the export run: as many completions as packages, parallelism within spec, source and packages", () => {
  const run = (spec: Partial<FhirExportSpec>, packages: number, parallelism: number) =>
    decideAt(world({ spec, status: admitted({ run: runOf(spec, { packages, parallelism }) }), runs: {} })).effects.find(
      (effect) => effect.do === "ensureRun",
    )?.run;
  const cases: [Partial<FhirExportSpec>, number, number, number][] = [
    [{}, 3, 4, 3],
    [{}, 10, 4, 4],
    [{ parallelism: 2 }, 10, 4, 2],
    [{ parallelism: 9 }, 10, 5, 5],
  ];
  for (const [spec, packages, most, want] of cases) {
    const { completions, parallelism } = run(spec, packages, most) ?? {};
    assert.deepEqual([completions, parallelism], [packages, want]);
  }
});
