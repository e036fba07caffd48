import assert from "node:assert/strict";
import { test } from "node:test";
import { type Job, type JobView, type Pod, viewRun } from "../../src/kube/view.ts";

const uid = "u1";
const now = new Date("2026-03-04T05:10:00Z");
const job = (
  status: Job["status"] = {},
  more: Partial<Job["spec"]> = {},
  metadata: Partial<Job["metadata"]> = {},
): Job => ({
  metadata: {
    name: "j",
    uid: "j1",
    labels: { "fhirexport.dev/attempt": "2" },
    ownerReferences: [{ apiVersion: "a", kind: "FhirExport", name: "x", uid, controller: true }],
    ...metadata,
  },
  spec: { completions: 3, parallelism: 2, completionMode: "Indexed", ...more },
  status,
});
const pod = (
  index: number,
  phase: string,
  end?: { message?: string; at?: string },
  { metadata, status }: { metadata?: Partial<Pod["metadata"]>; status?: Pod["status"] } = {},
): Pod => ({
  metadata: {
    name: `p${index}`,
    labels: { "batch.kubernetes.io/job-completion-index": String(index) },
    creationTimestamp: "2026-03-04T05:00:00Z",
    ...metadata,
  },
  status: {
    phase,
    ...(end
      ? {
          containerStatuses: [
            {
              name: "worker",
              state: {
                terminated: {
                  exitCode: 0,
                  ...(end.message === undefined ? {} : { message: end.message }),
                  finishedAt: end.at ?? "2026-03-04T05:01:00Z",
                },
              },
            },
          ],
        }
      : {}),
    ...status,
  },
});
const view = (one: Job, pods: Pod[] = [], events: JobView["events"] = []) =>
  viewRun({ job: one, pods, progress: [], events }, uid, now);
const message = (more: object = {}) => JSON.stringify({ v: 1, uid, command: "export", ...more });
const condition = (type: string, more: object = {}) => ({ conditions: [{ type, status: "True", ...more }] });

test("states", () => {
  assert.equal(view(job()).state, "active");
  assert.equal(view(job({}, { suspend: true })).state, "suspended");
  assert.equal(view(job(condition("Complete"))).state, "complete");
  assert.equal(view(job(condition("Failed"), { suspend: true })).state, "failed");
  assert.equal(view(job(condition("FailureTarget"))).state, "active", "an interim condition: pods may still run");
  assert.equal(view(job({ conditions: [{ type: "Failed", status: "False" }] })).state, "active");
  assert.equal(
    view(job(condition("Failed", { reason: "PodFailurePolicy", message: "see https://h.example/p?patient=1" }))).reason,
    "PodFailurePolicy: see https://h.example/p",
  );
  assert.equal(view(job({}, {}, { deletionTimestamp: "2026-03-04T05:00:00Z" })).going, true);
  assert.equal(view(job({}, { ttlSecondsAfterFinished: 60 })).ttlSeconds, 60);
  assert.equal(view(job()).attempt, 2);
});

test("a Job of another owner is not ours, whatever its labels say", () => {
  const owner = { apiVersion: "a", kind: "FhirExport", name: "x", uid: "other", controller: true };
  assert.equal(view(job()).ours, true);
  assert.equal(view(job({}, {}, { ownerReferences: [owner] })).ours, false);
  assert.equal(view(job({}, {}, { ownerReferences: [] })).ours, false);
  assert.equal(view(job({}, {}, { ownerReferences: [{ ...owner, uid, controller: false }] })).ours, false);
});

const liveness: [string, Job["status"], Pod[], number][] = [
  ["nothing", {}, [], 0],
  ["a running pod that the controller has not counted", {}, [pod(0, "Running")], 1],
  ["a pod that the cache does not show yet", { active: 1 }, [], 1],
  ["a terminating pod", { terminating: 1 }, [], 1],
  ["a pending pod", {}, [pod(0, "Pending")], 1],
  ["an unknown pod is not proven gone", {}, [pod(0, "Unknown")], 1],
  ["ended pods", {}, [pod(0, "Succeeded"), pod(1, "Failed")], 0],
];
for (const [name, status, pods, want] of liveness)
  test(`live: ${name}`, () => assert.equal(view(job(status), pods).live, want));

