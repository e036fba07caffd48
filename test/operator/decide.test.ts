import assert from "node:assert/strict";
import { test } from "node:test";
import { findCondition, isTrue } from "../../src/api/conditions.ts";
import type { FhirExport, FhirExportSpec, FhirExportStatus } from "../../src/api/fhirexport.gen.ts";
import { finalizer } from "../../src/api/names.ts";
import type { Command, Effect, Progress, RunView, World } from "../../src/contracts.ts";
import { decide } from "../../src/operator/decide.ts";
import type { ExportWorld } from "../../src/operator/port.ts";
import { defaultSettings, type Settings } from "../../src/operator/settings.ts";
import { makeRun } from "../../src/operator/task.ts";
import { makeExport, makeSource, makeTarget, report, results, start, totals, uid } from "./fake.ts";

const later = (seconds: number) => new Date(start.getTime() + seconds * 1000);
const startTime = "2026-03-04T05:06:07Z";
const runOf = (spec: Partial<FhirExportSpec> = {}, more: object = {}) => ({
  ...makeRun(
    { export: makeExport(spec), source: makeSource(), target: makeTarget() },
    { attempt: 1, startTime },
    defaultSettings,
  ),
  ...more,
});
/** An admitted export with some of its runs. */
function world(
  given: {
    spec?: Partial<FhirExportSpec>;
    status?: FhirExportStatus;
    metadata?: Partial<FhirExport["metadata"]>;
    runs?: Partial<Record<Command, Partial<RunView>>>;
    source?: World<never, unknown, never>["source"] | null;
    target?: ReturnType<typeof makeTarget> | null;
    running?: Partial<ExportWorld["running"]>;
    closing?: true;
  } = {},
): ExportWorld {
  const object = makeExport(given.spec, given.status);
  Object.assign(object.metadata, given.metadata);
  const runs = Object.fromEntries(
    Object.entries(given.runs ?? {}).map(([command, run]): [string, RunView] => [
      command,
      {
        name: `x-0a1b2c3d-${command}-1`,
        uid: `uid-${command}`,
        ours: true,
        attempt: 1,
        state: "active",
        live: 1,
        done: 0,
        reports: [],
        progress: [],
        ...run,
      },
    ]),
  );
  return {
    export: object,
    ...(given.source === null ? {} : { source: (given.source as ReturnType<typeof makeSource>) ?? makeSource() }),
    ...(given.target === null ? {} : { target: given.target ?? makeTarget() }),
    runs,
    running: { source: 0, all: 0, ahead: 0, ...given.running },
    ...(given.closing ? { closing: true } : {}),
  };
}
const admitted = (more: FhirExportStatus = {}): FhirExportStatus => ({
  attempt: 1,
  run: runOf(),
  output: outputOfX,
  startTime,
  ...more,
});
const outputOfX = {
  container: "fhir",
  prefix: "20260304T050607-x-0a1b2c3d",
  manifest: "https://a.blob.core.windows.net/fhir/20260304T050607-x-0a1b2c3d/manifest.json",
};
const done = (command: Command): Partial<RunView> => ({ state: "complete", live: 0, reports: [results[command]] });
const ready = (status: FhirExportStatus) => findCondition(status.conditions, "Ready");
const go = (one: ExportWorld, now = later(1), settings: Partial<Settings> = {}) =>
  decide(one, now, { ...defaultSettings, ...settings });
const show = (effect: Effect) =>
  effect.do === "ensureRun"
    ? `ensure ${effect.run.command}${effect.run.task ? " with task" : ""}`
    : effect.do === "setRun"
      ? `set ${effect.uid}${effect.suspend === undefined ? "" : ` suspend ${effect.suspend}`}${effect.parallelism === undefined ? "" : ` parallelism ${effect.parallelism}`}${effect.ttlSeconds === undefined ? "" : ` ttl ${effect.ttlSeconds}`}`
      : effect.do === "deleteRun"
        ? `delete ${effect.uid}`
        : effect.do === "outcome"
          ? `outcome ${effect.value}/${effect.attempt}`
          : effect.do === "finalizer"
            ? `finalizer ${effect.on}`
            : effect.do;
