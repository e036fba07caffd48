import assert from "node:assert/strict";
import { test } from "node:test";
import type { FhirExportStatus } from "../../src/api/fhirexport.gen.ts";
import type { Progress } from "../../src/contracts.ts";
import type { RunView } from "../../src/effects.ts";
import { admitted, decideAt, doneRun, later, outputOfX, readyCondition, runOf, world } from "./decisions.ts";
import { report, totals, uid } from "./fake.ts";

const told = (index: number, resources: number): Progress => ({
  v: 1,
  uid,
  index,
  totals: { ...totals, resources },
  types: [{ type: "Patient", ...totals, resources }],
  throttledSeconds: 0,
});

test("progress is the sum over indexes, at most 99 percent, never goes down, has an estimate, and is published every progressSeconds", () => {
  const sample = { time: later(-30).toISOString(), resources: 0 };
  const status = admitted({
    run: runOf({}, { packages: 3, sample }),
    progress: { expectedResources: 1000, resources: 0 },
  });
  const at = (seconds: number, before: FhirExportStatus, progress: Progress[], reports: RunView["reports"] = []) =>
    decideAt(world({ status: before, runs: { export: { parallelism: 3, progress, reports } } }), later(seconds)).status;
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

test("the first resources are published at once, also of an export in one pod", () => {
  const inOnePod: Progress = {
    ...told(0, 100),
    types: [{ type: "Patient", ...totals, resources: 100, expected: 400 }],
  };
  const { status } = decideAt(world({ status: admitted(), runs: { plan: { progress: [inOnePod] } } }));
  const { percent, resources, expectedResources } = status.progress ?? {};
  assert.deepEqual([percent, resources, expectedResources], [25, 100, 400]);
  assert.equal(readyCondition(status)?.reason, "Running");
  const planned = admitted({
    run: runOf({}, { packages: 3, sample: { time: later(0).toISOString(), resources: 0 } }),
    progress: { expectedResources: 1000, resources: 0, percent: 0 },
  });
  const next = decideAt(world({ status: planned, runs: { export: { parallelism: 3, progress: [told(0, 100)] } } }));
  assert.equal(next.status.progress?.percent, 10);
});

test("what the packages have exported is published when they are done, for the seal shows no progress", () => {
  const status = admitted({
    run: runOf({}, { packages: 1, sample: { time: later(0).toISOString(), resources: 0 } }),
    progress: { expectedResources: 10, resources: 0, percent: 0 },
  });
  const done = decideAt(world({ status, runs: { export: doneRun("export") } })).status;
  const sealing = decideAt(world({ status: done, runs: { export: doneRun("export") } })).status;
  assert.deepEqual([readyCondition(done)?.reason, done.progress?.percent], ["Running", 99]);
  assert.deepEqual([readyCondition(sealing)?.reason, sealing.progress?.resources], ["Sealing", 10]);
});

test("the plan's counts and the seal's totals", () => {
  const planned = decideAt(world({ status: admitted(), runs: { plan: doneRun("plan") } })).status;
  assert.equal(planned.transactionTime, "2026-03-04T05:06:06.999Z");
  assert.equal(planned.run?.packages, 3);
  assert.equal(planned.progress?.expectedResources, 10);
  const { status } = decideAt(world({ status: planned, runs: { seal: doneRun("seal") } }), later(100));
  assert.deepEqual(status.output, { ...outputOfX, manifestSHA256: "ab", ...totals });
  assert.deepEqual(status.progress, { percent: 100, resources: 10, bytes: 1000, expectedResources: 10 });
  assert.deepEqual(status.types, [
    { state: "Complete", type: "Patient", expected: 10, exported: 10, files: 2, errors: 0 },
  ]);
  assert.equal(status.completionTime, "2026-03-04T05:07:47Z");
});