test("reports: the last one of each index; one that cannot be read, or is of another export, is lost", () => {
  const pods = [
    pod(0, "Failed", { message: message({ error: { class: "waiting" } }), at: "2026-03-04T05:01:00Z" }),
    pod(0, "Succeeded", { message: message({ packages: 7 }), at: "2026-03-04T05:02:00Z" }),
    pod(1, "Succeeded", { message: "{cut off" }),
    pod(2, "Succeeded", { message: JSON.stringify({ v: 1, uid: "other" }) }),
    pod(9, "Succeeded", { message: message() }),
  ];
  const { reports } = view(job(), pods);
  assert.equal(reports.length, 3);
  assert.deepEqual(
    [reports[0]?.packages, reports[0]?.error, reports[1], reports[2]],
    [7, undefined, undefined, undefined],
  );
  assert.deepEqual(view(job(), [pods[0]!]).reports[0]?.error, { class: "waiting" });
  assert.deepEqual(
    view(job(), [pod(0, "Succeeded", { message: JSON.stringify({ v: 2, uid }) })]).reports,
    [undefined],
    "a version that is not known",
  );
  assert.deepEqual(view(job(), [pod(0, "Failed", {})]).reports, [undefined], "no message at all");
});

test("a worker that left no report: the error that one before it reported counts once the Job has failed, and how it ended is told", () => {
  const died = (index: number, terminated: object, status: Pod["status"] = {}): Pod => ({
    ...pod(index, "Failed"),
    status: {
      phase: "Failed",
      containerStatuses: [{ name: "worker", state: { terminated: { exitCode: 137, ...terminated } } }],
      ...status,
    },
  });
  const told = pod(0, "Failed", {
    message: message({ error: { class: "transient", reason: "SourceInconsistent", message: "m" } }),
    at: "2026-03-04T05:01:00Z",
  });
  const killed = died(0, { reason: "OOMKilled", finishedAt: "2026-03-04T05:02:00Z" });
  const failed = job(condition("Failed", { reason: "BackoffLimitExceeded" }));
  for (const pods of [
    [told, killed],
    [killed, told],
  ]) {
    const seen = view(failed, pods);
    assert.equal(seen.reports[0]?.error?.reason, "SourceInconsistent");
    assert.match(
      seen.reason ?? "",
      /^BackoffLimitExceeded; a worker was killed .*OOMKilled.*resources\.limits\.memory$/,
    );
  }
  assert.equal(view(job(), [told, killed]).reports[0], undefined, "it may still work");
  assert.equal(view(failed, [told]).reason, "BackoffLimitExceeded", "who left a report says it there");
  const evicted = { phase: "Failed", reason: "Evicted", message: "The node was low on resource: memory." };
  assert.match(
    view(failed, [{ ...pod(0, "Failed"), status: evicted }]).reason ?? "",
    /; Evicted: The node was low on resource: memory\.$/,
  );
  assert.match(view(failed, [died(0, { exitCode: 134 })]).reason ?? "", /; a worker ended with exit code 134$/);
});

/** The pod with one more container, which goes on. */
function withSidecar(one: Pod, name: string): Pod {
  const containerStatuses = [...(one.status?.containerStatuses ?? []), { name, state: { running: {} } }];
  return { ...one, status: { ...one.status, containerStatuses } };
}

