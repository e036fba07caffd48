import type { ExportTarget } from "../api/exporttarget.gen.ts";
import type { FhirExport, FhirExportStatus } from "../api/fhirexport.gen.ts";
import type { FhirSource } from "../api/fhirsource.gen.ts";
import type { ObjectMeta } from "../api/meta.ts";
import { annotations, finalizer, group, labels, objectKey, taskName } from "../api/names.ts";
import type { Command, Effect, Progress, RunSpec, RunView } from "../contracts.ts";
import { sha256Of } from "../digest.ts";
import { type FailureError, terminal, transient, waiting } from "../failure.ts";
import type { Logger } from "../log.ts";
import { countRunning, holdsSlot } from "../operator/admit.ts";
import { formatOutcome, outcomeOf } from "../operator/outcome.ts";
import type { ExportWorld, Port } from "../operator/port.ts";
import { type KubeClient, pathOf, resources } from "./client.ts";
import { isAlreadyExists, isConflict, isNotFound, KubeError, toKubeFailure } from "./error.ts";
import { makeJob, type PodSettings } from "./job.ts";
import type { Overlay } from "./overlay.ts";
import type { Owned } from "./owned.ts";
import { makeTaskSecret } from "./task-secret.ts";
import { commandOf, type Event, type Job, type Pod, viewRun } from "./view.ts";

export interface Cache<Kind> {
  get(key: string): Kind | undefined;
  list(): Iterable<Kind>;
}
export interface Caches {
  exports: Cache<FhirExport>;
  sources: Cache<FhirSource>;
  targets: Cache<ExportTarget>;
  jobs: Owned<Job>;
  pods: Owned<Pod>;
}

/** A Job without pods for so long is asked for why: its controller says so in events only. */
const podlessMilliseconds = 5000;

/** The Port over an API server. Reads come from caches, but for an export that is being cancelled or deleted: there a pod that the cache does
 *  not show yet could write after its files were deleted. */
export class KubePort implements Port {
  readonly #api: KubeClient;
  readonly #caches: Caches;
  readonly #written: Overlay<FhirExport>;
  readonly #progress: (podUIDs: string[]) => Progress[];
  readonly #pods: PodSettings;
  readonly #log: Logger;

  constructor(
    api: KubeClient,
    caches: Caches,
    written: Overlay<FhirExport>,
    progress: (podUIDs: string[]) => Progress[],
    pods: PodSettings,
    log: Logger,
  ) {
    this.#api = api;
    this.#caches = caches;
    this.#written = written;
    this.#progress = progress;
    this.#pods = pods;
    this.#log = log;
  }

  async gather(key: string): Promise<ExportWorld | undefined> {
    const cached = this.#newest(key, this.#caches.exports.get(key));
    if (!cached) return undefined;
    const { namespace = "", uid = "", deletionTimestamp } = cached.metadata;
    const leaving = deletionTimestamp !== undefined || cached.spec.cancel === true;
    const { jobs, pods } = leaving
      ? await this.#listLive(namespace, uid)
      : { jobs: this.#caches.jobs.of(uid), pods: this.#caches.pods.of(uid) };
    const runs: ExportWorld["runs"] = {};
    for (const job of jobs) {
      const command = commandOf(job);
      if (!command) continue;
      const run = await this.#view(job, pods, uid);
      if (run.ours && run.attempt >= (runs[command]?.attempt ?? 0)) runs[command] = run;
    }
    addOrphans(runs, jobs, pods);
    const closing =
      deletionTimestamp !== undefined &&
      cached.metadata.finalizers?.includes(finalizer) &&
      (await this.#isClosing(namespace));
    // nothing is awaited from here on: what is counted must be what is decided on
    const object = this.#newest(key, this.#caches.exports.get(key)) ?? cached;
    const source = this.#caches.sources.get(`${namespace}/${object.spec.sourceRef.name}`);
    const target = this.#caches.targets.get(`${namespace}/${object.spec.targetRef.name}`);
    return {
      export: object,
      ...(source ? { source } : {}),
      ...(target ? { target } : {}),
      runs,
      running: this.#countRunning(object),
      ...(closing ? { closing: true as const } : {}),
    };
  }

  async apply(world: ExportWorld, effect: Effect): Promise<void> {
    const { metadata } = world.export;
    switch (effect.do) {
      case "ensureRun":
        return this.#ensure(world.export, effect.run);
      case "setRun":
        return this.#setRun(world, effect);
      case "deleteRun": {
        const run = Object.values(world.runs).find(({ uid }) => uid === effect.uid);
        // foreground: the name becomes free only when no pod is left
        if (run) await this.#remove(jobPath(metadata.namespace, run.name), run.uid, "Foreground");
        return;
      }
      case "outcome":
        return this.#patchExport(world, { annotations: { [annotations.outcome]: formatOutcome(effect) } });
      case "finalizer": {
        const others = (metadata.finalizers ?? []).filter((one) => one !== finalizer);
        return this.#patchExport(world, { finalizers: effect.on ? [...others, finalizer] : others });
      }
      case "event":
        return this.#event(world.export, effect);
      case "deleteExport":
        await this.#remove(exportPath(metadata), metadata.uid ?? "", "Background");
        return;
    }
  }

  async writeStatus(world: ExportWorld, status: FhirExportStatus): Promise<void> {
    const written = await this.#api.replace<FhirExport>(exportPath(world.export.metadata, "status"), {
      ...world.export,
      status,
    });
    this.#written.wrote(objectKey(world.export.metadata), world.export, written);
    world.export = written;
  }

