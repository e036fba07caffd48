import assert from "node:assert/strict";
import { test } from "node:test";
import { decide } from "../../src/operator/decide.ts";
import { defaultSettings } from "../../src/operator/settings.ts";
import {
  admitted,
  checkDecision,
  checkStable,
  type DecisionRow,
  doneRun,
  effectText,
  later,
  readyCondition,
  runOf,
  startTime,
  world,
} from "./decisions.ts";
import { report } from "./fake.ts";

const table: DecisionRow[] = [
  {
    case: "a terminal error",
    world: world({
      status: admitted(),
      runs: {
        export: {
          state: "failed",
          live: 0,
          reports: [
            undefined,
            report("export", { error: { class: "transient", reason: "Internal", message: "x" } }),
            report("export", {
              error: { class: "terminal", reason: "SourceUnauthorized", message: "401 from https://h.example" },
            }),
          ],
        },
      },
    }),
    reason: "Failed",
    ready: "False",
    holds: ["Failed", "Stalled"],
    message: /401 from https:\/\/h.example/,
    effects: ["outcome Failed/1"],
  },
  {
    case: "a waiting error: shown, and not deleted yet",
    world: world({
      status: admitted(),
      runs: {
        plan: {
          state: "failed",
          live: 0,
          reports: [report("plan", { error: { class: "waiting", reason: "SourceUnreachable", message: "refused" } })],
        },
      },
    }),
    reason: "Planning",
    ready: "Unknown",
    holds: ["Accepted", "Reconciling"],
    message: /SourceUnreachable: refused; it is tried again at 2026-03-04T05:06:38Z/,
    effects: [],
    requeueAfter: 30,
  },
  {
    case: "a waiting error: deleted when its time has come",
    world: world({
      status: admitted({
        run: runOf(
          {},
          { repeat: { runName: "x-0a1b2c3d-plan-1", runUID: "uid-plan", count: 1, time: "2026-03-04T05:06:37Z" } },
        ),
      }),
      runs: {
        plan: {
          state: "failed",
          live: 0,
          reports: [report("plan", { error: { class: "waiting", reason: "SourceUnreachable", message: "refused" } })],
        },
      },
    }),
    now: later(31),
    reason: "Planning",
    ready: "Unknown",
    holds: ["Accepted", "Reconciling"],
    effects: ["delete uid-plan"],
  },
  {
    case: "a waiting error for the tenth time: the next try is in ten minutes",
    world: world({
      status: admitted({
        run: runOf({}, { repeat: { runName: "x-0a1b2c3d-plan-1", runUID: "older", count: 9, time: startTime } }),
      }),
      runs: {
        plan: {
          state: "failed",
          live: 0,
          reports: [report("plan", { error: { class: "waiting", reason: "SourceUnreachable", message: "refused" } })],
        },
      },
    }),
    reason: "Planning",
    ready: "Unknown",
    holds: ["Accepted", "Reconciling"],
    requeueAfter: 600,
  },
  {
    case: "not ended within activeDeadlineSeconds",
    world: world({
      spec: { activeDeadlineSeconds: 60 },
      status: admitted(),
      runs: { plan: doneRun("plan"), export: {} },
    }),
    now: later(60),
    reason: "Failed",
    ready: "False",
    holds: ["Failed", "Stalled"],
    message: /activeDeadlineSeconds \(60\)/,
    effects: ["set uid-export suspend true", "outcome Failed/1"],
  },
];
for (const row of table) test(`decide: ${row.case}`, () => checkDecision(row));
test("these decisions change nothing that they are made from, and lead to no new ones", () => checkStable(table));

test("a Job that can never be made fails the export; one that cannot be made now is shown, and tried again", () => {
  const given = world({ status: admitted() });
  const never = decide(given, later(1), defaultSettings, {
    class: "terminal",
    reason: "UnsupportedParameter",
    message: "spec.worker is malformed",
  });
  assert.deepEqual(never.effects.map(effectText), ["event", "outcome Failed/1"]);
  assert.match(readyCondition(never.status)?.message ?? "", /spec.worker is malformed/);
  const now = decide(given, later(1), defaultSettings, {
    class: "waiting",
    reason: "Internal",
    message: "exceeded quota",
  });
  assert.deepEqual(now.effects.map(effectText), ["event"]);
  assert.match(readyCondition(now.status)?.message ?? "", /exceeded quota/);
  assert.equal(now.requeueAfter, 30);
});