const blocked: [string, Job, Pod[], JobView["events"], RegExp | undefined][] = [
  ["a running pod", job({ active: 1 }), [pod(0, "Running")], [], undefined],
  [
    "creating",
    job(),
    [
      pod(0, "Pending", undefined, {
        status: { containerStatuses: [{ name: "worker", state: { waiting: { reason: "ContainerCreating" } } }] },
      }),
    ],
    [],
    undefined,
  ],
  [
    "the image cannot be pulled",
    job(),
    [
      pod(0, "Pending", undefined, {
        status: {
          containerStatuses: [
            { name: "worker", state: { waiting: { reason: "ImagePullBackOff", message: "Back-off pulling image" } } },
          ],
        },
      }),
    ],
    [],
    /ImagePullBackOff: Back-off/,
  ],
  [
    "no node has room",
    job(),
    [
      pod(0, "Pending", undefined, {
        status: {
          conditions: [
            { type: "PodScheduled", status: "False", reason: "Unschedulable", message: "0/3 nodes are available" },
          ],
        },
      }),
    ],
    [],
    /Unschedulable: 0\/3/,
  ],
  [
    "quota",
    job(),
    [],
    [{ metadata: { name: "e" }, type: "Warning", reason: "FailedCreate", message: "exceeded quota: q" }],
    /pods cannot be made: exceeded quota/,
  ],
  [
    "pod security",
    job(),
    [],
    [{ metadata: { name: "e" }, type: "Warning", reason: "FailedCreate", message: "violates PodSecurity" }],
    /violates PodSecurity/,
  ],
  [
    "an old refusal while pods run",
    job({ active: 1 }),
    [pod(0, "Running")],
    [{ metadata: { name: "e" }, type: "Warning", reason: "FailedCreate", message: "x" }],
    undefined,
  ],
  [
    "a refusal of a suspended Job",
    job({}, { suspend: true }),
    [],
    [{ metadata: { name: "e" }, type: "Warning", reason: "FailedCreate", message: "x" }],
    undefined,
  ],
  [
    "a lost node",
    job(),
    [
      {
        ...pod(0, "Running", undefined, { metadata: { deletionTimestamp: "2026-03-04T05:09:00Z" } }),
        spec: { nodeName: "n1" },
      },
    ],
    [],
    /node n1 does not end/,
  ],
  [
    "a pod within its grace period",
    job(),
    [
      {
        ...pod(0, "Running", undefined, { metadata: { deletionTimestamp: "2026-03-04T05:10:20Z" } }),
        spec: { nodeName: "n1" },
      },
    ],
    [],
    undefined,
  ],
  [
    "a sidecar goes on when the worker has ended",
    job({ active: 1 }),
    [withSidecar(pod(0, "Running", { at: "2026-03-04T05:08:00Z" }), "istio-proxy")],
    [],
    /the worker of pod p0 has ended, but its container istio-proxy has not; keep sidecars out/,
  ],
  [
    "the worker has ended a moment ago",
    job({ active: 1 }),
    [withSidecar(pod(0, "Running", { at: "2026-03-04T05:09:30Z" }), "istio-proxy")],
    [],
    undefined,
  ],
  [
    "a Job is stuck in deletion, its pod held by a finalizer",
    job({ succeeded: 1 }, {}, { deletionTimestamp: "2026-03-04T05:08:00Z", finalizers: ["foregroundDeletion"] }),
    [
      pod(
        0,
        "Succeeded",
        {},
        {
          metadata: { deletionTimestamp: "2026-03-04T05:08:00Z", finalizers: ["batch.kubernetes.io/job-tracking"] },
        },
      ),
    ],
    [],
    /Job j is being deleted since 2026-03-04T05:08:00Z, and is not gone: pod p0 is still there \(finalizers: batch.kubernetes.io\/job-tracking\)/,
  ],
  [
    "a Job is stuck in deletion by its own finalizer",
    job({}, {}, { deletionTimestamp: "2026-03-04T05:08:00Z", finalizers: ["example.org/keep"] }),
    [],
    [],
    /is not gone \(finalizers: example.org\/keep\)/,
  ],
  [
    "a Job that is being deleted since a moment",
    job({}, {}, { deletionTimestamp: "2026-03-04T05:09:30Z", finalizers: ["foregroundDeletion"] }),
    [],
    [],
    undefined,
  ],
  [
    "a pod has ended well and is never counted",
    job({ active: 0, succeeded: 0 }),
    [pod(0, "Succeeded", {}, { metadata: { finalizers: ["batch.kubernetes.io/job-tracking"] } })],
    [],
    /pod p0 has ended well, and its Job does not count it; .*job-tracking/,
  ],
  [
    "a pod that ended well, of a Job that goes on with others",
    job({ succeeded: 1 }),
    [pod(0, "Succeeded", {})],
    [],
    undefined,
  ],
  [
    "a pod that ended well, of a Job that is complete",
    job(condition("Complete")),
    [pod(0, "Succeeded", {})],
    [],
    undefined,
  ],
];
for (const [name, one, pods, events, want] of blocked)
  test(`blocked: ${name}`, () => {
    const got = view(one, pods, events).blocked;
    if (want) assert.match(got ?? "not blocked", want);
    else assert.equal(got, undefined);
  });
