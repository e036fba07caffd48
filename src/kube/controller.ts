import { randomUUID } from "node:crypto";
import type { FailureError } from "../failure.ts";
import { type Logger, stackFrames } from "../log.ts";
import { WorkQueue } from "../operator/queue.ts";
import { toKubeFailure } from "./error.ts";
import { type Metrics, startAtZero } from "./metrics.ts";

/** After a terminal failure a key is reconciled again this late, in case the cause was removed without an event of
 *  ours. */
const terminalSeconds = 600;

interface Controller {
  /** for metrics and logs */
  name: string;
  /** keys that are reconciled at the same time */
  workers: number;
  /** Brings one object a step on. @returns requeueAfter in seconds: 0 = at once, absent = when something changes */
  reconcile: (key: string, log: Logger) => Promise<{ requeueAfter?: number }>;
}

/** A queue of keys whose reconciliations are counted, timed and logged under a reconcileID. A failure that may pass is
 *  tried again with backoff; a terminal one is logged as an error and left until something changes, or ten minutes have
 *  passed. Keys wait until queue.start(). */
export function startController({ name, workers, reconcile }: Controller, metrics: Metrics, log: Logger): WorkQueue {
  startAtZero(metrics, name);
  metrics.workers.set({ controller: name }, workers);
  const queue = new WorkQueue(
    async (key) => {
      const own = log.child({ controller: name, key, reconcileID: randomUUID() });
      const end = metrics.seconds.startTimer({ controller: name });
      metrics.active.inc({ controller: name });
      try {
        const next = await reconcile(key, own);
        const result = next.requeueAfter === undefined ? "success" : "requeue_after";
        metrics.reconciles.inc({ controller: name, result });
        own.debug({ requeueAfter: next.requeueAfter }, "reconciled");
        return next;
      } catch (error) {
        const failure = toKubeFailure(error);
        countFailure(metrics, name, failure);
        logKeyFailure(own, failure, error);
        if (failure.class !== "terminal") throw failure;
        return { requeueAfter: terminalSeconds };
      } finally {
        end();
        metrics.active.dec({ controller: name });
        metrics.depth.set({ name, controller: name }, queue.depth);
      }
    },
    { workers },
  );
  return queue;
}

function countFailure(metrics: Metrics, name: string, failure: FailureError): void {
  metrics.reconciles.inc({ controller: name, result: "error" });
  metrics.errors.inc({ controller: name });
  if (failure.class === "terminal") metrics.terminalErrors.inc({ controller: name });
  else metrics.retries.inc({ name, controller: name });
}

/** Transient failures are everyday life (a conflict means that a newer object is on its way), so they are `info`;
 *  `warn` = it waits for something outside; `error` = a person must act. */
function logKeyFailure(log: Logger, { class: kind, reason, message }: FailureError, error: unknown): void {
  if (kind === "transient") log.info({ class: kind, reason }, message);
  else if (kind === "waiting") log.warn({ class: kind, reason }, message);
  else log.error({ class: kind, reason, stack: stackFrames(error) }, message);
}
