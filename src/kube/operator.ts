import { setTimeout as sleep } from "node:timers/promises";
import type { ExportTarget } from "../api/exporttarget.gen.ts";
import type { FhirExport } from "../api/fhirexport.gen.ts";
import type { FhirSource } from "../api/fhirsource.gen.ts";
import { labels, objectKey } from "../api/names.ts";
import { same } from "../api/rules.ts";
import { type Logger, makeLogger } from "../log.ts";
import { createReconcile } from "../operator/reconcile.ts";
import { checkSource, checkTarget } from "../operator/validity.ts";
import { Claims, type Wake, wokenBy } from "../operator/wakes.ts";
import { KubeClient, type KubeObject, pathOf, type Resource, resources } from "./client.ts";
import { startController } from "./controller.ts";
import { serveHealth } from "./health.ts";
import { Informer } from "./informer.ts";
import { LeaderElector } from "./lease.ts";
import { type Metrics, makeMetrics } from "./metrics.ts";
import { type OperatorOptions, operatorUsage, parseOperatorOptions } from "./options.ts";
import { Overlay } from "./overlay.ts";
import { Owned } from "./owned.ts";
import { type Cache, KubePort } from "./port.ts";
import { ProgressPoller } from "./progress.ts";
import type { Job, Pod } from "./view.ts";

/** The `operator` subcommand: runs until the signal aborts. With leader election it works only while it leads, and throws when it does no more: the
 *  kubelet starts it again, as a candidate. Several may work by mistake: names are locks, writes are guarded. */
export async function runOperator(args: string[], signal: AbortSignal): Promise<void> {
  const options = parseOperatorOptions(args, process.env);
  if (!options) return void console.log(operatorUsage);
  const { settings, namespaces, workers, pollSeconds } = options;
  const log = makeLogger({ part: "operator" });
  const metrics = makeMetrics();
  // a client of its own: those of the controllers write only while it leads
  const electionClient = options.election && KubeClient.load(options.kubeconfig);
  const elector =
    options.election && electionClient ? makeElector(electionClient, options.election, metrics, log) : undefined;
  const client = KubeClient.load(options.kubeconfig, elector ? { beforeWrite: () => elector.check() } : {});
  const end = elector ? AbortSignal.any([signal, elector.lost]) : signal;
  const written = new Overlay<FhirExport>();
  const [jobs, pods] = [new Owned<Job>(), new Owned<Pod>()];
  const claims = new Claims();

  const watch = <Kind extends KubeObject>(resource: Resource, onKey: (key: string) => void, labelSelector?: string) =>
    new Watched<Kind>(
      client,
      resource,
      namespaces,
      onKey,
      (error) => log.warn({ resource: resource.plural, error: String(error) }, "watch broke; trying again"),
      labelSelector,
    );
  const exports: Watched<FhirExport> = watch(resources.fhirExports, (key) => {
    exportQueue.add(key);
    wake(claims.note(key, exports.get(key)));
  });
  const sources: Watched<FhirSource> = watch(resources.fhirSources, (key) => {
    sourceQueue.add(key);
    wake({ kind: "source", key });
  });
  const targets: Watched<ExportTarget> = watch(resources.exportTargets, (key) => {
    targetQueue.add(key);
    wake({ kind: "target", key });
  });
  const jobCache: Watched<Job> = watch(
    resources.jobs,
    (key) => wakeOwner(key, jobs.note(key, jobCache.get(key))),
    labels.uid,
  );
  const podCache: Watched<Pod> = watch(
    resources.pods,
    (key) => wakeOwner(key, pods.note(key, podCache.get(key))),
    labels.uid,
  );
  const all = [exports, sources, targets, jobCache, podCache];

  function wake(change: Wake): void {
    for (const { metadata } of wokenBy(change, exports.list(), settings.maxExports))
      exportQueue.add(objectKey(metadata));
  }
  function wakeOwner(key: string, name: string | undefined): void {
    if (name) exportQueue.add(`${key.split("/", 1)[0]}/${name}`);
  }

  const poller = new ProgressPoller(
    () => podCache.list(),
    (key) => exportQueue.add(key),
  );
  const podSettings = {
    image: settings.image,
    ...(options.imagePullPolicy ? { imagePullPolicy: options.imagePullPolicy } : {}),
    imagePullSecrets: options.imagePullSecrets,
    volumeRoot: settings.volumeRoot,
  };
  const port = new KubePort(client, { exports, sources, targets, jobs, pods }, written, poller.of, podSettings, log);
  const reconcile = createReconcile(port, settings);
  const exportQueue = startController("fhirexport", workers, reconcile, metrics, log);
  const sourceQueue = startController(
    "fhirsource",
    1,
    (key) => review(client, resources.fhirSources, sources.get(key), checkSource),
    metrics,
    log,
  );
  const targetQueue = startController(
    "exporttarget",
    1,
    (key) => review(client, resources.exportTargets, targets.get(key), checkTarget),
    metrics,
    log,
  );
  const queues = [exportQueue, sourceQueue, targetQueue];

  const health = await serveHealth(options.listen, () => all.every((one) => one.synced()), metrics.registry);
  log.info({ namespaces: namespaces.length ? namespaces : "all", image: settings.image, port: health.port }, "started");
  const running = all.map((one) => one.run(end));
  try {
    await Promise.all(all.map((one) => one.whenSynced()));
    log.info({ exports: exports.size, jobs: jobCache.size }, "caches are filled");
    // a process that cannot fill its caches would be a bad leader
    await elector?.acquire(signal);
    signal.throwIfAborted();
    for (const queue of queues) queue.start();
    await every(pollSeconds, end, () => poller.poll(end));
  } catch (error) {
    if (!end.aborted) throw error;
  } finally {
    log.info("stopping");
    // another leads by now or soon: what is on its way is not waited for
    if (elector?.lost.aborted) await client.close();
    await Promise.all(queues.map((queue) => queue.close()));
    await elector?.release();
    await Promise.all(running);
    health.close();
    await poller.close();
    await client.close();
    await electionClient?.close();
  }
  if (elector?.lost.aborted) throw elector.lost.reason;
}

