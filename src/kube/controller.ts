import { randomUUID } from "node:crypto";
import type { Logger } from "../log.ts";
import { WorkQueue } from "../operator/queue.ts";
import { toKubeFailure } from "./error.ts";
import { type Metrics, startAtZero } from "./metrics.ts";

/** What was found wrong for good is looked at again so often, in case it was mended unseen. */
const terminalSeconds = 600;

/** A queue of keys whose work is measured, logged under a reconcileID, and whose errors are told apart: what may pass is tried again with
 *  backoff, what cannot is logged and left until something changes. */
export function startController(
  name: string,
  workers: number,
  reconcile: (key: string, log: Logger) => Promise<{ requeueAfter?: number }>,
  metrics: Metrics,
  log: Logger,
): WorkQueue {
  startAtZero(metrics, name);
  metrics.workers.set({ controller: name }, workers);
  const queue = new WorkQueue(
    async (key) => {
      const own = log.child({ controller: name, key, reconcileID: randomUUID() });
      const end = metrics.seconds.startTimer({ controller: name });
      metrics.active.inc({ controller: name });
      try {
        const again = await reconcile(key, own);
        metrics.reconciles.inc({
          controller: name,
          result: again.requeueAfter === undefined ? "success" : "requeue_after",
        });
        own.debug({ requeueAfter: again.requeueAfter }, "reconciled");
        return again;
      } catch (error) {
        const failure = toKubeFailure(error);
        metrics.reconciles.inc({ controller: name, result: "error" });
        metrics.errors.inc({ controller: name });
        const { class: kind, reason, message } = failure;
        if (kind !== "terminal") {
          metrics.retries.inc({ name, controller: name });
          // a conflict means that something newer is on its way
          own[kind === "transient" ? "info" : "warn"]({ class: kind, reason }, message);
          throw failure;
        }
        metrics.terminalErrors.inc({ controller: name });
        own.error({ class: kind, reason, stack: error instanceof Error ? error.stack : undefined }, message);
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
