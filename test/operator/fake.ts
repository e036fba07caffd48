// A place in memory: objects, and runs that do what a script says. It counts what is made and deleted, and can be
// killed after any effect.
import type { ExportTarget } from "../../src/api/exporttarget.gen.ts";
import type { FhirExport, FhirExportSpec, FhirExportStatus } from "../../src/api/fhirexport.gen.ts";
import type { FhirSource } from "../../src/api/fhirsource.gen.ts";
import { annotations, finalizer } from "../../src/api/names.ts";
import type { Command, Report } from "../../src/contracts.ts";
import type { Effect, RunSpec, RunView } from "../../src/effects.ts";
import { type FailureError, transient } from "../../src/failure.ts";
import { countRunning } from "../../src/operator/admit.ts";
import { formatOutcome } from "../../src/operator/outcome.ts";
import type { ExportWorld, Port } from "../../src/operator/port.ts";

export const uid = "0a1b2c3d-0000-0000-0000-000000000001";
export const start = new Date("2026-03-04T05:06:07Z");
const ready = [
  {
    type: "Ready",
    status: "True" as const,
    reason: "Valid",
    message: "",
    observedGeneration: 1,
    lastTransitionTime: "2026-01-01T00:00:00Z",
  },
];

export const makeSource = (spec: Partial<FhirSource["spec"]> = {}): FhirSource => ({
  metadata: { name: "s", namespace: "ns", generation: 1, uid: "s" },
  spec: { baseURL: "https://fhir.example.org/r4", ...spec },
  status: { conditions: ready },
});
export const makeTarget = (spec?: ExportTarget["spec"]): ExportTarget => ({
  metadata: { name: "t", namespace: "ns", generation: 1, uid: "t" },
  spec: spec ?? {
    azureBlob: { accountURL: "https://a.blob.core.windows.net", container: "fhir", auth: { sasRef: { name: "sas" } } },
  },
  status: { conditions: ready },
});
export const makeExport = (spec: Partial<FhirExportSpec> = {}, status?: FhirExportStatus): FhirExport => ({
  apiVersion: "fhirexport.dev/v1alpha1",
  kind: "FhirExport",
  metadata: {
    name: "x",
    namespace: "ns",
    uid,
    generation: 1,
    creationTimestamp: "2026-03-04T05:06:07Z",
    resourceVersion: "1",
  },
  spec: { sourceRef: { name: "s" }, targetRef: { name: "t" }, ...spec },
  ...(status ? { status } : {}),
});
export const totals = { files: 2, resources: 10, bytes: 1000, errors: 0 };
export const report = (command: Command, more: Partial<Report> = {}): Report => ({ v: 1, uid, command, ...more });
export const results: Record<Command, Report> = {
  plan: report("plan", {
    transactionTime: "2026-03-04T05:06:06.999Z",
    packages: 3,
    types: [{ type: "Patient", ...totals, expected: 10 }],
  }),
  export: report("export", { totals }),
  seal: report("seal", {
    totals,
    manifestSHA256: "ab",
    exact: true,
    transactionTime: "2026-03-04T05:06:06.999Z",
    types: [{ type: "Patient", ...totals }],
  }),
  purge: report("purge", { left: 0 }),
  verify: report("verify"),
};

export interface Run extends RunView {
  spec: RunSpec;
}
export class Killed extends Error {}

/** How a run that is started ends. `nth` counts the runs of its name from 1. By default it completes. */
export type Script = (spec: RunSpec, nth: number) => Partial<RunView> | undefined;

export class FakePort implements Port {
  readonly objects = new Map<string, FhirExport>();
  source: FhirSource | undefined = makeSource();
  target: ExportTarget | undefined = makeTarget();
  readonly runs = new Map<string, Run>();
  readonly tasks = new Map<string, string>();
  /** how many times each thing was made and deleted */
  readonly counts = new Map<string, number>();
  readonly effects: string[] = [];
  readonly events = new Set<string>();
  /** the operator is killed after this many effects and writes */
  lives = Number.POSITIVE_INFINITY;
  /** it is killed again after each of these numbers */
  more: number[] = [];
  script: Script = () => undefined;
  /** why a run cannot be made */
  refuse: (spec: RunSpec) => FailureError | undefined = () => undefined;
  writes = 0;
  private next = 1;
  private readonly made = new Map<string, number>();

  async gather(key: string): Promise<ExportWorld | undefined> {
    const object = this.objects.get(key);
    if (!object) return undefined;
    const runs: ExportWorld["runs"] = {};
    for (const run of this.runs.values())
      if (run.attempt >= (runs[run.spec.command]?.attempt ?? 0) && this.belongs(run, object))
        runs[run.spec.command] = structuredClone(run);
    return structuredClone({
      export: object,
      ...(this.source ? { source: this.source } : {}),
      ...(this.target ? { target: this.target } : {}),
      runs,
      running: countRunning(object, this.objects.values()),
    });
  }

