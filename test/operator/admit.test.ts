import assert from "node:assert/strict";
import { test } from "node:test";
import type { FhirExport, FhirExportSpec, FhirExportStatus } from "../../src/api/fhirexport.gen.ts";
import { annotations } from "../../src/api/names.ts";
import { countRunning, holdsSlot } from "../../src/operator/admit.ts";
import { createReconcile } from "../../src/operator/reconcile.ts";
import { defaultSettings } from "../../src/operator/settings.ts";
import { shareOf } from "../../src/operator/share.ts";
import { checkDecision, checkStable, type DecisionRow, later, world } from "./decisions.ts";
import { FakePort, makeExport, makeSource, start } from "./fake.ts";

const run = { attempt: 1, parallelism: 1, startTime: "2026-01-01T00:00:00Z" };
const condition = (type: string, status: "True" | "False" | "Unknown") => ({
  type,
  status,
  reason: "X",
  message: "",
  lastTransitionTime: "2026-01-01T00:00:00Z",
});
function other(
  given: {
    spec?: Partial<FhirExportSpec>;
    status?: FhirExportStatus;
    metadata?: Partial<FhirExport["metadata"]>;
    outcome?: string;
  } = {},
): FhirExport {
  const object = makeExport(given.spec, given.status);
  Object.assign(object.metadata, { name: "other", uid: "other", ...given.metadata });
  if (given.outcome) object.metadata.annotations = { [annotations.outcome]: given.outcome };
  return object;
}

const counts: [string, FhirExport, { source: number; all: number; ahead: number }][] = [
  ["itself", makeExport({}, { run }), { source: 0, all: 0, ahead: 0 }],
  ["one that runs", other({ status: { run } }), { source: 1, all: 1, ahead: 0 }],
  [
    "one of another source",
    other({ status: { run }, spec: { sourceRef: { name: "s2" } } }),
    { source: 0, all: 1, ahead: 0 },
  ],
  [
    "one of another namespace",
    other({ status: { run }, metadata: { namespace: "ns2" } }),
    { source: 0, all: 1, ahead: 0 },
  ],
  [
    "one that is suspended",
    other({ spec: { suspend: true }, status: { run, conditions: [condition("Suspended", "True")] } }),
    { source: 0, all: 0, ahead: 0 },
  ],
  [
    "a suspended one that is to go on",
    other({ status: { run, conditions: [condition("Suspended", "True")] }, metadata: { name: "a" } }),
    { source: 0, all: 0, ahead: 1 },
  ],
  [
    "one that is cancelled, while its workers stop",
    other({ status: { run }, spec: { cancel: true } }),
    { source: 1, all: 1, ahead: 0 },
  ],
  ["one that is complete", other({ status: { run }, outcome: "Complete" }), { source: 0, all: 0, ahead: 0 }],
  ["one that failed", other({ status: { run }, outcome: "Failed/1" }), { source: 0, all: 0, ahead: 0 }],
  [
    "one that failed and runs again",
    other({ status: { run: { ...run, attempt: 2 } }, spec: { retry: 1 }, outcome: "Failed/1" }),
    { source: 1, all: 1, ahead: 0 },
  ],
  [
    "one that failed and waits to run again",
    other({ status: { run }, spec: { retry: 1 }, outcome: "Failed/1", metadata: { name: "a" } }),
    { source: 0, all: 0, ahead: 1 },
  ],
  [
    "a new one, made in the same second, earlier by name",
    other({ metadata: { name: "a" } }),
    { source: 0, all: 0, ahead: 1 },
  ],
  ["a new one, later by name", other({ metadata: { name: "z" } }), { source: 0, all: 0, ahead: 0 }],
  [
    "an older one",
    other({ metadata: { name: "z", creationTimestamp: "2026-03-04T05:06:06Z" } }),
    { source: 0, all: 0, ahead: 1 },
  ],
  [
    "a younger one",
    other({ metadata: { name: "a", creationTimestamp: "2026-03-04T05:06:08Z" } }),
    { source: 0, all: 0, ahead: 0 },
  ],
  [
    "a younger one of greater priority",
    other({ spec: { priority: 1 }, metadata: { creationTimestamp: "2026-03-04T05:06:08Z" } }),
    { source: 0, all: 0, ahead: 1 },
  ],
  [
    "an older one of less priority",
    other({ spec: { priority: -1 }, metadata: { creationTimestamp: "2026-03-04T05:06:06Z" } }),
    { source: 0, all: 0, ahead: 0 },
  ],
  [
    "one before it in another source's queue",
    other({ spec: { sourceRef: { name: "s2" } }, metadata: { name: "a" } }),
    { source: 0, all: 0, ahead: 0 },
  ],
  [
    "one before it that is suspended",
    other({ spec: { suspend: true }, metadata: { name: "a" } }),
    { source: 0, all: 0, ahead: 0 },
  ],
  [
    "one before it that is cancelled",
    other({ spec: { cancel: true }, metadata: { name: "a" } }),
    { source: 0, all: 0, ahead: 0 },
  ],
  [
    "one before it that is being deleted",
    other({ metadata: { name: "a", deletionTimestamp: "2026-03-04T05:06:08Z" } }),
    { source: 0, all: 0, ahead: 0 },
  ],
  [
    "one before it that waits for its target",
    other({ status: { conditions: [condition("Accepted", "Unknown")] }, metadata: { name: "a" } }),
    { source: 0, all: 0, ahead: 0 },
  ],
  [
    "one before it that was accepted",
    other({ status: { conditions: [condition("Accepted", "True")] }, metadata: { name: "a" } }),
    { source: 0, all: 0, ahead: 1 },
  ],
];
for (const [name, one, want] of counts)
  test(`counts ${name}`, () => assert.deepEqual(countRunning(makeExport({}), [makeExport({}), one]), want));

