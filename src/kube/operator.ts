import type { ExportTarget } from "../api/exporttarget.gen.ts";
import type { FhirExport } from "../api/fhirexport.gen.ts";
import type { FhirSource } from "../api/fhirsource.gen.ts";
import { labels, objectKey } from "../api/names.ts";
import { same } from "../api/rules.ts";
import { type Logger, makeLogger } from "../log.ts";
import type { WorkQueue } from "../operator/queue.ts";
import { createReconcile } from "../operator/reconcile.ts";
import { checkSource, checkTarget } from "../operator/validity.ts";
import { SourceUses, type Wake, wokenBy } from "../operator/wakes.ts";
import { type ApiCollection, KubeClient, type KubeObject, pathOf, resources } from "./client.ts";
import { startController } from "./controller.ts";
import { serveHealth } from "./health.ts";
import { LeaderElector } from "./lease.ts";
import { type Metrics, makeMetrics } from "./metrics.ts";
import { type OperatorOptions, operatorUsage, parseOperatorOptions } from "./options.ts";
import { Overlay } from "./overlay.ts";
import { Owned } from "./owned.ts";
import { pause } from "./pause.ts";
import { KubePort } from "./port.ts";
import { ProgressPoller } from "./progress.ts";
import type { Job, Pod } from "./view.ts";
import { Watched } from "./watched.ts";

/** The `operator` subcommand: runs until the signal aborts. With leader election it works only while it leads, and
 *  throws when it has lost the lease: the kubelet then starts it again, as a candidate. Two that work at the same time
 *  by mistake do no harm, since names are locks and writes are guarded (docs/internals/controller.md). */
