import type { ExportTarget } from "../api/exporttarget.gen.ts";
import type { FhirExport, FhirExportStatus } from "../api/fhirexport.gen.ts";
import type { FhirSource } from "../api/fhirsource.gen.ts";
import type { ObjectMeta } from "../api/meta.ts";
import { annotations, finalizer, group, labels, objectKey, taskName } from "../api/names.ts";
import type { Command, Progress } from "../contracts.ts";
import { sha256Of } from "../digest.ts";
import type { Effect, RunSpec, RunView } from "../effects.ts";
import { type FailureError, terminal, transient, waiting } from "../failure.ts";
import type { Logger } from "../log.ts";
import { countRunning, holdsSlot } from "../operator/admit.ts";
import { formatOutcome, outcomeOf } from "../operator/outcome.ts";
import type { ExportWorld, Port } from "../operator/port.ts";
import { type KubeClient, pathOf, resources } from "./client.ts";
import { microTime } from "./election.ts";
import { isAlreadyExists, isConflict, isNotFound, KubeError, toKubeFailure } from "./error.ts";
import { makeJob, type PodSettings } from "./job.ts";
import type { Overlay } from "./overlay.ts";
import type { Owned } from "./owned.ts";
import { makeTaskSecret } from "./task-secret.ts";
import { commandOf, type Event, type Job, type Pod, viewRun } from "./view.ts";

export interface Cache<Kind> {
  /** @param key `namespace/name` */
  get(key: string): Kind | undefined;
  list(): Iterable<Kind>;
}

/** What the operator has seen so far: all that the port reads without asking the API server. */
export interface Seen {
  exports: Cache<FhirExport>;
  sources: Cache<FhirSource>;
  targets: Cache<ExportTarget>;
  jobs: Owned<Job>;
  pods: Owned<Pod>;
  /** our own writes, until the cache of exports shows them */
  written: Overlay<FhirExport>;
  /** the last progress of these pods */
  progress(podUIDs: string[]): Progress[];
}

/** After this long without a pod the events of a Job are read, as only they say why its controller makes none. */
const podlessMilliseconds = 5000;

/** The Port over an API server. It reads from caches. But the Jobs and pods of an export that is being cancelled or
 *  deleted are listed live: a pod that the cache does not show yet could write after the files were deleted. */
export class KubePort implements Port {
  readonly #api: KubeClient;
  readonly #seen: Seen;
  readonly #podSettings: PodSettings;
  readonly #log: Logger;

  constructor(api: KubeClient, seen: Seen, podSettings: PodSettings, log: Logger) {
    this.#api = api;
    this.#seen = seen;
    this.#podSettings = podSettings;
    this.#log = log;
  }

  async gather(key: string): Promise<ExportWorld | undefined> {
    const cached = this.#newest(key, this.#seen.exports.get(key));
    if (!cached) return undefined;
    const { namespace = "", uid = "", deletionTimestamp } = cached.metadata;
    const leaving = deletionTimestamp !== undefined || cached.spec.cancel === true;
    const { jobs, pods } = leaving
      ? await this.#listLive(namespace, uid)
      : { jobs: this.#seen.jobs.of(uid), pods: this.#seen.pods.of(uid) };
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
    // Nothing is awaited from here on, so that the exports that are counted are those on which the decision rests.
    const object = this.#newest(key, this.#seen.exports.get(key)) ?? cached;
    const source = this.#seen.sources.get(`${namespace}/${object.spec.sourceRef.name}`);
    const target = this.#seen.targets.get(`${namespace}/${object.spec.targetRef.name}`);
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
        // With Foreground the name becomes free only when no pod is left.
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
    this.#seen.written.wrote(objectKey(world.export.metadata), world.export, written);
    world.export = written;
  }

  #newest(key: string, cached: FhirExport | undefined): FhirExport | undefined {
    return this.#seen.written.newest(key, cached);
  }

  #countRunning(object: FhirExport): ExportWorld["running"] {
    // Only an export that waits for a slot needs the counts.
    if (holdsSlot(object) || outcomeOf(object)?.value === "Complete") return { source: 0, all: 0, ahead: 0 };
    const all = [...this.#seen.exports.list()].map((one) => this.#newest(objectKey(one.metadata), one) ?? one);
    return countRunning(object, all);
  }