function makeElector(
  client: KubeClient,
  election: NonNullable<OperatorOptions["election"]>,
  metrics: Metrics,
  log: Logger,
): LeaderElector {
  const onLeading = (leading: boolean) => metrics.leader.set({ name: election.name }, leading ? 1 : 0);
  return new LeaderElector(client, { namespace: client.namespace, ...election, onLeading }, log);
}

/** Ready of a source or target, from its own fields. */
async function review<Kind extends FhirSource | ExportTarget>(
  client: KubeClient,
  resource: Resource,
  object: Kind | undefined,
  check: (object: Kind, now: Date) => NonNullable<Kind["status"]>,
): Promise<object> {
  if (!object || object.metadata.deletionTimestamp) return {};
  const status = check(object, new Date());
  if (same(object.status, status)) return {};
  const { namespace = "", name } = object.metadata;
  await client.replace(pathOf(resource, { namespace, name, subresource: "status" }), { ...object, status });
  return {};
}

/** A collection in the watched namespaces as one: an informer each, or one for all. */
class Watched<Kind extends KubeObject> implements Cache<Kind> {
  readonly #informers: Map<string, Informer<Kind>>;

  constructor(
    client: KubeClient,
    resource: Resource,
    namespaces: readonly string[],
    onKey: (key: string) => void,
    onError: (error: unknown) => void,
    labelSelector?: string,
  ) {
    const make = (path: string) =>
      new Informer<Kind>(client, { path, onKey, onError, ...(labelSelector ? { labelSelector } : {}) });
    this.#informers = new Map(
      namespaces.length === 0
        ? [["", make(pathOf(resource))]]
        : namespaces.map((namespace) => [namespace, make(pathOf(resource, { namespace }))]),
    );
  }

  get(key: string): Kind | undefined {
    return (this.#informers.get("") ?? this.#informers.get(key.split("/", 1)[0] ?? ""))?.get(key);
  }
  *list(): Iterable<Kind> {
    for (const informer of this.#informers.values()) yield* informer.list();
  }
  get size(): number {
    return [...this.#informers.values()].reduce((sum, { size }) => sum + size, 0);
  }
  synced(): boolean {
    return [...this.#informers.values()].every((one) => one.synced());
  }
  async whenSynced(): Promise<void> {
    await Promise.all([...this.#informers.values()].map((one) => one.whenSynced()));
  }
  async run(signal: AbortSignal): Promise<void> {
    await Promise.all([...this.#informers.values()].map((one) => one.run(signal)));
  }
}

/** Does the work at once and then every so many seconds, until the signal aborts. */
async function every(seconds: number, signal: AbortSignal, work: () => Promise<void>): Promise<void> {
  while (!signal.aborted) {
    await work();
    await sleep(seconds * 1000, undefined, { signal }).catch(() => {});
  }
}
