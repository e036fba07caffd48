import { type Command, exitCode, type Report } from "../contracts.ts";
import type { ProcessIdentity } from "./children.ts";

/** The export that a run belongs to. */
export interface RunOwner {
  uid: string;
  name: string;
}

/** A run of a command, which is a Job on Kubernetes. */
export interface Run {
  name: string;
  uid: string;
  owner: RunOwner;
  command: Command;
  attempt: number;
  completions: number;
  parallelism: number;
  suspend: boolean;
  /** holds task.json, source/ and target/ */
  folder: string;
  /** the run is being deleted */
  going?: true;
  /** seconds after its end until it is deleted; absent = it stays */
  ttlSeconds?: number;
  end?: { state: "complete" | "failed"; reason?: string };
}

/** One completion index of a run, which is a pod on Kubernetes. */
export interface IndexState {
  number: number;
  state: "pending" | "running" | "done" | "failed";
  failures: number;
  /** milliseconds since 1970 before which it is not started again */
  notBefore?: number;
  process?: ProcessIdentity;
  report?: Report;
}

export const isWhole = (indexes: readonly IndexState[]) => indexes.every(({ state }) => state === "done");

/** The indexes that start now, and the milliseconds after which the next one may. Pure, as all of this file.
 *  @param now milliseconds since 1970 */
export function startable(
  indexes: readonly IndexState[],
  parallelism: number,
  now: number,
): { start: number[]; wait?: number } {
  const free = parallelism - indexes.filter(({ state }) => state === "running").length;
  const pending = indexes.filter(({ state }) => state === "pending");
  const start = pending.filter(({ notBefore = 0 }) => notBefore <= now).slice(0, Math.max(0, free));
  const waits = pending.map(({ notBefore = 0 }) => notBefore - now).filter((wait) => wait > 0);
  return { start: start.map(({ number }) => number), ...(waits.length > 0 && { wait: Math.min(...waits) }) };
}

/** Retries per index, as of the Job's backoffLimitPerIndex and backoffLimit (src/kube/job.ts). Plan, seal and purge are
 *  repeated by the controller (src/operator/repeat.ts), not here. */
const retries: Record<Command, number> = { export: 6, plan: 0, seal: 0, purge: 0, verify: 0 };

/** The state of an index after its process ended.
 *  @param exit `stopped` = we stopped the process, so this is no failure
 *  @returns `runFailed` = why the whole run fails */
export function afterExit(
  command: Command,
  index: IndexState,
  exit: { stopped: boolean; code?: number | null; report?: Report | undefined },
  { now, backoffMs }: { now: number; backoffMs: number },
): { index: Partial<IndexState>; runFailed?: string } {
  const report = exit.report && { report: exit.report };
  if (exit.code === exitCode.done) return { index: { state: "done", ...report } };
  if (exit.stopped) return { index: { state: "pending" } };
  // Someone else sent the process a SIGTERM, so the work itself has not failed.
  if (exit.code === exitCode.stopped) return { index: { state: "pending", notBefore: now + backoffMs } };
  const failures = index.failures + 1;
  if (exit.code === exitCode.terminal)
    return { index: { state: "failed", failures, ...report }, runFailed: "Terminal" };
  if (failures > retries[command]) {
    const { code } = exit;
    const how = typeof code === "number" ? `a worker ended with exit code ${code}` : "a worker was killed";
    return {
      index: { state: "failed", failures, ...report },
      runFailed: exit.report ? "BackoffLimitExceeded" : `BackoffLimitExceeded; ${how}`,
    };
  }
  return {
    index: {
      state: "pending",
      failures,
      notBefore: now + Math.min(60_000, backoffMs * 2 ** (failures - 1)),
      ...report,
    },
  };
}
