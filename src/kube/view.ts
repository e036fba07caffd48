import type { ObjectMeta } from "../api/meta.ts";
import { labels } from "../api/names.ts";
import type { Command, Progress, Report, RunView } from "../contracts.ts";

/** The parts of batch/v1 Job and v1 Pod and Event that are read. */
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

/** A Job and its pods as a run. `uid` is the export's: a Job of another owner is not ours whatever its labels say. `events` are the Job's own,
 *  which is where the controller says that pods cannot be made. */
export function viewRun(
  job: Job,
  pods: readonly Pod[],
  uid: string,
  progress: Progress[],
  events: readonly Event[],
  now: Date,
): RunView {
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
    // the controller's counters know of pods that a cache does not show yet, the cache of pods that the controller does not count any more
    live: Math.max(alive.length, (status.active ?? 0) + (status.terminating ?? 0)),
    done: status.succeeded ?? 0,
    reports: reportsOf(pods, uid, spec.completionMode === "Indexed" ? (spec.completions ?? 1) : 1),
    progress,
    ...(blocked ? { blocked } : {}),
  };
}

/** Not ended, as far as is known. A pod on a lost node stays so until someone proves it gone. */
export const isLive = ({ status }: Pod) => status?.phase !== "Succeeded" && status?.phase !== "Failed";

export const indexOf = ({ metadata }: Pod) =>
  Number(
    metadata.labels?.["batch.kubernetes.io/job-completion-index"] ??
      metadata.annotations?.["batch.kubernetes.io/job-completion-index"] ??
      0,
  );

/** The last report of each index; one that cannot be read, or is another export's, counts as lost. */
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

/** Why a run does not get on, in words that are safe to show. */
function whyBlocked(job: Job, pods: readonly Pod[], events: readonly Event[], now: Date): string | undefined {
  for (const pod of pods.filter(isLive)) {
    // its deletion time is when it was to be gone, its grace period over
    const due = pod.metadata.deletionTimestamp;
    if (due && Date.parse(due) + 10_000 < now.getTime())
      return `a pod on node ${pod.spec?.nodeName ?? "(none)"} does not end; is the node lost?`;
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

/** Kubernetes' own texts name no patient, but may quote a URL with its query. */
const sanitize = (text: string) => text.replace(/(https?:\/\/[^\s?#"]+)[?#][^\s"]*/g, "$1").slice(0, 512);
