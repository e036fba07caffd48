import assert from "node:assert/strict";
import { test } from "node:test";
import type { FhirExportSpec } from "../../src/api/fhirexport.gen.ts";
import type { ExportWorld } from "../../src/operator/port.ts";
import {
  admitted,
  checkDecision,
  checkStable,
  type DecisionRow,
  decideAt,
  doneRun,
  effectText,
  startTime,
  world,
} from "./decisions.ts";

const table: DecisionRow[] = [
  {
    case: "deletionPolicy Delete: the finalizer comes before anything else",
    world: world({ spec: { deletionPolicy: "Delete" } }),
    reason: "Planning",
    ready: "Unknown",
    holds: ["Accepted", "Reconciling"],
    effects: ["finalizer true"],
  },
  {
    case: "deletionPolicy was changed to Retain",
    world: world({ status: admitted(), metadata: { finalizers: ["fhirexport.dev/output"] }, runs: { plan: {} } }),
    reason: "Planning",
    ready: "Unknown",
    holds: ["Accepted", "Reconciling"],
    effects: ["finalizer false"],
  },
];
for (const row of table) test(`decide: ${row.case}`, () => checkDecision(row));
test("these decisions change nothing that they are made from, and lead to no new ones", () => checkStable(table));

test("patients, filters, group and kick-off URL get into the Task, and into no status and no event", () => {
  const spec = {
    level: "Group",
    groupId: "GROUP7",
    patients: ["PATIENT7"],
    types: ["Patient"],
    typeFilters: ["Patient?name=FILTER7"],
    origin: { client: "CLIENT7", request: "https://h.example/URL7" },
  } satisfies Partial<FhirExportSpec>;
  const refused = { ...spec, typeFilters: ["Patient?name=FILTER7&_sort=FILTER7"] };
  const all = [
    world({ spec }),
    world({ spec: refused }),
    world({ spec, status: admitted() }),
    world({ spec, status: admitted(), runs: { plan: doneRun("plan") } }),
    world({ spec, status: admitted(), runs: { seal: doneRun("seal") } }),
  ].map((one) => decideAt(one));
  const tasks = all.flatMap(({ effects }) =>
    effects.flatMap((effect) => (effect.do === "ensureRun" && effect.run.task ? [effect.run.task] : [])),
  );
  assert.equal(tasks.length, 1);
  for (const secret of ["GROUP7", "PATIENT7", "FILTER7", "URL7"])
    assert.match(JSON.stringify(tasks), new RegExp(secret));
  const shown = JSON.stringify(
    all.map(({ status, effects }) => [status, effects.filter(({ do: what }) => what === "event")]),
  );
  assert.doesNotMatch(shown, /GROUP7|PATIENT7|FILTER7|CLIENT7|URL7/);
});

const wakes: [string, ExportWorld, number | undefined][] = [
  [
    "a deadline while planning",
    world({ spec: { activeDeadlineSeconds: 40 }, status: admitted(), runs: { plan: {} } }),
    39,
  ],
  [
    "a deadline later than the next look",
    world({ spec: { activeDeadlineSeconds: 100 }, status: admitted(), runs: { export: { parallelism: 1 } } }),
    30,
  ],
  [
    "no deadline: what holds a pod may be seen by the clock only",
    world({ status: admitted(), runs: { plan: {} } }),
    60,
  ],
  ["a Job without pods", world({ status: admitted(), runs: { plan: { live: 0 } } }), 10],
  ["a start deadline while waiting", world({ source: null, spec: { startDeadlineSeconds: 20 } }), 19],
  [
    "a start deadline of a retry",
    world({
      source: null,
      spec: { startDeadlineSeconds: 20, retry: 1 },
      metadata: { annotations: { "fhirexport.dev/outcome": "Failed/1" } },
    }),
    60,
  ],
  [
    "a deadline while suspended",
    world({ spec: { activeDeadlineSeconds: 100, suspend: true }, status: admitted() }),
    undefined,
  ],
];
for (const [name, given, want] of wakes)
  test(`the time of the next decision: ${name}`, () => assert.equal(decideAt(given).requeueAfter, want));

test("a namespace that is being deleted releases the export, and says what was kept", () => {
  const given = world({
    spec: { deletionPolicy: "Delete" },
    status: admitted(),
    closing: true,
    metadata: { deletionTimestamp: startTime, finalizers: ["fhirexport.dev/output"] },
    runs: { export: {} },
  });
  const { effects } = decideAt(given);
  assert.deepEqual(effects.map(effectText), ["event", "finalizer false"]);
  assert.match(effects[0]?.do === "event" ? effects[0].note : "", /fhir\/20260304T050607-x-0a1b2c3d/);
});