  async apply(world: ExportWorld, effect: Effect): Promise<void> {
    const refused = effect.do === "ensureRun" && this.refuse(effect.run);
    if (refused) throw refused;
    this.tick(effect.do === "ensureRun" ? `ensureRun ${effect.run.command}` : effect.do);
    const { name, namespace } = world.export.metadata;
    const key = `${namespace}/${name}`;
    if (effect.do === "ensureRun") return this.ensure(effect.run, world.export);
    if (effect.do === "setRun" || effect.do === "deleteRun") return this.change(effect);
    const object = this.objects.get(key)!;
    if (effect.do === "event") this.events.add(`${effect.warning ? "Warning" : "Normal"} ${effect.reason}`);
    if (effect.do === "outcome") object.metadata.annotations = { [annotations.outcome]: formatOutcome(effect) };
    if (effect.do === "finalizer") object.metadata.finalizers = effect.on ? [finalizer] : [];
    if (effect.do === "deleteExport") object.metadata.deletionTimestamp ??= "2026-03-05T00:00:00Z";
    if (effect.do === "outcome" || effect.do === "finalizer") this.touch(object);
    if (object.metadata.deletionTimestamp && !object.metadata.finalizers?.length) this.collect(object);
    world.export = structuredClone(object);
  }

  private change(effect: Extract<Effect, { do: "setRun" | "deleteRun" }>): void {
    const run = [...this.runs.values()].find((one) => one.uid === effect.uid);
    if (!run) return;
    if (effect.do === "deleteRun") {
      this.runs.delete(run.name);
      this.count(`delete ${run.name}`);
      return;
    }
    if (effect.suspend === true && run.state === "active") Object.assign(run, { state: "suspended", live: 0 });
    if (effect.suspend === false && run.state === "suspended") Object.assign(run, { state: "active", live: 1 });
    if (effect.ttlSeconds !== undefined) run.ttlSeconds = effect.ttlSeconds;
    if (effect.parallelism !== undefined) run.parallelism = effect.parallelism;
  }

  async writeStatus(world: ExportWorld, status: FhirExportStatus): Promise<void> {
    this.tick("status");
    const { name, namespace, resourceVersion } = world.export.metadata;
    const object = this.objects.get(`${namespace}/${name}`);
    if (!object) throw transient("Internal", "gone");
    if (object.metadata.resourceVersion !== resourceVersion) throw transient("Internal", "conflict");
    object.status = structuredClone(status);
    this.writes += 1;
    this.touch(object);
  }

  add(object: FhirExport): string {
    const key = `${object.metadata.namespace}/${object.metadata.name}`;
    this.objects.set(key, structuredClone(object));
    return key;
  }

  edit(key: string, spec: Partial<FhirExportSpec>): void {
    const object = this.objects.get(key)!;
    object.spec = { ...object.spec, ...spec };
    object.metadata.generation = (object.metadata.generation ?? 0) + 1;
    this.touch(object);
  }

  /** Plays the workers: every run that is active ends as the script says. @returns whether one has ended */
  work(): boolean {
    const active = [...this.runs.values()].filter((run) => run.state === "active" && run.live > 0);
    for (const run of active) {
      const end = this.script(run.spec, this.made.get(run.name) ?? 1);
      if (end?.state === "active") Object.assign(run, end);
      else
        Object.assign(
          run,
          { state: "complete", live: 0, done: run.spec.completions, reports: [results[run.spec.command]] },
          end,
        );
    }
    return active.some((run) => run.state !== "active");
  }

  private ensure(spec: RunSpec, object: FhirExport): void {
    const { attempt, task } = spec;
    const taskKey = `${object.metadata.uid}/${attempt}`;
    const siblings = [...this.runs.values()].some((run) => run.attempt === attempt && this.belongs(run, object));
    if (task && (!this.tasks.has(taskKey) || (!siblings && spec.command === "plan"))) {
      if (!this.tasks.has(taskKey)) this.count(`make task ${attempt}`);
      this.tasks.set(taskKey, JSON.stringify(task));
    }
    if (!this.tasks.has(taskKey)) throw new Error("a run without a Task");
    if (this.runs.has(spec.name)) return;
    const uid = `run-${this.next++}`;
    this.made.set(spec.name, (this.made.get(spec.name) ?? 0) + 1);
    this.count(`make ${spec.name}`);
    const { name, completions, parallelism, suspend } = spec;
    const state = suspend ? "suspended" : "active";
    this.runs.set(name, {
      name,
      uid,
      ours: true,
      attempt,
      state,
      live: suspend ? 0 : 1,
      done: 0,
      reports: [],
      progress: [],
      parallelism,
      spec: { ...spec, completions },
    });
  }

  private belongs = (run: Run, object: FhirExport) =>
    run.name.startsWith(`${object.metadata.name}-${object.metadata.uid!.slice(0, 8)}-`);

  private collect(object: FhirExport): void {
    this.objects.delete(`${object.metadata.namespace}/${object.metadata.name}`);
    const purged = [...this.runs.values()].some(
      (run) => run.spec.command === "purge" && run.state === "complete" && this.belongs(run, object),
    );
    this.count(purged ? "delete export, its files before it" : "delete export");
    for (const run of [...this.runs.values()]) if (this.belongs(run, object)) this.runs.delete(run.name);
  }

  private touch(object: FhirExport): void {
    object.metadata.resourceVersion = String(Number(object.metadata.resourceVersion) + 1);
  }

  private count(what: string): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + 1);
  }

  private tick(what: string): void {
    if (this.lives <= 0) throw new Killed(what);
    this.lives -= 1;
    this.effects.push(what);
  }
}