const effectsOf = (one: ExportWorld, ...more: [Date?, Partial<Settings>?]) =>
  go(one, ...more)
    .effects.filter((effect) => effect.do !== "event")
    .map(show);

interface Row {
  case: string;
  world: ExportWorld;
  now?: Date;
  reason: string;
  /** status of Ready, and the other conditions that are True */
  ready: "True" | "False" | "Unknown";
  holds: string[];
  message?: RegExp;
  effects?: string[];
  requeueAfter?: number;
}
const notReady = makeSource();
notReady.status = {
  conditions: [{ ...notReady.status!.conditions![0]!, status: "False", message: "baseURL must be a URL" }],
};
const stale = makeSource();
stale.metadata.generation = 2;
const leaving = makeSource();
leaving.metadata.deletionTimestamp = startTime;
const identity = (name: string) => ({ workloadIdentity: { serviceAccountName: name, scope: "x" } });

const table: Row[] = [
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
    case: "source was edited and not looked at since",
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
    case: "a free slot",
    world: world(),
    reason: "Planning",
    ready: "Unknown",
    holds: ["Accepted", "Reconciling"],
    effects: [],
    requeueAfter: 0,
  },
  {
    case: "no free slot",
    world: world({ running: { source: 2, ahead: 3 } }),
    reason: "Queued",
    ready: "Unknown",
    holds: ["Accepted", "Reconciling"],
    message: /FhirSource s/,
    effects: [],
    requeueAfter: 10,
  },
  {
    case: "a free slot, but another is before it",
    world: world({ running: { source: 1, ahead: 1 } }),
    reason: "Queued",
    ready: "Unknown",
    holds: ["Accepted", "Reconciling"],
  },
  {
    case: "two free slots and one before it",
    world: world({ running: { source: 0, ahead: 1 } }),
    reason: "Planning",
    ready: "Unknown",
    holds: ["Accepted", "Reconciling"],
  },
  {
    case: "suspended before it starts",
    world: world({ spec: { suspend: true } }),
    reason: "Suspended",
    ready: "False",
    holds: ["Reconciling", "Suspended"],
    effects: [],
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
    case: "refused although the source is missing",
    world: world({ source: null, spec: { container: "other" } }),
    reason: "Refused",
    ready: "False",
    holds: ["Failed", "Stalled"],
  },
  {
    case: "admitted",
    world: world({ status: admitted() }),
    reason: "Planning",
    ready: "Unknown",
    holds: ["Accepted", "Reconciling"],
    effects: ["ensure plan with task"],
  },
  {
    case: "admitted, then the source was edited: what it is started with follows before anything is made",
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
    case: "planned",
    world: world({ status: admitted(), runs: { plan: done("plan") } }),
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
      runs: { plan: done("plan"), export: { parallelism: 3 } },
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
    case: "exporting, parallelism was raised: from the next attempt",
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
    case: "exported",
    world: world({
      status: admitted({ run: runOf({}, { packages: 3 }) }),
      runs: { plan: done("plan"), export: done("export") },
    }),
    reason: "Sealing",
    ready: "Unknown",
    holds: ["Accepted", "Reconciling"],
    effects: ["ensure seal"],
  },
  {
    case: "exported, plan and export Jobs removed by someone, sealing",
    world: world({ status: admitted(), runs: { seal: {} } }),
    reason: "Sealing",
    ready: "Unknown",
    holds: ["Accepted", "Reconciling"],
    effects: [],
  },
  {
    case: "sealed",
    world: world({ status: admitted(), runs: { seal: done("seal") } }),
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
        seal: { ...done("seal"), reports: [report("seal", { exact: false, totals: { ...totals, errors: 3 } })] },
      },
    }),
    reason: "Complete",
    ready: "True",
    holds: ["Accepted", "Complete", "PartialErrors"],
    message: /3 errors/,
  },
  {
    case: "sealed and being suspended",
    world: world({ spec: { suspend: true }, status: admitted(), runs: { seal: done("seal") } }),
    reason: "Complete",
    ready: "True",
    holds: ["Accepted", "Complete", "Exact"],
  },
  {
    case: "sealed and cancelled before that was seen: cancel wins",
    world: world({ spec: { cancel: true }, status: admitted(), runs: { seal: done("seal") } }),
    reason: "Cancelled",
    ready: "False",
    holds: ["Cancelled", "Reconciling"],
    effects: ["outcome Cancelled/1"],
  },
  {
    case: "sealed and the outcome written before cancel was seen: complete",
    world: world({
      spec: { cancel: true },
      status: admitted(),
      metadata: { annotations: { "fhirexport.dev/outcome": "Complete" } },
      runs: { seal: done("seal") },
    }),
    reason: "Complete",
    ready: "True",
    holds: ["Accepted", "Complete", "Exact"],
    effects: [],
    requeueAfter: 0,
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
    world: world({ spec: { suspend: true }, status: admitted(), runs: { plan: done("plan") } }),
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
    case: "cancelling: a Job is active",
    world: world({ spec: { cancel: true }, status: admitted(), runs: { plan: done("plan"), export: {} } }),
    reason: "Cancelling",
    ready: "False",
    holds: ["Reconciling"],
    effects: ["set uid-export suspend true"],
    requeueAfter: 15,
  },
  {
    case: "cancelling: suspended, one pod is not gone yet",
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
    case: "fenced",
    world: world({ spec: { cancel: true }, status: admitted(), runs: { export: { state: "suspended", live: 0 } } }),
    reason: "Cancelled",
    ready: "False",
    holds: ["Cancelled", "Reconciling"],
    effects: ["outcome Cancelled/1"],
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
    case: "waiting in a Kueue queue",
    world: world({ spec: { queueName: "q" }, status: admitted(), runs: { plan: { state: "suspended", live: 0 } } }),
    reason: "Queued",
    ready: "Unknown",
    holds: ["Accepted", "Reconciling"],
    message: /queue q/,
    effects: [],
  },
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
    case: "a waiting error: first told, not deleted yet",
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
    case: "a waiting error, due",
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
    case: "a waiting error for the tenth time: ten minutes",
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
    case: "a Job with its name that is not ours is not looked at",
    world: world({ status: admitted(), runs: { plan: { ...done("plan"), ours: false } } }),
    reason: "Planning",
    ready: "Unknown",
    holds: ["Accepted", "Reconciling"],
    effects: ["ensure plan with task"],
  },
  {
    case: "too late to start",
    world: world({ source: null, spec: { startDeadlineSeconds: 60 } }),
    now: later(60),
    reason: "Failed",
    ready: "False",
    holds: ["Failed", "Stalled"],
    message: /startDeadlineSeconds \(60\)/,
  },
  {
    case: "not too late yet",
    world: world({ source: null, spec: { startDeadlineSeconds: 60 } }),
    now: later(59),
    reason: "Waiting",
    ready: "Unknown",
    holds: ["Reconciling"],
  },
  {
    case: "too late in the queue",
    world: world({ running: { source: 9 }, spec: { startDeadlineSeconds: 60 } }),
    now: later(60),
    reason: "Failed",
    ready: "False",
    holds: ["Failed", "Stalled"],
  },
  {
    case: "takes too long",
    world: world({ spec: { activeDeadlineSeconds: 60 }, status: admitted(), runs: { plan: done("plan"), export: {} } }),
    now: later(60),
    reason: "Failed",
    ready: "False",
    holds: ["Failed", "Stalled"],
    message: /activeDeadlineSeconds \(60\)/,
    effects: ["set uid-export suspend true", "outcome Failed/1"],
  },
  {
    case: "goes on after suspend",
    world: world({
      status: admitted({
        run: runOf({}, { packages: 3 }),
        conditions: [
          { type: "Suspended", status: "True", reason: "Suspended", message: "", lastTransitionTime: startTime },
        ],
      }),
      runs: { plan: done("plan"), export: { state: "suspended", live: 0 } },
    }),
    reason: "Running",
    ready: "Unknown",
    holds: ["Accepted", "Reconciling"],
    effects: ["set uid-export suspend false"],
    requeueAfter: 0,
  },
  {
    case: "its slot was taken, but a Job of it was already started again: it loads the source, so it goes on",
    world: world({
      running: { source: 2 },
      status: admitted({
        run: runOf({}, { packages: 3 }),
        conditions: [
          { type: "Suspended", status: "True", reason: "Suspended", message: "", lastTransitionTime: startTime },
        ],
      }),
      runs: { plan: done("plan"), export: {} },
    }),
    reason: "Running",
    ready: "Unknown",
    holds: ["Accepted", "Reconciling"],
    effects: [],
  },
  {
    case: "is to go on, but its slot was taken",
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

for (const row of table)
  test(`decide: ${row.case}`, () => {
    const { status, requeueAfter } = go(row.world, row.now);
    const held = (status.conditions ?? [])
      .filter(({ type }) => type !== "Ready" && isTrue(status.conditions, type as "Ready"))
      .map(({ type }) => type);
    assert.deepEqual(
      { reason: ready(status)?.reason, ready: ready(status)?.status, holds: held.sort() },
      { reason: row.reason, ready: row.ready, holds: row.holds },
    );
    if (row.message) assert.match(ready(status)?.message ?? "", row.message);
    if (row.effects) assert.deepEqual(effectsOf(row.world, row.now), row.effects);
    if (row.requeueAfter !== undefined) assert.equal(requeueAfter, row.requeueAfter);
    assert.equal(status.observedGeneration, 1);
    assert.ok(
      status.conditions!.every(
        ({ observedGeneration }) => observedGeneration === 1 || row.world.export.status?.conditions,
      ),
    );
    assert.ok(
      !(isTrue(status.conditions, "Reconciling") && isTrue(status.conditions, "Stalled")),
      "kstatus: one of both at most",
    );
  });

test("what a decision is made of is not changed by it", () => {
  for (const { world: given, now } of table) {
    const copy = structuredClone(given);
    go(given, now);
    assert.deepEqual(given, copy);
  }
});

test("a decision that was written down decides nothing new: no hot loop on our own status", () => {
  for (const { case: what, world: given, now } of table) {
    const first = go(given, now);
    if (first.requeueAfter === 0) continue;
    const second = go({ ...given, export: { ...given.export, status: first.status } }, now);
    assert.deepEqual(second.status, first.status, what);
    assert.deepEqual(
      second.effects.filter(({ do: what }) => what === "event"),
      [],
      `${what}: the event is not told again`,
    );
  }
});

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
    world({ spec, status: admitted(), runs: { plan: done("plan") } }),
    world({ spec, status: admitted(), runs: { seal: done("seal") } }),
  ].map((one) => go(one));
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