  #newest(key: string, cached: FhirExport | undefined): FhirExport | undefined {
    return this.#written.newest(key, cached);
  }

  #countRunning(object: FhirExport): ExportWorld["running"] {
    // only what waits for a slot asks how many there are
    if (holdsSlot(object) || outcomeOf(object)?.value === "Complete") return { source: 0, all: 0, ahead: 0 };
    const all = [...this.#caches.exports.list()].map((one) => this.#newest(objectKey(one.metadata), one) ?? one);
    return countRunning(object, all);
  }

  async #view(job: Job, pods: readonly Pod[], uid: string): Promise<RunView> {
    const its = pods.filter((pod) => pod.metadata.ownerReferences?.some((owner) => owner.uid === job.metadata.uid));
    const age = Date.now() - Date.parse(job.metadata.creationTimestamp ?? "");
    const open =
      !job.spec.suspend && !job.status?.active && !job.status?.conditions?.some(({ status }) => status === "True");
    const events = its.length === 0 && open && age > podlessMilliseconds ? await this.#eventsOf(job) : [];
    const progress = this.#progress(its.flatMap(({ metadata }) => metadata.uid ?? []));
    return viewRun(job, its, uid, progress, events, new Date());
  }

  async #listLive(namespace: string, uid: string): Promise<{ jobs: Job[]; pods: Pod[] }> {
    const labelSelector = `${labels.uid}=${uid}`;
    const [jobs, pods] = await Promise.all([
      this.#api.list<Job>(pathOf(resources.jobs, { namespace }), { labelSelector }),
      this.#api.list<Pod>(pathOf(resources.pods, { namespace }), { labelSelector }),
    ]);
    return { jobs: jobs.items, pods: pods.items };
  }

  async #eventsOf({ metadata }: Job): Promise<Event[]> {
    const path = pathOf({ api: "/api/v1", plural: "events" }, { namespace: metadata.namespace ?? "" });
    try {
      return (
        await this.#api.list<Event>(path, { fieldSelector: `involvedObject.uid=${metadata.uid},reason=FailedCreate` })
      ).items;
    } catch (error) {
      // they only explain
      this.#log.debug({ job: metadata.name, error: String(error) }, "events cannot be read");
      return [];
    }
  }

  async #isClosing(namespace: string): Promise<boolean> {
    try {
      const { status } = await this.#api.get<Namespace>(pathOf(resources.namespaces, { name: namespace }));
      return status?.phase === "Terminating";
    } catch (error) {
      // an operator of one namespace may not be allowed to look at it
      if (error instanceof KubeError && error.status === 403) return false;
      throw error;
    }
  }

  async #ensure(object: FhirExport, spec: RunSpec): Promise<void> {
    const { metadata, status } = object;
    const run = status?.run;
    if (!run) throw transient("Internal", "a run was asked for before status.run was written");
    try {
      if (spec.task) await this.#ensureTask(object, spec);
      await this.#api.create(jobPath(metadata.namespace), makeJob(object, run, spec, this.#pods));
    } catch (error) {
      if (!isAlreadyExists(error)) throw explain(error, spec);
      // the name is the lock; a cache is no evidence of whose it is
      const live = await this.#api.get<Job>(jobPath(metadata.namespace, spec.name));
      if (!live.metadata.ownerReferences?.some(({ uid }) => uid === metadata.uid))
        throw terminal("Internal", `Job ${spec.name} exists and belongs to something else; delete it and raise retry`);
    }
  }

  /** Makes the Task Secret; one that is there is reused unread, unless nothing can have mounted it yet: then it may be of an older decision. */
  async #ensureTask(object: FhirExport, spec: RunSpec): Promise<void> {
    const { namespace = "", uid = "" } = object.metadata;
    const path = pathOf(resources.secrets, { namespace });
    const secret = makeTaskSecret(object, spec.task!);
    try {
      await this.#api.create(path, secret);
    } catch (error) {
      if (!isAlreadyExists(error)) throw error;
      if (spec.command !== "plan") return;
      const { jobs } = await this.#listLive(namespace, uid);
      if (jobs.some(({ metadata }) => metadata.labels?.[labels.attempt] === String(spec.attempt))) return;
      await this.#api.delete(`${path}/${taskName(object.metadata, spec.attempt)}`).catch(ignoreGone);
      await this.#api.create(path, secret);
    }
  }

  async #setRun(
    { export: object, runs }: ExportWorld,
    { uid, suspend, parallelism, ttlSeconds }: Extract<Effect, { do: "setRun" }>,
  ): Promise<void> {
    const run = Object.values(runs).find((one) => one.uid === uid);
    if (!run) return;
    const spec = {
      ...(suspend === undefined ? {} : { suspend }),
      ...(parallelism === undefined ? {} : { parallelism }),
      ...(ttlSeconds === undefined ? {} : { ttlSecondsAfterFinished: ttlSeconds }),
    };
    // a uid in a patch is a precondition; of a built-in kind another one is not a Conflict, but Invalid
    await this.#api.patch(jobPath(object.metadata.namespace, run.name), { metadata: { uid }, spec }).catch(ignoreGone);
  }

  /** Guarded by resourceVersion, so that what was decided on an old object is not written onto a newer one. */
  async #patchExport(
    world: ExportWorld,
    change: { annotations?: Record<string, string>; finalizers?: string[] },
  ): Promise<void> {
    const { resourceVersion, uid } = world.export.metadata;
    const patched = await this.#api.patch<FhirExport>(exportPath(world.export.metadata), {
      metadata: { ...change, resourceVersion, uid },
    });
    this.#written.wrote(objectKey(world.export.metadata), world.export, patched);
    world.export = patched;
  }

  async #remove(path: string, uid: string, propagationPolicy: "Foreground" | "Background"): Promise<void> {
    await this.#api.delete(path, { uid, propagationPolicy }).catch(ignoreGone);
  }

  /** Named by what it tells, so that telling it again after a crash makes no second one. Events are never a reason to fail. */
  async #event(
    { metadata, status }: FhirExport,
    { warning, reason, note }: Extract<Effect, { do: "event" }>,
  ): Promise<void> {
    const { name, namespace = "default", uid = "", generation = 0 } = metadata;
    const told = sha256Of(JSON.stringify([uid, generation, status?.attempt ?? 0, reason, note])).slice(0, 16);
    const event = {
      apiVersion: "events.k8s.io/v1",
      kind: "Event",
      metadata: { name: `${name}.${told}`, namespace },
      eventTime: new Date().toISOString().replace("Z", "000Z"),
      type: warning ? "Warning" : "Normal",
      reason,
      note,
      action: "Reconcile",
      reportingController: group,
      reportingInstance: "fhir-export-operator",
      regarding: { apiVersion: `${group}/v1alpha1`, kind: "FhirExport", name, namespace, uid },
    };
    try {
      await this.#api.create(pathOf(resources.events, { namespace }), event);
    } catch (error) {
      if (!isAlreadyExists(error)) this.#log.warn({ reason, error: String(error) }, "an event was lost");
    }
  }
}

