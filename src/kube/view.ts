import type { ObjectMeta } from "../api/meta.ts";
import { labels } from "../api/names.ts";
import type { Command, Progress, Report } from "../contracts.ts";
import type { RunView } from "../effects.ts";

// The parts of batch/v1 Job, v1 Pod and v1 Event that the operator reads.
export interface Job {
  metadata: ObjectMeta;
  spec: {
    parallelism?: number;
    completions?: number;
    suspend?: boolean;
    completionMode?: string;
    ttlSecondsAfterFinished?: number;
  };
  status?: {
    active?: number;
    terminating?: number;
    succeeded?: number;
    completedIndexes?: string;
    conditions?: { type: string; status: string; reason?: string; message?: string }[];
  };
}
export interface Pod {
  metadata: ObjectMeta;
  spec?: { nodeName?: string };
  status?: {
    phase?: string;
    podIP?: string;
    /** why it ended, where its containers do not say it, for example Evicted */
    reason?: string;
    message?: string;
    conditions?: { type: string; status: string; reason?: string; message?: string }[];
    containerStatuses?: ContainerStatus[];
  };
}
interface ContainerStatus {
  name: string;
  state?: {
    waiting?: { reason?: string; message?: string };
    running?: object;
    terminated?: { exitCode: number; message?: string; reason?: string; finishedAt?: string };
  };
}
export interface Event {
  metadata: ObjectMeta;
  reason?: string;
  message?: string;
  type?: string;
  lastTimestamp?: string;
  eventTime?: string;
}

export const commandOf = ({ metadata }: { metadata: ObjectMeta }) =>
  metadata.labels?.[labels.command] as Command | undefined;

/** All that is known of a Job. */
export interface JobView {
  job: Job;
  pods: readonly Pod[];
  progress: Progress[];
  /** the Job's own events, where its controller says why pods cannot be made */
  events: readonly Event[];
}

/** A Job and its pods as a run.
 *  @param uid of the export: a Job of another owner is not ours, whatever its labels are */
export function viewRun({ job, pods, progress, events }: JobView, uid: string, now: Date): RunView {
  const { metadata, spec, status = {} } = job;
  const ended = (type: string) => status.conditions?.find((one) => one.type === type && one.status === "True");
  const failed = ended("Failed");
  const complete = ended("Complete");
  const alive = pods.filter(isLive);
  const state = complete ? "complete" : failed ? "failed" : spec.suspend ? "suspended" : "active";
  const reason = [
    [failed?.reason, failed?.message && sanitize(failed.message)].filter(Boolean).join(": "),
    failed ? howWorkersEnded(pods) : "",
  ]
    .filter(Boolean)
    .join("; ");
  const blocked = whyBlocked({ job, pods, events }, now);
  return {
    name: metadata.name,
    uid: metadata.uid ?? "",
    ours: metadata.ownerReferences?.some((owner) => owner.uid === uid && owner.controller === true) ?? false,
    attempt: Number(metadata.labels?.[labels.attempt] ?? 0),
    state,
    ...(metadata.deletionTimestamp ? { going: true as const } : {}),
    ...(reason ? { reason } : {}),
    ...(spec.parallelism === undefined ? {} : { parallelism: spec.parallelism }),
    ...(spec.ttlSecondsAfterFinished === undefined ? {} : { ttlSeconds: spec.ttlSecondsAfterFinished }),
    // The controller counts pods that the cache does not show yet. The cache shows pods that the controller no longer
    // counts.
    live: Math.max(alive.length, (status.active ?? 0) + (status.terminating ?? 0)),
    done: status.succeeded ?? 0,
    reports: reportsOf(pods, uid, spec.completionMode === "Indexed" ? (spec.completions ?? 1) : 1, !failed),
    progress,
    ...(blocked ? { blocked } : {}),
  };
}

/** Whether a pod may still run. A pod on a lost node counts as live until someone proves that it is gone. */
export const isLive = ({ status }: Pod) => status?.phase !== "Succeeded" && status?.phase !== "Failed";

export const indexOf = ({ metadata }: Pod) =>
  Number(
    metadata.labels?.["batch.kubernetes.io/job-completion-index"] ??
      metadata.annotations?.["batch.kubernetes.io/job-completion-index"] ??
      0,
  );

/** How the worker of a pod ended; undefined: it has not. */
const workerEnd = ({ status }: Pod) =>
  status?.containerStatuses?.find(({ name }) => name === "worker")?.state?.terminated;

/** The last report of each index. A report that cannot be read, or is of another export, counts as lost.
 *  @param lastOnly false: where the last pod of an index left no report, the error that one before it reported
 *    counts */
function reportsOf(pods: readonly Pod[], uid: string, completions: number, lastOnly: boolean): (Report | undefined)[] {
  const last = new Map<number, { at: string; report: Report | undefined }>();
  for (const pod of pods) {
    const ended = workerEnd(pod);
    if (!ended) continue;
    const at = ended.finishedAt ?? pod.metadata.creationTimestamp ?? "";
    const index = indexOf(pod);
    const report = parseReport(ended.message, uid);
    const known = last.get(index);
    const isLater = at >= (known?.at ?? "");
    const [newer, older] = isLater ? [report, known?.report] : [known?.report, report];
    last.set(index, {
      at: isLater ? at : known!.at,
      report: newer ?? (lastOnly || !older?.error ? undefined : older),
    });
  }
  const size = Math.min(completions, Math.max(0, ...[...last.keys()].map((index) => index + 1)));
  return Array.from({ length: size }, (_, index) => last.get(index)?.report);
}