test("progress: the sum over indexes, at most 99 percent, never down, an estimate; published every progressSeconds only", () => {
  const told = (index: number, resources: number): Progress => ({
    v: 1,
    uid,
    index,
    totals: { ...totals, resources },
    types: [{ type: "Patient", ...totals, resources }],
    throttledSeconds: 0,
  });
  const sample = { time: later(-30).toISOString(), resources: 0 };
  const status = admitted({
    run: runOf({}, { packages: 3, sample }),
    progress: { expectedResources: 1000, resources: 0 },
  });
  const at = (seconds: number, before: FhirExportStatus, progress: Progress[], reports: RunView["reports"] = []) =>
    go(world({ status: before, runs: { export: { parallelism: 3, progress, reports } } }), later(seconds)).status;
  const first = at(0, status, [told(0, 100), told(1, 100)]);
  assert.deepEqual(first.progress, {
    expectedResources: 1000,
    percent: 20,
    resources: 200,
    bytes: 2000,
    resourcesPerSecond: 7,
    estimatedCompletionTime: "2026-03-04T05:08:01Z",
  });
  assert.deepEqual(first.types, [{ type: "Patient", state: "Running", exported: 200, files: 4, errors: 0 }]);
  assert.deepEqual(at(29, first, [told(0, 999)]).progress, first.progress, "too early");
  const second = at(
    30,
    first,
    [told(0, 400)],
    [undefined, report("export", { totals: { ...totals, resources: 100 } })],
  );
  assert.deepEqual(second.progress, {
    expectedResources: 1000,
    percent: 50,
    resources: 500,
    bytes: 2000,
    resourcesPerSecond: 9,
    estimatedCompletionTime: "2026-03-04T05:07:32Z",
  });
  const third = at(60, second, []);
  assert.deepEqual(
    [third.progress?.resources, third.progress?.percent, third.progress?.resourcesPerSecond],
    [500, 50, 5],
    "pods that cannot be reached take nothing away",
  );
  assert.equal(at(90, third, [told(0, 2000)]).progress?.percent, 99);
});

