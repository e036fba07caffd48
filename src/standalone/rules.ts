import { type Command, exitCode, type Report } from "../contracts.ts";
import type { Identity } from "./children.ts";
import type { Owner } from "./runs.ts";

/** A run of a command; what the Job is on Kubernetes. */
export interface Run {
  name: string;
  uid: string;
  owner: Owner;
  command: Command;
  attempt: number;
  completions: number;
  parallelism: number;
  suspend: boolean;
  /** holds task.json, source/ and target/ */
  folder: string;
  /** it is being deleted */
  going?: true;
  /** it goes so long after its end */
  ttlSeconds?: number;
  end?: { state: "complete" | "failed"; reason?: string };
}

/** One completion index of a run; what the pod is on Kubernetes. */
export interface IndexState {
  number: number;
  state: "pending" | "running" | "done" | "failed";
  failures: number;
  /** ms since 1970; not tried again before */
  notBefore?: number;
  process?: Identity;
  report?: Report;
}

export const isWhole = (indexes: readonly IndexState[]) => indexes.every(({ state }) => state === "done");

/** Which indexes start now, and in how many ms the next one may. Pure, as all here. */
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

/** As the Job's backoffLimitPerIndex and backoffLimit (DESIGN section 5): packages are tried again, the steps of one process are decide's. */
const retries: Record<Command, number> = { export: 6, plan: 0, seal: 0, purge: 0, verify: 0 };

/** What becomes of an index whose process ended. `stopped`: by us, so it counts as nothing. */
export function afterExit(
  command: Command,
  index: IndexState,
  exit: { stopped: boolean; code?: number | null; report?: Report | undefined },
  { now, backoffMs }: { now: number; backoffMs: number },
): { index: Partial<IndexState>; runFailed?: string } {
  const report = exit.report && { report: exit.report };
  if (exit.code === exitCode.done) return { index: { state: "done", ...report } };
  if (exit.stopped) return { index: { state: "pending" } };
  // ended by someone's SIGTERM: nothing is wrong with the work
  if (exit.code === exitCode.stopped) return { index: { state: "pending", notBefore: now + backoffMs } };
  const failures = index.failures + 1;
  if (exit.code === exitCode.terminal)
    return { index: { state: "failed", failures, ...report }, runFailed: "Terminal" };
  if (failures > retries[command])
    return { index: { state: "failed", failures, ...report }, runFailed: "BackoffLimitExceeded" };
  return {
    index: {
      state: "pending",
      failures,
      notBefore: now + Math.min(60_000, backoffMs * 2 ** (failures - 1)),
      ...report,
    },
  };
}
