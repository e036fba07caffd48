import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";

/** Metrics under the names of controller-runtime and client-go, so that dashboards and alerts for these fit. */
export function makeMetrics() {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const registers = [registry];
  const controller = ["controller"] as const;
  return {
    registry,
    reconciles: new Counter({
      name: "controller_runtime_reconcile_total",
      help: "Reconciliations by result",
      labelNames: ["controller", "result"],
      registers,
    }),
    errors: new Counter({
      name: "controller_runtime_reconcile_errors_total",
      help: "Reconciliations that failed",
      labelNames: controller,
      registers,
    }),
    terminalErrors: new Counter({
      name: "controller_runtime_terminal_reconcile_errors_total",
      help: "Reconciliations that failed and are not repeated",
      labelNames: controller,
      registers,
    }),
    seconds: new Histogram({
      name: "controller_runtime_reconcile_time_seconds",
      help: "Length of a reconciliation",
      labelNames: controller,
      buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
      registers,
    }),
    workers: new Gauge({
      name: "controller_runtime_max_concurrent_reconciles",
      help: "Reconciliations that may run at once",
      labelNames: controller,
      registers,
    }),
    active: new Gauge({
      name: "controller_runtime_active_workers",
      help: "Reconciliations that run",
      labelNames: controller,
      registers,
    }),
    leader: new Gauge({
      name: "leader_election_master_status",
      help: "1 = this process leads, 0 = it stands by",
      labelNames: ["name"],
      registers,
    }),
    depth: new Gauge({
      name: "workqueue_depth",
      help: "Keys that wait",
      labelNames: ["name", "controller"],
      registers,
    }),
    retries: new Counter({
      name: "workqueue_retries_total",
      help: "Keys that were put back after a failure",
      labelNames: ["name", "controller"],
      registers,
    }),
  };
}

export type Metrics = ReturnType<typeof makeMetrics>;

/** Sets the counters of a controller to 0: an alert cannot see the first failure of a series that appears with it. */
export function startAtZero({ reconciles, errors, terminalErrors, retries }: Metrics, controller: string): void {
  for (const result of ["success", "error", "requeue_after"]) reconciles.inc({ controller, result }, 0);
  errors.inc({ controller }, 0);
  terminalErrors.inc({ controller }, 0);
  retries.inc({ name: controller, controller }, 0);
}
