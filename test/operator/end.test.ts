import assert from "node:assert/strict";
import { test } from "node:test";
import { findCondition } from "../../src/api/conditions.ts";
import type { FhirExportSpec, FhirExportStatus } from "../../src/api/fhirexport.gen.ts";
import { finalizer } from "../../src/api/names.ts";
import type { Report } from "../../src/contracts.ts";
import type { RunView } from "../../src/effects.ts";
import {
  admitted,
  checkDecision,
  checkStable,
  type DecisionRow,
  decideAt,
  doneRun,
  effectsOf,
  later,
  world,
} from "./decisions.ts";
import { report, totals } from "./fake.ts";

const table: DecisionRow[] = [
  {
    case: "sealed",
    world: world({ status: admitted(), runs: { seal: doneRun("seal") } }),
    reason: "Complete",
    ready: "True",
    holds: ["Accepted", "Complete", "Exact"],
    message: /10 resources in 2 files/,
    effects: ["outcome Complete/1"],
  },
  {
    case: "sealed, but not exact and with errors",
    world: world({
      status: admitted(),
      runs: {
        seal: { ...doneRun("seal"), reports: [report("seal", { exact: false, totals: { ...totals, errors: 3 } })] },
      },
    }),
    reason: "Complete",
    ready: "True",
    holds: ["Accepted", "Complete", "PartialErrors"],
    message: /3 errors/,
  },
  {
    case: "sealed and being suspended",
    world: world({ spec: { suspend: true }, status: admitted(), runs: { seal: doneRun("seal") } }),
    reason: "Complete",
    ready: "True",
    holds: ["Accepted", "Complete", "Exact"],
  },
  {
    case: "sealed and cancelled before that was seen: cancel wins",
    world: world({ spec: { cancel: true }, status: admitted(), runs: { seal: doneRun("seal") } }),
    reason: "Cancelled",
    ready: "False",
    holds: ["Cancelled", "Reconciling"],
    effects: ["outcome Cancelled/1"],
  },
  {
    case: "sealed, and the outcome was written before cancel was seen: complete wins",
    world: world({
      spec: { cancel: true },
      status: admitted(),
      metadata: { annotations: { "fhirexport.dev/outcome": "Complete" } },
      runs: { seal: doneRun("seal") },
    }),
    reason: "Complete",
    ready: "True",
    holds: ["Accepted", "Complete", "Exact"],
    effects: [],
    requeueAfter: 0,
  },
];
for (const row of table) test(`decide: ${row.case}`, () => checkDecision(row));
test("these decisions change nothing that they are made from, and lead to no new ones", () => checkStable(table));

test("complete: each type says how it was proven, those that are not come first, and Exact sums it up", () => {
  const sealed = (exact: boolean, more: Partial<Report>) =>
    decideAt(
      world({
        status: admitted({ types: [{ type: "Device", state: "Running", exported: 7 }] }),
        runs: { seal: { ...doneRun("seal"), reports: [report("seal", { totals, exact, ...more })] } },
      }),
    ).status;
  const exactOf = ({ conditions }: FhirExportStatus) => findCondition(conditions, "Exact");

  const doubtful = sealed(false, {
    types: [
      { type: "Observation", ...totals, proof: "none" },
      { type: "Flag", ...totals, proof: "agreed" },
      { type: "Patient", ...totals, proof: "counted" },
    ],
    others: { none: ["Encounter"], counted: ["Device"] },
  });
  assert.deepEqual(doubtful.proofs, [
    "Encounter: none",
    "Observation: none",
    "Flag: agreed",
    "Device: counted",
    "Patient: counted",
  ]);
  assert.deepEqual(
    doubtful.types?.map(({ type, state, proof }) => [type, state, proof]),
    [
      ["Device", "Complete", "counted"],
      ["Observation", "Complete", "none"],
      ["Flag", "Complete", "agreed"],
      ["Patient", "Complete", "counted"],
      ["Encounter", "Complete", "none"],
    ],
  );
  assert.equal(doubtful.types?.[0]?.exported, 7, "its count did not fit into the report");
  assert.equal(exactOf(doubtful)?.status, "False");
  assert.match(
    exactOf(doubtful)?.message ?? "",
    /once; not proven: Encounter, Observation; 2 types proven by the counts of the source; 1 type by readings that agree \(Flag\); the files/,
  );

  const exact = sealed(true, { types: [{ type: "Patient", ...totals, proof: "counted" }] });
  assert.equal(
    exactOf(exact)?.message,
    "the files hold every matching resource as of transactionTime, once; 1 type proven by the counts of the source",
  );
  const earlier = sealed(true, { types: [{ type: "Patient", ...totals }] });
  assert.deepEqual(
    [earlier.proofs, exactOf(earlier)?.message],
    [undefined, "the files hold every matching resource as of transactionTime, once"],
    "a worker of an earlier release reports no proofs",
  );
  const many = Array.from({ length: 30 }, (_, index) => `T${String.fromCharCode(65 + index)}`);
  assert.match(exactOf(sealed(false, { others: { none: many } }))?.message ?? "", /: TA, TB, .* and 10 more; /);
});