test("admission is serial: of many exports at once never more run than the source allows, in order, and all of them in the end", async () => {
  const port = new FakePort();
  port.source = makeSource({ limits: { maxConcurrentExports: 3 } });
  const started: string[] = [];
  const most = { held: 0 };
  const write = port.writeStatus.bind(port);
  port.writeStatus = async (world, status) => {
    const name = world.export.metadata.name;
    if (status.run && !started.includes(name)) started.push(name);
    // The API server takes some time, which differs from call to call.
    await new Promise((resolve) => setTimeout(resolve, name.charCodeAt(1) % 4));
    await write(world, status);
    most.held = Math.max(most.held, [...port.objects.values()].filter(holdsSlot).length);
  };
  const names = Array.from({ length: 12 }, (_, index) => `e${index}`);
  for (const [index, name] of names.entries()) {
    const object = makeExport({ priority: index % 2 });
    Object.assign(object.metadata, {
      name,
      uid: `${String(index).padStart(8, "0")}-x`,
      creationTimestamp: new Date(start.getTime() + index * 1000).toISOString(),
    });
    port.add(object);
  }
  const reconcile = createReconcile(port, defaultSettings, () => start);
  const complete = () =>
    [...port.objects.values()].filter(({ metadata }) => metadata.annotations?.[annotations.outcome] === "Complete")
      .length;
  for (let round = 0; round < 200 && complete() < names.length; round++) {
    await Promise.all([...port.objects.keys()].map((key) => reconcile(key)));
    port.work();
  }
  assert.equal(complete(), names.length);
  assert.equal(most.held, 3);
  const byPriority = [...names.filter((_, index) => index % 2 === 1), ...names.filter((_, index) => index % 2 === 0)];
  // A slot that becomes free while others are decided about is kept for the first in the queue, so that none is
  // overtaken by more exports than there are slots.
  for (const [index, name] of started.entries())
    assert.ok(Math.abs(byPriority.indexOf(name) - index) < 3, `${name} was started as number ${index}`);
});

test("a limit over all sources", async () => {
  const port = new FakePort();
  for (const [index, source] of ["s", "s2", "s3"].entries()) {
    const object = makeExport({ sourceRef: { name: source } });
    Object.assign(object.metadata, { name: `e${index}`, uid: `0000000${index}-x` });
    port.add(object);
  }
  const reconcile = createReconcile(port, { ...defaultSettings, maxExports: 2 }, () => start);
  for (const key of port.objects.keys()) await reconcile(key);
  assert.equal([...port.objects.values()].filter(holdsSlot).length, 2);
});

const shares: [Parameters<typeof shareOf>[0], number, ReturnType<typeof shareOf>][] = [
  [undefined, 4, { parallelism: 4, requests: 4 }],
  [{ maxConcurrentExports: 1, concurrentRequests: 16 }, 4, { parallelism: 4, requests: 4 }],
  [{ maxConcurrentExports: 3, concurrentRequests: 16 }, 4, { parallelism: 4, requests: 1 }],
  [{ maxConcurrentExports: 8, concurrentRequests: 16 }, 4, { parallelism: 2, requests: 1 }],
  [{ maxConcurrentExports: 1, concurrentRequests: 1 }, 4, { parallelism: 1, requests: 1 }],
  [
    { maxConcurrentExports: 2, concurrentRequests: 100, requestsPerSecond: 20 },
    4,
    { parallelism: 4, requests: 12, perSecond: 2 },
  ],
  [
    { maxConcurrentExports: 2, concurrentRequests: 100, requestsPerSecond: 5 },
    4,
    { parallelism: 2, requests: 25, perSecond: 1 },
  ],
  [{ concurrentRequests: 10 }, 1, { parallelism: 1, requests: 5 }],
];
for (const [limits, wanted, want] of shares)
  test(`share of ${JSON.stringify(limits)} for ${wanted} pods`, () => {
    const got = shareOf(limits, wanted);
    assert.deepEqual(got, want);
    const exports = limits?.maxConcurrentExports ?? 2;
    assert.ok(
      exports * got.parallelism * got.requests <= (limits?.concurrentRequests ?? 32),
      "all together keep to the limit",
    );
    if (limits?.requestsPerSecond) assert.ok(exports * got.parallelism * got.perSecond! <= limits.requestsPerSecond);
  });

const table: DecisionRow[] = [
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
    case: "in the queue for longer than startDeadlineSeconds",
    world: world({ running: { source: 9 }, spec: { startDeadlineSeconds: 60 } }),
    now: later(60),
    reason: "Failed",
    ready: "False",
    holds: ["Failed", "Stalled"],
  },
];
for (const row of table) test(`decide: ${row.case}`, () => checkDecision(row));
test("these decisions change nothing that they are made from, and lead to no new ones", () => checkStable(table));
