import assert from "node:assert/strict";
import { test } from "node:test";
import type { ExportWorld } from "../../src/operator/port.ts";
import { checkDecision, checkStable, type DecisionRow, decideAt, later, startTime, world } from "./decisions.ts";
import { makeSource, makeTarget } from "./fake.ts";

const notReady = makeSource();
notReady.status = {
  conditions: [{ ...notReady.status!.conditions![0]!, status: "False", message: "baseURL must be a URL" }],
};
const stale = makeSource();
stale.metadata.generation = 2;
const leaving = makeSource();
leaving.metadata.deletionTimestamp = startTime;
const identity = (name: string) => ({ workloadIdentity: { serviceAccountName: name, scope: "x" } });
const table: DecisionRow[] = [
  {
    case: "source is missing",
    world: world({ source: null }),
    reason: "Waiting",
    ready: "Unknown",
    holds: ["Reconciling"],
    message: /FhirSource s does not exist/,
    effects: [],
  },
  {
    case: "target is missing",
    world: world({ target: null }),
    reason: "Waiting",
    ready: "Unknown",
    holds: ["Reconciling"],
    message: /ExportTarget t does not exist/,
    effects: [],
  },
  {
    case: "source is not ready",
    world: world({ source: notReady }),
    reason: "Waiting",
    ready: "Unknown",
    holds: ["Reconciling"],
    message: /FhirSource s is not ready: baseURL must be a URL/,
  },
  {
    case: "source was edited and has not been checked since",
    world: world({ source: stale }),
    reason: "Waiting",
    ready: "Unknown",
    holds: ["Reconciling"],
    message: /FhirSource s has not been checked yet/,
  },
  {
    case: "source is being deleted",
    world: world({ source: leaving }),
    reason: "Waiting",
    ready: "Unknown",
    holds: ["Reconciling"],
    message: /being deleted/,
  },
  {
    case: "refused: container",
    world: world({ spec: { container: "other" } }),
    reason: "Refused",
    ready: "False",
    holds: ["Failed", "Stalled"],
    message: /spec.container: the target allows only these containers: fhir, export-\*/,
    effects: ["outcome Failed/1"],
  },
  {
    case: "refused: filter",
    world: world({ spec: { typeFilters: ["Group?a=b", "Patient?_count=1"] } }),
    reason: "Refused",
    ready: "False",
    holds: ["Failed", "Stalled"],
    message: /spec.typeFilters\[1\]: the type filter for Patient has the result parameter _count/,
  },
  {
    case: "refused: two service accounts",
    world: world({
      source: makeSource({ auth: identity("a") }),
      target: makeTarget({ azureBlob: { accountURL: "https://a.example", auth: identity("b") } }),
    }),
    reason: "Refused",
    ready: "False",
    holds: ["Failed", "Stalled"],
    message: /FhirSource s and ExportTarget t name different service accounts/,
  },
  {
    case: "refused, although the source is missing",
    world: world({ source: null, spec: { container: "other" } }),
    reason: "Refused",
    ready: "False",
    holds: ["Failed", "Stalled"],
  },
  {
    case: "one service account for both",
    world: world({
      source: makeSource({ auth: identity("a") }),
      target: makeTarget({ azureBlob: { accountURL: "https://a.example", auth: identity("a") } }),
    }),
    reason: "Planning",
    ready: "Unknown",
    holds: ["Accepted", "Reconciling"],
  },
  {
    case: "not started within startDeadlineSeconds",
    world: world({ source: null, spec: { startDeadlineSeconds: 60 } }),
    now: later(60),
    reason: "Failed",
    ready: "False",
    holds: ["Failed", "Stalled"],
    message: /startDeadlineSeconds \(60\)/,
  },
  {
    case: "startDeadlineSeconds is not over",
    world: world({ source: null, spec: { startDeadlineSeconds: 60 } }),
    now: later(59),
    reason: "Waiting",
    ready: "Unknown",
    holds: ["Reconciling"],
  },
];
for (const row of table) test(`decide: ${row.case}`, () => checkDecision(row));
test("these decisions change nothing that they are made from, and lead to no new ones", () => checkStable(table));

test("no event says that an export waits which is applied together with its source, unless the source turns out to be wrong", () => {
  const events = (one: ExportWorld) =>
    decideAt(one).effects.flatMap((effect) => (effect.do === "event" ? [effect.note] : []));
  const fresh = world({ source: stale });
  assert.deepEqual(events(fresh), []);
  const { status } = decideAt(fresh);
  assert.deepEqual(events(world({ source: notReady, status })), [
    "waiting: FhirSource s is not ready: baseURL must be a URL",
  ]);
  assert.deepEqual(events(world({ source: stale, target: null })), [
    "waiting: FhirSource s has not been checked yet. ExportTarget t does not exist; create it",
  ]);
});