/** How the workers of a failed run ended that left no report, in words that may be shown; empty where all left one. */
function howWorkersEnded(pods: readonly Pod[]): string {
  const ends = pods
    .filter(({ status }) => status?.phase === "Failed")
    .map((pod) => ({ pod, end: workerEnd(pod) }))
    .filter(({ end }) => !end?.message)
    .map(({ pod: { status }, end }) => {
      if (end?.reason === "OOMKilled")
        return "a worker was killed as it had used up its memory (OOMKilled); raise spec.worker.resources.limits.memory";
      if (status?.reason) return [status.reason, status.message && sanitize(status.message)].filter(Boolean).join(": ");
      return end ? `a worker ended with exit code ${end.exitCode}` : "";
    });
  return [...new Set(ends)].filter(Boolean).slice(0, 3).join("; ");
}

function parseReport(text: string | undefined, uid: string): Report | undefined {
  try {
    const report: Report = JSON.parse(text ?? "");
    return report.v === 1 && report.uid === uid ? report : undefined;
  } catch {
    return undefined;
  }
}

/** Why a run makes no progress, in words that may be shown. */
function whyBlocked({ job, pods, events }: Omit<JobView, "progress">, now: Date): string | undefined {
  for (const pod of pods.filter(isLive)) {
    const why = whyPodWaits(pod, now);
    if (why) return why;
  }
  if (isLong(job.metadata.deletionTimestamp, now)) return whyJobStays(job, pods);
  const done = pods.filter(({ status }) => status?.phase === "Succeeded");
  const isUncounted = !isEnded(job) && done.length > (job.status?.succeeded ?? 0);
  if (isUncounted && done.every((pod) => isLong(workerEnd(pod)?.finishedAt, now)))
    return `pod ${done[0]!.metadata.name} has ended well, and its Job does not count it; look at the cluster's job controller, and at what keeps it from changing the pod${heldBy(done[0]!)}`;
  if (pods.some(isLive) || job.spec.suspend || job.status?.active) return undefined;
  const refused = events.filter(({ reason, type }) => reason === "FailedCreate" && type === "Warning").at(-1);
  return refused ? `pods cannot be made: ${sanitize(refused.message ?? "")}` : undefined;
}

/** After so many milliseconds something holds what follows by itself within seconds. */
const stuckAfterMs = 60_000;
const isLong = (since: string | undefined, now: Date) =>
  since !== undefined && Date.parse(since) + stuckAfterMs < now.getTime();

/** Why a pod does not begin, or does not end. */
function whyPodWaits(pod: Pod, now: Date): string | undefined {
  // The deletion time of a pod is when its grace period ends.
  const due = pod.metadata.deletionTimestamp;
  if (due && Date.parse(due) + 10_000 < now.getTime())
    return `a pod on node ${pod.spec?.nodeName ?? "(none)"} does not end; check whether the node is lost`;
  const waiting = pod.status?.containerStatuses?.find(({ state }) => state?.waiting)?.state?.waiting;
  if (waiting?.reason && waiting.reason !== "ContainerCreating" && waiting.reason !== "PodInitializing")
    return `${waiting.reason}${waiting.message ? `: ${sanitize(waiting.message)}` : ""}`;
  const scheduled = pod.status?.conditions?.find(({ type, status }) => type === "PodScheduled" && status === "False");
  if (scheduled)
    return `${scheduled.reason ?? "Unschedulable"}${scheduled.message ? `: ${sanitize(scheduled.message)}` : ""}`;
  return isLong(workerEnd(pod)?.finishedAt, now) ? whyPodStays(pod) : undefined;
}

const isEnded = ({ status }: Job) =>
  status?.conditions?.some(({ type, status: held }) => (type === "Complete" || type === "Failed") && held === "True") ??
  false;

/** A container that a webhook has added goes on for ever, and the pod with it. */
function whyPodStays({ metadata, status }: Pod): string {
  const running = (status?.containerStatuses ?? []).filter(({ state }) => state?.running).map(({ name }) => name);
  return running.length > 0
    ? `the worker of pod ${metadata.name} has ended, but its container ${running.join(", ")} has not; keep sidecars out of the pods of exports, or make them native sidecars, which end with the pod`
    : `the worker of pod ${metadata.name} has ended, but the pod has not; check its node`;
}

/** A Job is gone when its finalizers are removed; "foregroundDeletion" is when its pods are gone. */
function whyJobStays(job: Job, pods: readonly Pod[]): string {
  const left = pods.filter(({ metadata }) => metadata.finalizers?.length);
  const held = left[0] ? `: pod ${left[0].metadata.name} is still there${heldBy(left[0])}` : heldBy(job);
  return `Job ${job.metadata.name} is being deleted since ${job.metadata.deletionTimestamp}, and is not gone${held}; find out what should remove that`;
}

const heldBy = ({ metadata: { finalizers = [] } }: { metadata: ObjectMeta }) =>
  finalizers.length > 0 ? ` (finalizers: ${finalizers.join(", ")})` : "";

/** A text of Kubernetes without the queries of URLs, up to 512 characters. These texts name no patient, but may quote a
 *  URL. */
const sanitize = (text: string) => text.replace(/(https?:\/\/[^\s?#"]+)[?#][^\s"]*/g, "$1").slice(0, 512);
