import assert from "node:assert/strict";
import { test } from "node:test";
import { findCondition } from "../../src/api/conditions.ts";
import type { Failure, Progress } from "../../src/contracts.ts";
import type { RunView } from "../../src/effects.ts";
import {
  admitted,
  checkDecision,
  checkStable,
  type DecisionRow,
  decideAt,
  doneRun,
  later,
  runOf,
  startTime,
  world,
} from "./decisions.ts";
import { report, totals, uid } from "./fake.ts";

const unreachable: Failure = { class: "waiting", reason: "SourceUnreachable", message: "it answers 503" };
const failedPlan: Partial<RunView> = {
  state: "failed",
  live: 0,
  reports: [report("plan", { error: unreachable })],
};
const progress = (more: Partial<Progress>): Progress => ({
  v: 1,
  uid,
  index: 0,
  totals: { files: 0, resources: 0, bytes: 0, errors: 0 },
  types: [],
  throttledSeconds: 0,
  ...more,
});
const repeat = {
  runName: "x-0a1b2c3d-plan-1",
  runUID: "older",
  count: 2,
  time: startTime,
  reason: "SourceUnreachable",
  message: "SourceUnreachable: it answers 503",
};
const trouble = { reason: "SourceUnreachable", message: "it answers 502" } as const;

/** What holds an export, and what its condition Reconciling says of it. */
const causes: { case: string; given: Parameters<typeof world>[0]; ready: string; cause?: [string, RegExp] }[] = [
  { case: "a plan that works", given: { status: admitted(), runs: { plan: {} } }, ready: "Planning" },
  {
    case: "the source does not exist",
    given: { source: null },
    ready: "Waiting",
    cause: ["Waiting", /^FhirSource s does not exist; create it$/],
  },
  {
    case: "a plan that failed waits for its next try",
    given: { status: admitted(), runs: { plan: failedPlan } },
    ready: "Planning",
    cause: ["SourceUnreachable", /^SourceUnreachable: it answers 503$/],
  },
  {
    case: "a plan that failed is about to be made again",
    given: { status: admitted({ run: runOf({}, { repeat }) }) },
    ready: "Planning",
    cause: ["SourceUnreachable", /^SourceUnreachable: it answers 503$/],
  },
  {
    case: "a plan that failed is tried again: the cause stays until it has something to show",
    given: { status: admitted({ run: runOf({}, { repeat }) }), runs: { plan: {} } },
    ready: "Planning",
    cause: ["SourceUnreachable", /^SourceUnreachable: it answers 503; this is try 3$/],
  },
  {
    case: "a repeated plan that has exported something",
    given: {
      status: admitted({ run: runOf({}, { repeat }) }),
      runs: { plan: { progress: [progress({ totals })] } },
    },
    ready: "Running",
  },
  {
    case: "a worker's requests are not answered",
    given: { status: admitted(), runs: { plan: { progress: [progress({ trouble, paused: true })] } } },
    ready: "Planning",
    cause: ["SourceUnreachable", /^SourceUnreachable: it answers 502$/],
  },
  {
    case: "the source asks to wait",
    given: { status: admitted(), runs: { seal: { progress: [progress({ paused: true })] } } },
    ready: "Sealing",
    cause: ["Throttled", /Retry-After/],
  },
  {
    case: "a pod is blocked",
    given: { status: admitted(), runs: { seal: { blocked: "ImagePullBackOff" } } },
    ready: "Sealing",
    cause: ["Blocked", /^it is blocked: ImagePullBackOff$/],
  },
  {
    case: "a Job of the plan is stuck in deletion",
    given: { status: admitted(), runs: { plan: { going: true, live: 0, blocked: "Job j is being deleted" } } },
    ready: "Planning",
    cause: ["Blocked", /Job j is being deleted/],
  },
  {
    case: "a Job of the export is stuck in deletion",
    given: {
      status: admitted({ run: runOf({}, { packages: 3 }) }),
      runs: { export: { going: true, live: 0, blocked: "Job j is being deleted" } },
    },
    ready: "Running",
    cause: ["Blocked", /Job j is being deleted/],
  },
  {
    case: "a Job of the seal is stuck in deletion",
    given: { status: admitted(), runs: { seal: { going: true, live: 0, blocked: "Job j is being deleted" } } },
    ready: "Sealing",
    cause: ["Blocked", /Job j is being deleted/],
  },
];
for (const { case: name, given, ready, cause } of causes)
  test(`cause: ${name}`, () => {
    const { status, requeueAfter, effects } = decideAt(world(given));
    const [summary, reconciling] = (["Ready", "Reconciling"] as const).map((type) =>
      findCondition(status.conditions, type),
    );
    assert.equal(summary?.reason, ready);
    assert.equal(reconciling?.reason, cause?.[0] ?? ready);
    if (cause) {
      assert.match(reconciling?.message ?? "", cause[1]);
      assert.ok(summary?.message.includes(reconciling?.message ?? "-"), "Ready says it, too");
      assert.notEqual(summary?.message, reconciling?.message);
    } else assert.equal(reconciling?.message, summary?.message);
    const makesRun = effects.some(({ do: what }) => what === "ensureRun");
    assert.ok(makesRun || (requeueAfter !== undefined && requeueAfter <= 60), "it is looked at again");
  });

const table: DecisionRow[] = [
  {
    case: "a seal that is done ends the export, although something holds its Job in deletion",
    world: world({ status: admitted(), runs: { seal: { ...doneRun("seal"), going: true, blocked: "held" } } }),
    reason: "Complete",
    ready: "True",
    holds: ["Accepted", "Complete", "Exact"],
    effects: ["outcome Complete/1"],
  },
  {
    case: "cancelled, and a Job is stuck in deletion",
    world: world({
      spec: { cancel: true },
      status: admitted(),
      runs: { export: { going: true, live: 0, state: "failed", blocked: "Job j is being deleted" } },
    }),
    reason: "WaitingForNode",
    ready: "Unknown",
    holds: ["Reconciling"],
    message: /Job j is being deleted/,
  },
];
for (const row of table) test(`decide: ${row.case}`, () => checkDecision(row));
test("these decisions change nothing that they are made from, and lead to no new ones", () =>
  checkStable([...table, ...causes.map((one) => ({ ...table[0]!, case: one.case, world: world(one.given) }))]));

test("an export that is given up says what held it at last", () => {
  const spec = { activeDeadlineSeconds: 60 };
  const held = decideAt(world({ spec, status: admitted(), runs: { plan: { blocked: "ImagePullBackOff" } } })).status;
  const late = world({ spec, status: held, runs: { plan: { blocked: "ImagePullBackOff" } } });
  const { conditions } = decideAt(late, later(100)).status;
  assert.equal(findCondition(conditions, "Failed")?.reason, "DeadlineExceeded");
  assert.match(
    findCondition(conditions, "Failed")?.message ?? "",
    /what held it at last: it is blocked: ImagePullBackOff;/,
  );

  const start = { startDeadlineSeconds: 20 };
  const { status } = decideAt(world({ spec: start, source: null }));
  const never = decideAt(world({ spec: start, source: null, status }), later(30)).status;
  assert.match(
    findCondition(never.conditions, "Failed")?.message ?? "",
    /startDeadlineSeconds \(20\); what held it at last: FhirSource s does not exist; create it;/,
  );
});

test("why a run is repeated is kept in the status", () => {
  const { run } = decideAt(world({ status: admitted(), runs: { plan: failedPlan } })).status;
  assert.deepEqual(
    [run?.repeat?.reason, run?.repeat?.message],
    ["SourceUnreachable", "SourceUnreachable: it answers 503"],
  );
});