export async function runOperator(args: string[], signal: AbortSignal): Promise<void> {
  const options = parseOperatorOptions(args, process.env);
  if (!options) return void console.log(operatorUsage);
  const { settings, namespaces } = options;
  const log = makeLogger({ part: "operator" });
  const metrics = makeMetrics();
  // The elector has a client of its own, since the controllers' client writes only while the elector leads.
  const electionClient = options.election && KubeClient.load(options.kubeconfig);
  const elector =
    options.election && electionClient ? makeElector(electionClient, options.election, metrics, log) : undefined;
  const client = KubeClient.load(options.kubeconfig, elector ? { beforeWrite: () => elector.check() } : {});
  const end = elector ? AbortSignal.any([signal, elector.lost]) : signal;
  const { exports, jobs, caches, queues, poller } = makeControllers(client, options, metrics, log);

  const health = await serveHealth(options.listen, () => caches.every((one) => one.synced()), metrics.registry);
  log.info({ namespaces: namespaces.length ? namespaces : "all", image: settings.image, port: health.port }, "started");
  const running = caches.map((one) => one.run(end));
  try {
    await Promise.all(caches.map((one) => one.whenSynced()));
    log.info({ exports: exports.size, jobs: jobs.size }, "caches are filled");
    // An operator becomes a candidate only now: a process that cannot fill its caches would be a bad leader.
    await elector?.acquire(signal);
    signal.throwIfAborted();
    for (const queue of queues) queue.start();
    while (!end.aborted) {
      await poller.poll(end);
      await pause(options.pollSeconds * 1000, end);
    }
  } catch (error) {
    if (!end.aborted) throw error;
  } finally {
    log.info("stopping");
    // After the lease is lost another operator leads, now or soon: calls that are under way are cut off, not waited
    // for.
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

interface Controllers {
  exports: Watched<FhirExport>;
  jobs: Watched<Job>;
  /** all that is watched: to be run until the end */
  caches: Watched<KubeObject>[];
  /** to be started once the caches are filled */
  queues: WorkQueue[];
  poller: ProgressPoller;
}

/** The three controllers (exports, sources, targets) over their caches; nothing runs yet. A change in a cache queues
 *  the keys that it concerns (operator/wakes.ts says which). */
function makeControllers(client: KubeClient, options: OperatorOptions, metrics: Metrics, log: Logger): Controllers {
  const { settings, namespaces } = options;
  const watch = <Kind extends KubeObject>(
    collection: ApiCollection,
    onKey: (key: string) => void,
    labelSelector?: string,
  ) => {
    const onError = (error: unknown) =>
      log.warn({ resource: collection.plural, error: String(error) }, "a watch broke and is begun again");
    return new Watched<Kind>(client, collection, {
      namespaces,
      onKey,
      onError,
      ...(labelSelector ? { labelSelector } : {}),
    });
  };
  const wake = (change: Wake) => {
    for (const { metadata } of wokenBy(change, exports.list(), settings.maxExports))
      exportQueue.add(objectKey(metadata));
  };
  const wakeOwner = (key: string, name: string | undefined) => {
    if (name) exportQueue.add(`${key.split("/", 1)[0]}/${name}`);
  };
  const uses = new SourceUses();
  const exports: Watched<FhirExport> = watch(resources.fhirExports, (key) => {
    exportQueue.add(key);
    wake(uses.note(key, exports.get(key)));
  });
  const sources: Watched<FhirSource> = watch(resources.fhirSources, (key) => {
    sourceQueue.add(key);
    wake({ kind: "source", key });
  });
  const targets: Watched<ExportTarget> = watch(resources.exportTargets, (key) => {
    targetQueue.add(key);
    wake({ kind: "target", key });
  });
  // Jobs and pods are found by the label that every one of ours has.
  const [jobsOf, podsOf] = [new Owned<Job>(), new Owned<Pod>()];
  const onJob = (key: string) => wakeOwner(key, jobsOf.note(key, jobCache.get(key)));
  const onPod = (key: string) => wakeOwner(key, podsOf.note(key, podCache.get(key)));
  const jobCache: Watched<Job> = watch(resources.jobs, onJob, labels.uid);
  const podCache: Watched<Pod> = watch(resources.pods, onPod, labels.uid);

  const poller = new ProgressPoller(
    () => podCache.list(),
    (key) => exportQueue.add(key),
  );
  const written = new Overlay<FhirExport>();
  const seen = { exports, sources, targets, jobs: jobsOf, pods: podsOf, written, progress: poller.of };
  const port = new KubePort(client, seen, podSettingsOf(options), log);
  const { fhirSources, exportTargets } = resources;
  const controller = (name: string, workers: number, reconcile: (key: string) => Promise<{ requeueAfter?: number }>) =>
    startController({ name, workers, reconcile }, metrics, log);
  const exportQueue = controller("fhirexport", options.workers, createReconcile(port, settings));
  const sourceQueue = controller("fhirsource", 1, (key) =>
    writeReady(client, fhirSources, sources.get(key), checkSource),
  );
  const targetQueue = controller("exporttarget", 1, (key) =>
    writeReady(client, exportTargets, targets.get(key), checkTarget),
  );
  return {
    exports,
    jobs: jobCache,
    caches: [exports, sources, targets, jobCache, podCache],
    queues: [exportQueue, sourceQueue, targetQueue],
    poller,
  };
}

const podSettingsOf = ({ settings, imagePullPolicy, imagePullSecrets }: OperatorOptions) => ({
  image: settings.image,
  ...(imagePullPolicy ? { imagePullPolicy } : {}),
  imagePullSecrets,
  volumeRoot: settings.volumeRoot,
});

/** Writes the Ready condition of a source or target, which follows from its own fields, if it is not in the status
 *  yet. */
async function writeReady<Kind extends FhirSource | ExportTarget>(
  client: KubeClient,
  collection: ApiCollection,
  object: Kind | undefined,
  check: (object: Kind, now: Date) => NonNullable<Kind["status"]>,
): Promise<object> {
  if (!object || object.metadata.deletionTimestamp) return {};
  const status = check(object, new Date());
  if (same(object.status, status)) return {};
  const { namespace = "", name } = object.metadata;
  await client.replace(pathOf(collection, { namespace, name, subresource: "status" }), { ...object, status });
  return {};
}