interface Namespace {
  metadata: ObjectMeta;
  status?: { phase?: string };
}

const exportPath = ({ namespace = "", name }: ObjectMeta, subresource?: string) =>
  pathOf(resources.fhirExports, { namespace, name, ...(subresource ? { subresource } : {}) });
const jobPath = (namespace = "", name?: string) => pathOf(resources.jobs, { namespace, ...(name ? { name } : {}) });

/** Pods whose Job is gone already (someone deleted it) still count as live. */
function addOrphans(runs: ExportWorld["runs"], jobs: readonly Job[], pods: readonly Pod[]): void {
  const known = new Set(jobs.map(({ metadata }) => metadata.uid));
  for (const pod of pods) {
    const { metadata, status } = pod;
    const owner = metadata.ownerReferences?.find(({ kind }) => kind === "Job");
    const command = commandOf(pod) as Command | undefined;
    if (!owner || known.has(owner.uid) || !command || status?.phase === "Succeeded" || status?.phase === "Failed")
      continue;
    const run = runs[command];
    if (run) run.live += 1;
    else
      runs[command] = {
        name: owner.name,
        uid: owner.uid,
        ours: true,
        attempt: Number(metadata.labels?.[labels.attempt] ?? 0),
        state: "failed",
        going: true,
        live: 1,
        done: 0,
        reports: [],
        progress: [],
      };
  }
}

/** It is gone, or another of its name stands there: what was to be done to it is done. */
function ignoreGone(error: unknown): void {
  const another =
    error instanceof KubeError && error.status === 422 && error.causes.some(({ field }) => field === "metadata.uid");
  if (!isNotFound(error) && !isConflict(error) && !another) throw error;
}

/** Why a run cannot be made: for good when the API server finds it malformed (a worker field that no pod can have), for now when it is
 *  forbidden (quota, permission, policy). */
function explain(error: unknown, { command }: RunSpec): FailureError {
  if (error instanceof KubeError && error.status === 403)
    return waiting("Internal", `the ${command} Job cannot be made: ${error.detail.slice(0, 512)}`, error);
  const failure = toKubeFailure(error);
  if (failure.class !== "terminal") return failure;
  return terminal(
    "UnsupportedParameter",
    `the ${command} Job is not valid; mend spec.worker and raise retry (${failure.message})`,
    error,
  );
}