test("what was cancelled has no end to wait for", () => {
  const progress = { percent: 20, resources: 10, estimatedCompletionTime: "2026-03-04T05:08:01Z" };
  const { status } = go(
    world({
      spec: { cancel: true },
      status: admitted({ progress }),
      runs: { export: { state: "suspended", live: 0 } },
    }),
  );
  assert.deepEqual(status.progress, { percent: 20, resources: 10 });
});

test("the plan's counts and the seal's totals", () => {
  const planned = go(world({ status: admitted(), runs: { plan: done("plan") } })).status;
  assert.equal(planned.transactionTime, "2026-03-04T05:06:06.999Z");
  assert.equal(planned.run?.packages, 3);
  assert.equal(planned.progress?.expectedResources, 10);
  const { status } = go(world({ status: planned, runs: { seal: done("seal") } }), later(100));
  assert.deepEqual(status.output, { ...outputOfX, manifestSHA256: "ab", ...totals });
  assert.deepEqual(status.progress, { percent: 100, resources: 10, bytes: 1000, expectedResources: 10 });
  assert.deepEqual(status.types, [
    { state: "Complete", type: "Patient", expected: 10, exported: 10, files: 2, errors: 0 },
  ]);
  assert.equal(status.completionTime, "2026-03-04T05:07:47Z");
});