  async #view(job: Job, pods: readonly Pod[], uid: string): Promise<RunView> {
    const its = pods.filter((pod) => pod.metadata.ownerReferences?.some((owner) => owner.uid === job.metadata.uid));
    const age = Date.now() - Date.parse(job.metadata.creationTimestamp ?? "");
    const open =
      !job.spec.suspend && !job.status?.active && !job.status?.conditions?.some(({ status }) => status === "True");
    const events = its.length === 0 && open && age > podlessMilliseconds ? await this.#eventsOf(job) : [];
    const progress = this.#seen.progress(its.flatMap(({ metadata }) => metadata.uid ?? []));
    return viewRun({ job, pods: its, progress, events }, uid, new Date());
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
      // The events are needed for an explanation only.
      this.#log.debug({ job: metadata.name, error: String(error) }, "the events of a Job cannot be read");
      return [];
    }
  }

  async #isClosing(namespace: string): Promise<boolean> {
    try {
      const { status } = await this.#api.get<Namespace>(pathOf(resources.namespaces, { name: namespace }));
      return status?.phase === "Terminating";
    } catch (error) {
      // An operator of one namespace may have no right to read the Namespace.
      if (error instanceof KubeError && error.status === 403) return false;
      throw error;
    }
  }

  async #ensure(object: FhirExport, spec: RunSpec): Promise<void> {
    const { metadata, status } = object;
    const run = status?.run;
    if (!run) throw transient("Internal", "a run was to be made before status.run was written");
    try {
      if (spec.task) await this.#ensureTask(object, spec);
      await this.#api.create(jobPath(metadata.namespace), makeJob(object, run, spec, this.#podSettings));
    } catch (error) {
      if (!isAlreadyExists(error)) throw whyRunCannotBeMade(error, spec);
      // The name is the lock. Whose Job it is must be read live, as a cache may be old.
      const live = await this.#api.get<Job>(jobPath(metadata.namespace, spec.name));
      if (!live.metadata.ownerReferences?.some(({ uid }) => uid === metadata.uid))
        throw terminal("Internal", `Job ${spec.name} exists and belongs to something else; delete it and raise retry`);
    }
  }

  /** Makes the Task Secret. If it exists, it is reused unread, unless no pod can have mounted it yet: then it may be of
   *  an older decision, and is made anew. */
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
    // A uid in a patch is a precondition. If it differs, the API server answers Invalid for a built-in kind, and not
    // Conflict.
    await this.#api.patch(jobPath(object.metadata.namespace, run.name), { metadata: { uid }, spec }).catch(ignoreGone);
  }

  /** Changes the export's metadata, guarded by resourceVersion, so that a decision on an old object is not written onto
   *  a newer one. */
  async #patchExport(
    world: ExportWorld,
    change: { annotations?: Record<string, string>; finalizers?: string[] },
  ): Promise<void> {
    const { resourceVersion, uid } = world.export.metadata;
    const patched = await this.#api.patch<FhirExport>(exportPath(world.export.metadata), {
      metadata: { ...change, resourceVersion, uid },
    });
    this.#seen.written.wrote(objectKey(world.export.metadata), world.export, patched);
    world.export = patched;
  }

  async #remove(path: string, uid: string, propagationPolicy: "Foreground" | "Background"): Promise<void> {
    await this.#api.delete(path, { uid, propagationPolicy }).catch(ignoreGone);
  }

  /** Makes an event. Its name is derived from its content, so that making it again after a crash makes no second one. A
   *  failure is only logged. */
  async #event(
    { metadata, status }: FhirExport,
    { warning, reason, note }: Extract<Effect, { do: "event" }>,
  ): Promise<void> {
    const { name, namespace = "default", uid = "", generation = 0 } = metadata;
    const digest = sha256Of(JSON.stringify([uid, generation, status?.attempt ?? 0, reason, note])).slice(0, 16);
    const event = {
      apiVersion: "events.k8s.io/v1",
      kind: "Event",
      metadata: { name: `${name}.${digest}`, namespace },
      eventTime: microTime(new Date()),
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
      if (!isAlreadyExists(error)) this.#log.warn({ reason, error: String(error) }, "an event could not be made");
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

/** Adds the pods whose Job is gone already, as someone deleted it: they count as live until they have ended. */
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

/** Ignores that the object is gone, or that another one has its name now: then there is nothing left to do to it. */
function ignoreGone(error: unknown): void {
  const another =
    error instanceof KubeError && error.status === 422 && error.causes.some(({ field }) => field === "metadata.uid");
  if (!isNotFound(error) && !isConflict(error) && !another) throw error;
}

/** The failure of a run that cannot be made: terminal when the API server finds the Job malformed (by a field of
 *  spec.worker that no pod can have), waiting when it forbids the Job (quota, permission, policy). */
function whyRunCannotBeMade(error: unknown, { command }: RunSpec): FailureError {
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
