import { toSeconds } from "../api/conditions.ts";
import type { FhirExportRun } from "../api/fhirexport.gen.ts";
import type { Effect, RunView } from "../contracts.ts";
import type { Facts } from "./facts.ts";

const first = 30;
const most = 600;
/** A run that crashes or loses its report is not tried for ever; one that waits for the world is, until activeDeadlineSeconds. */
const crashes = 5;

export interface Repeat {
  exhausted: boolean;
  reason: string;
  message: string;
  effects: Effect[];
  /** the new status.run.repeat */
  repeat: FhirExportRun["repeat"];
  requeueAfter: number;
}

/** A run that ended without a result: after 30 s to 10 min (at once where only the report was lost) it is deleted by UID; gone, it is made
 *  again under the same name. `insist`: it is repeated whatever it says. When it is due stands in the status, so that a restart of the operator neither forgets nor hurries it. */
export function repeat(facts: Facts, run: RunView, insist = false): Repeat {
  const error = lastError(run);
  const lost = run.state === "complete";
  const waiting = insist || error?.class === "waiting";
  const reason = error?.reason ?? "Internal";
  const why = error
    ? `${error.reason}: ${error.message}`
    : lost
      ? "the worker's report was lost"
      : `the worker ended without a report${run.reason ? ` (${run.reason})` : ""}`;
  const known = facts.status.run?.repeat;
  if (known?.runUID !== run.uid) {
    const before = known?.runName === run.name ? known : { count: 0, crashes: 0 };
    const count = before.count + 1;
    const crashed = (before.crashes ?? 0) + (waiting ? 0 : 1);
    if (crashed > crashes)
      return {
        exhausted: true,
        reason,
        message: `${why}; given up after ${crashes} more tries`,
        effects: [],
        repeat: known,
        requeueAfter: 0,
      };
    const delay = lost && count === 1 ? 0 : Math.min(first * 2 ** Math.min(count - 1, 10), most);
    const time = toSeconds(new Date(facts.now.getTime() + delay * 1000));
    return {
      exhausted: false,
      reason,
      message: `${why}; tried again at ${time}`,
      effects: [],
      repeat: { runName: run.name, runUID: run.uid, count, crashes: crashed, time },
      requeueAfter: delay,
    };
  }
  const left = (Date.parse(known.time) - facts.now.getTime()) / 1000;
  return {
    exhausted: false,
    reason,
    message: `${why}; tried again at ${known.time}`,
    effects: left <= 0 ? [{ do: "deleteRun", uid: run.uid }] : [],
    repeat: known,
    requeueAfter: Math.max(left, 1),
  };
}

/** The error that decides about a failed run: terminal before waiting before transient. */
export function lastError(run: RunView) {
  const errors = run.reports.flatMap((report) => (report?.error ? [report.error] : []));
  for (const kind of ["terminal", "waiting", "transient"] as const) {
    const error = errors.find((one) => one.class === kind);
    if (error) return error;
  }
  return undefined;
}