test("the export run: as many completions as packages, parallelism within spec, source and packages", () => {
  const run = (spec: Partial<FhirExportSpec>, packages: number, parallelism: number) =>
    go(world({ spec, status: admitted({ run: runOf(spec, { packages, parallelism }) }), runs: {} })).effects.find(
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

test("ended: Jobs get their time to live only once the outcome is in the status, once", () => {
  const runs = { plan: done("plan"), export: done("export"), seal: done("seal") };
  const first = go(world({ status: admitted(), runs }));
  assert.ok(!first.effects.some(({ do: what }) => what === "setRun"));
  const ended = (more: Partial<RunView> = {}) =>
    world({
      status: first.status,
      metadata: { annotations: { "fhirexport.dev/outcome": "Complete" } },
      runs: { seal: { ...done("seal"), ...more } },
    });
  assert.deepEqual(effectsOf(ended()), ["set uid-seal ttl 86400"]);
  assert.deepEqual(effectsOf(ended({ ttlSeconds: 86400 })), []);
});

test("ended: an edit afterwards is observed, so that nobody waits for it in vain", () => {
  const { status } = go(world({ status: admitted(), runs: { seal: done("seal") } }));
  const edited = world({ status, metadata: { generation: 5, annotations: { "fhirexport.dev/outcome": "Complete" } } });
  const next = go(edited).status;
  assert.equal(next.observedGeneration, 5);
  assert.ok(next.conditions?.every(({ observedGeneration }) => observedGeneration === 5));
});

test("ended: ttlSecondsAfterFinished", () => {
  const spec = { ttlSecondsAfterFinished: 100 };
  const { status } = go(world({ spec, status: admitted(), runs: { seal: done("seal") } }), later(0));
  assert.equal(status.expirationTime, "2026-03-04T05:07:47Z");
  const ended = world({ spec, status, metadata: { annotations: { "fhirexport.dev/outcome": "Complete" } } });
  assert.equal(go(ended, later(40)).requeueAfter, 60);
  assert.deepEqual(effectsOf(ended, later(99)), []);
  assert.deepEqual(effectsOf(ended, later(100)), ["deleteExport"]);
  const removed = go(world({ status, metadata: { annotations: { "fhirexport.dev/outcome": "Complete" } } }), later(40));
  assert.equal(removed.status.expirationTime, undefined, "taken back");
});

test("ended: files that are given out over HTTP stay for an hour more, for downloads that run", () => {
  const ends = (spec: Partial<FhirExportSpec>, seconds: number) => {
    const all = { ttlSecondsAfterFinished: 100, ...spec };
    const { status } = go(world({ spec: all, status: admitted(), runs: { seal: done("seal") } }), later(0));
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

test("an export that is applied together with its source is not told to be waiting; one whose source turns out to be wrong is", () => {
  const events = (one: ExportWorld) =>
    go(one).effects.flatMap((effect) => (effect.do === "event" ? [effect.note] : []));
  const fresh = world({ source: stale });
  assert.deepEqual(events(fresh), []);
  const { status } = go(fresh);
  assert.deepEqual(events(world({ source: notReady, status })), [
    "waiting: FhirSource s is not ready: baseURL must be a URL",
  ]);
  assert.deepEqual(events(world({ source: stale, target: null })), [
    "waiting: FhirSource s has not been checked yet. ExportTarget t does not exist; create it",
  ]);
});

const wakes: [string, ExportWorld, number | undefined][] = [
  [
    "a deadline while planning",
    world({ spec: { activeDeadlineSeconds: 100 }, status: admitted(), runs: { plan: {} } }),
    99,
  ],
  [
    "a deadline later than the next look",
    world({ spec: { activeDeadlineSeconds: 100 }, status: admitted(), runs: { export: { parallelism: 1 } } }),
    30,
  ],
  ["no deadline", world({ status: admitted(), runs: { plan: {} } }), undefined],
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
for (const [name, given, want] of wakes) test(`looks again: ${name}`, () => assert.equal(go(given).requeueAfter, want));

test("a Job that can never be made fails the export; one that cannot be made now is shown and tried again", () => {
  const given = world({ status: admitted() });
  const never = decide(given, later(1), defaultSettings, {
    class: "terminal",
    reason: "UnsupportedParameter",
    message: "spec.worker is malformed",
  });
  assert.deepEqual(never.effects.map(show), ["event", "outcome Failed/1"]);
  assert.match(ready(never.status)?.message ?? "", /spec.worker is malformed/);
  const now = decide(given, later(1), defaultSettings, {
    class: "waiting",
    reason: "Internal",
    message: "exceeded quota",
  });
  assert.deepEqual(now.effects.map(show), ["event"]);
  assert.match(ready(now.status)?.message ?? "", /exceeded quota/);
  assert.equal(now.requeueAfter, 30);
});

test("a namespace that is being deleted releases the export, and says what was kept", () => {
  const given = world({
    spec: { deletionPolicy: "Delete" },
    status: admitted(),
    closing: true,
    metadata: { deletionTimestamp: startTime, finalizers: ["fhirexport.dev/output"] },
    runs: { export: {} },
  });
  const { effects } = go(given);
  assert.deepEqual(effects.map(show), ["event", "finalizer false"]);
  assert.match(effects[0]?.do === "event" ? effects[0].note : "", /fhir\/20260304T050607-x-0a1b2c3d/);
});
