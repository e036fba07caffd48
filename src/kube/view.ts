import type { ObjectMeta } from "../api/meta.ts";
import { labels } from "../api/names.ts";
import type { Command, Progress, Report, RunView } from "../contracts.ts";

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
    reason?: string;
    conditions?: { type: string; status: string; reason?: string; message?: string }[];
    containerStatuses?: ContainerStatus[];
  };
}
interface ContainerStatus {
  name: string;
  state?: {
    waiting?: { reason?: string; message?: string };
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
  const reason = [failed?.reason, failed?.message && sanitize(failed.message)].filter(Boolean).join(": ");
  const blocked = whyBlocked(job, pods, events, now);
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
    reports: reportsOf(pods, uid, spec.completionMode === "Indexed" ? (spec.completions ?? 1) : 1),
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

/** The last report of each index. A report that cannot be read, or is of another export, counts as lost. */
function reportsOf(pods: readonly Pod[], uid: string, completions: number): (Report | undefined)[] {
  const last = new Map<number, { at: string; report: Report | undefined }>();
  for (const pod of pods) {
    const ended = pod.status?.containerStatuses?.find(({ name }) => name === "worker")?.state?.terminated;
    if (!ended) continue;
    const at = ended.finishedAt ?? pod.metadata.creationTimestamp ?? "";
    const index = indexOf(pod);
    if (at >= (last.get(index)?.at ?? "")) last.set(index, { at, report: parseReport(ended.message, uid) });
  }
  const size = Math.min(completions, Math.max(0, ...[...last.keys()].map((index) => index + 1)));
  return Array.from({ length: size }, (_, index) => last.get(index)?.report);
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
function whyBlocked(job: Job, pods: readonly Pod[], events: readonly Event[], now: Date): string | undefined {
  for (const pod of pods.filter(isLive)) {
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
  }
  if (pods.some(isLive) || job.spec.suspend || job.status?.active) return undefined;
  const refused = events.filter(({ reason, type }) => reason === "FailedCreate" && type === "Warning").at(-1);
  return refused ? `pods cannot be made: ${sanitize(refused.message ?? "")}` : undefined;
}

/** A text of Kubernetes without the queries of URLs, up to 512 characters. These texts name no patient, but may quote a
 *  URL. */
const sanitize = (text: string) => text.replace(/(https?:\/\/[^\s?#"]+)[?#][^\s"]*/g, "$1").slice(0, 512);
