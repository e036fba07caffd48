import assert from "node:assert/strict";
import { suite, test } from "node:test";
import type { FhirExport, FhirExportSpec, FhirExportStatus } from "../../src/api/fhirexport.gen.ts";
import { annotations } from "../../src/api/names.ts";
import { SourceUses, type Wake, wokenBy } from "../../src/operator/wakes.ts";
import { makeExport } from "./fake.ts";

const condition = (type: string, status: "True" | "False" | "Unknown") => ({
  type,
  status,
  reason: "X",
  message: "",
  lastTransitionTime: "2026-01-01T00:00:00Z",
});
const run = { attempt: 1, parallelism: 1, startTime: "2026-01-01T00:00:00Z" };

interface Given {
  spec?: Partial<FhirExportSpec>;
  status?: FhirExportStatus;
  outcome?: string;
  namespace?: string;
  deleted?: true;
}
function make(name: string, { spec, status, outcome, namespace, deleted }: Given): FhirExport {
  const object = makeExport(spec, status);
  Object.assign(object.metadata, {
    name,
    uid: name,
    ...(namespace && { namespace }),
    ...(outcome && { annotations: { [annotations.outcome]: outcome } }),
    ...(deleted && { deletionTimestamp: "2026-03-04T05:06:08Z" }),
  });
  return object;
}

// what an export can be, as far as others are concerned
const isNew: Given = {};
const queued: Given = { status: { conditions: [condition("Accepted", "True"), condition("Ready", "Unknown")] } };
const waiting: Given = { status: { conditions: [condition("Accepted", "Unknown")] } };
const running: Given = { status: { run, conditions: [condition("Accepted", "True")] } };
const suspended: Given = {
  spec: { suspend: true },
  status: { run, conditions: [condition("Accepted", "True"), condition("Suspended", "True")] },
};
const resumed: Given = { ...suspended, spec: { suspend: false } };
const complete: Given = { ...running, outcome: "Complete" };
const cancelled: Given = { ...running, spec: { cancel: true }, outcome: "Cancelled" };
const failed: Given = { ...running, outcome: "Failed/1" };
const retried: Given = { ...failed, spec: { retry: 1 } };
const elsewhere = { sourceRef: { name: "s2" } };

/** The other exports of the place, by name; a test lists those of them that are woken. */
const others: Record<string, Given> = {
  "new one": isNew,
  "queued one": queued,
  "resumed one": resumed,
  "retried one": retried,
  "waiting one": waiting,
  "running one": running,
  "suspended one": suspended,
  "complete one": complete,
  "cancelled one": cancelled,
  "failed one": failed,
  "queued one that is being deleted": { ...queued, deleted: true },
  "queued one of another source": { ...queued, spec: elsewhere },
  "queued one of another target": { ...queued, spec: { targetRef: { name: "t2" } } },
  "queued one of another namespace": { ...queued, namespace: "ns2" },
};
/** All that wait for a slot of the source. */
const behind = ["new one", "queued one", "queued one of another target", "resumed one", "retried one"];
const behindAnywhere = [...behind, "queued one of another namespace", "queued one of another source"].sort();

/** @param maxExports the limit over all sources */
function woken(wake: Wake, maxExports?: number): string[] {
  const all = Object.entries(others).map(([name, given]) => make(name, given));
  return wokenBy(wake, all, maxExports)
    .map(({ metadata }) => metadata.name)
    .sort();
}

suite("an export that changes wakes", () => {
  const cases: Record<string, { before?: Given; now?: Given; maxExports?: number; wakes: string[] }> = {
    "all who wait for its source, when it completes": { before: running, now: complete, wakes: behind },
    "the same when it fails": { before: running, now: failed, wakes: behind },
    "the same when it is cancelled": { before: running, now: cancelled, wakes: behind },
    "the same when it is suspended": { before: running, now: suspended, wakes: behind },
    "the same when it was suspended and goes on before anyone looked": { before: running, now: resumed, wakes: behind },
    "the same when it failed and is retried before anyone looked": { before: running, now: retried, wakes: behind },
    "the same when it ran and is gone": { before: running, wakes: behind },
    "who waits for any source, where there is a limit over all": {
      before: running,
      now: complete,
      maxExports: 5,
      wakes: behindAnywhere,
    },
    "who waited for its old source, when it was deleted and made anew with another": {
      before: running,
      now: { ...running, spec: elsewhere },
      wakes: behind,
    },
    "those behind it, when it was new and is refused": {
      before: isNew,
      now: { status: { conditions: [condition("Accepted", "False")] }, outcome: "Failed/1" },
      wakes: behind,
    },
    "those behind it, when it was queued and its target is gone": { before: queued, now: waiting, wakes: behind },
    "those behind it, when it was queued and is cancelled": {
      before: queued,
      now: { ...queued, spec: { cancel: true } },
      wakes: behind,
    },
    "those behind it, when it was queued and is gone": { before: queued, wakes: behind },
    "only those behind it, also where there is a limit over all": { before: queued, maxExports: 5, wakes: behind },
    "nobody when it is first seen": { now: running, wakes: [] },
    "nobody when it gets into the queue": { before: waiting, now: queued, wakes: [] },
    "nobody when it starts: those behind it are one place nearer, to one slot less": {
      before: queued,
      now: running,
      wakes: [],
    },
    "nobody when it goes on after a suspension": { before: resumed, now: running, wakes: [] },
    "nobody by its progress": { before: running, now: running, wakes: [] },
    "nobody by its queue position": { before: queued, now: queued, wakes: [] },
    "nobody when it ended before and is gone": { before: complete, wakes: [] },
  };
  for (const [name, { before, now, maxExports, wakes }] of Object.entries(cases))
    test(name, () => {
      const uses = new SourceUses();
      uses.note("ns/x", before && make("x", before));
      assert.deepEqual(woken(uses.note("ns/x", now && make("x", now)), maxExports), wakes);
    });

  test("what was remembered of an export goes with it", () => {
    const uses = new SourceUses();
    uses.note("ns/x", make("x", running));
    uses.note("ns/x", undefined);
    assert.deepEqual(woken(uses.note("ns/x", undefined)), []);
  });
});

suite("a source or target that changes wakes", () => {
  const open = ["failed one", "running one", "suspended one", "waiting one", "queued one that is being deleted"];
  const cases: Record<string, { wake: Wake; wakes: string[] }> = {
    "all exports of a source but those that are over for good": {
      wake: { kind: "source", key: "ns/s" },
      wakes: [...behind, ...open].sort(),
    },
    "all exports of a target but those that are over for good": {
      wake: { kind: "target", key: "ns/t" },
      wakes: [...behind, ...open, "queued one of another source"]
        .filter((name) => name !== "queued one of another target")
        .sort(),
    },
    "only those of its namespace": {
      wake: { kind: "source", key: "ns2/s" },
      wakes: ["queued one of another namespace"],
    },
    "nobody where nothing refers to it": { wake: { kind: "target", key: "ns/unknown" }, wakes: [] },
  };
  for (const [name, { wake, wakes }] of Object.entries(cases)) test(name, () => assert.deepEqual(woken(wake), wakes));
});
