import { toSeconds } from "../api/conditions.ts";
import type { FhirExportRun } from "../api/fhirexport.gen.ts";
import type { Failure } from "../contracts.ts";
import type { Effect, RunView } from "../effects.ts";
import type { Facts } from "./facts.ts";

const firstWaitSeconds = 30;
const longestWaitSeconds = 600;
/** A run that crashes, or whose report is lost, is repeated this many times. A run that waits for the world is repeated
 *  until activeDeadlineSeconds. */
const crashLimit = 5;
/** characters of status.run.repeat.message */
const maxWhy = 1024;

/** How a run that ended without a result is repeated. */
interface RunRepeat {
  /** it was repeated often enough: it is given up */
  exhausted: boolean;
  reason: string;
  message: string;
  /** the message without what becomes of it */
  why: string;
  effects: Effect[];
  /** the new status.run.repeat */
  repeat: FhirExportRun["repeat"];
  requeueAfter: number;
}

/** Repeats a run that ended without a result:
 *
 *  1. When its end is first seen, the time of the next try goes into the status, so that a restart of the operator
 *    neither forgets nor hurries it: after 30 s, doubled for each try to 10 min, or at once where only the report was
 *    lost.
 *  2. When that time has come, the run is deleted by its uid.
 *  3. When it is gone, the policy makes it again under the same name.
 *
 *  @param insist repeats it whatever its error is, without an end */
export function repeatRun(facts: Facts, run: RunView, insist = false): RunRepeat {
  const error = decidingError(run);
  const isLost = run.state === "complete";
  const reason = error?.reason ?? "Internal";
  const why = whyRepeated(run, error);
  const known = facts.status.run?.repeat;
  if (known?.runUID === run.uid) {
    const left = (Date.parse(known.time) - facts.now.getTime()) / 1000;
    return {
      exhausted: false,
      reason,
      message: `${why}; it is tried again at ${known.time}`,
      why,
      effects: left <= 0 ? [{ do: "deleteRun", uid: run.uid }] : [],
      repeat: known,
      requeueAfter: Math.max(left, 1),
    };
  }
  const before = known?.runName === run.name ? known : { count: 0, crashes: 0 };
  const count = before.count + 1;
  const waitsForWorld = insist || error?.class === "waiting";
  const crashes = (before.crashes ?? 0) + (waitsForWorld ? 0 : 1);
  if (crashes > crashLimit)
    return {
      exhausted: true,
      reason,
      message: `${why}; it was given up after ${crashLimit} more tries`,
      why,
      effects: [],
      repeat: known,
      requeueAfter: 0,
    };
  const delay =
    isLost && count === 1 ? 0 : Math.min(firstWaitSeconds * 2 ** Math.min(count - 1, 10), longestWaitSeconds);
  const time = toSeconds(new Date(facts.now.getTime() + delay * 1000));
  return {
    exhausted: false,
    reason,
    message: `${why}; it is tried again at ${time}`,
    why,
    effects: [],
    repeat: { runName: run.name, runUID: run.uid, count, crashes, time, reason, message: why.slice(0, maxWhy) },
    requeueAfter: delay,
  };
}

function whyRepeated(run: RunView, error: Failure | undefined): string {
  if (error) return `${error.reason}: ${error.message}`;
  if (run.state === "complete") return "the worker has finished, but its report was lost";
  return `the worker ended without a report${run.reason ? ` (${run.reason})` : ""}`;
}

/** The error that decides about a failed run: a terminal one before a waiting one before a transient one. */
export function decidingError(run: RunView): Failure | undefined {
  const errors = run.reports.flatMap((report) => (report?.error ? [report.error] : []));
  for (const kind of ["terminal", "waiting", "transient"] as const) {
    const error = errors.find((one) => one.class === kind);
    if (error) return error;
  }
  return undefined;
}