test("ended: Jobs get their time to live, once, and only when the outcome is in the status", () => {
  const runs = { plan: doneRun("plan"), export: doneRun("export"), seal: doneRun("seal") };
  const first = decideAt(world({ status: admitted(), runs }));
  assert.ok(!first.effects.some(({ do: what }) => what === "setRun"));
  const ended = (more: Partial<RunView> = {}) =>
    world({
      status: first.status,
      metadata: { annotations: { "fhirexport.dev/outcome": "Complete" } },
      runs: { seal: { ...doneRun("seal"), ...more } },
    });
  assert.deepEqual(effectsOf(ended()), ["set uid-seal ttl 86400"]);
  assert.deepEqual(effectsOf(ended({ ttlSeconds: 86400 })), []);
});

test("ended: the conditions observe a later edit, so that nobody waits for it in vain", () => {
  const { status } = decideAt(world({ status: admitted(), runs: { seal: doneRun("seal") } }));
  const edited = world({ status, metadata: { generation: 5, annotations: { "fhirexport.dev/outcome": "Complete" } } });
  const next = decideAt(edited).status;
  assert.equal(next.observedGeneration, 5);
  assert.ok(next.conditions?.every(({ observedGeneration }) => observedGeneration === 5));
});

test("ended: ttlSecondsAfterFinished", () => {
  const spec = { ttlSecondsAfterFinished: 100 };
  const { status } = decideAt(world({ spec, status: admitted(), runs: { seal: doneRun("seal") } }), later(0));
  assert.equal(status.expirationTime, "2026-03-04T05:07:47Z");
  const ended = world({ spec, status, metadata: { annotations: { "fhirexport.dev/outcome": "Complete" } } });
  assert.equal(decideAt(ended, later(40)).requeueAfter, 60);
  assert.deepEqual(effectsOf(ended, later(99)), []);
  assert.deepEqual(effectsOf(ended, later(100)), ["deleteExport"]);
  const removed = decideAt(
    world({ status, metadata: { annotations: { "fhirexport.dev/outcome": "Complete" } } }),
    later(40),
  );
  assert.equal(removed.status.expirationTime, undefined, "taken back");
});

test("ended: files that are served over HTTP stay for an hour more, so that downloads can end", () => {
  const ends = (spec: Partial<FhirExportSpec>, seconds: number) => {
    const all = { ttlSecondsAfterFinished: 100, ...spec };
    const { status } = decideAt(world({ spec: all, status: admitted(), runs: { seal: doneRun("seal") } }), later(0));
    const metadata = { annotations: { "fhirexport.dev/outcome": "Complete" }, finalizers: [finalizer] };
    return effectsOf(world({ spec: all, status, metadata }), later(seconds)).includes("deleteExport");
  };
  const origin = { client: "c", request: "https://example.org/$export" };
  assert.equal(ends({ origin, deletionPolicy: "Delete" }, 100), false);
  assert.equal(ends({ origin, deletionPolicy: "Delete" }, 100 + 3599), false);
  assert.equal(ends({ origin, deletionPolicy: "Delete" }, 100 + 3600), true);
  assert.equal(ends({ origin, deletionPolicy: "Retain" }, 100), true, "they stay anyhow");
  assert.equal(ends({ deletionPolicy: "Delete" }, 100), true, "nobody gets them from here");
});
