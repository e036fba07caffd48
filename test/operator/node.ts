// A node without a kubelet: pods that are bound to it get the status that a script says. The tests show how the real
// scheduler, the real Job controller and the operator react to that. (The process kubelet in test/tools runs the real
// worker.)
import { setTimeout as sleep } from "node:timers/promises";
import { labels } from "../../src/api/names.ts";
import type { Command, Report } from "../../src/contracts.ts";
import { type KubeClient, type KubeObject, pathOf, resources } from "../../src/kube/client.ts";
import { isConflict, isNotFound } from "../../src/kube/error.ts";
import { Informer } from "../../src/kube/informer.ts";
import { indexOf, type Pod } from "../../src/kube/view.ts";
import { results } from "./fake.ts";

export interface Start {
  command: Command;
  attempt: number;
  index: number;
  /** which pod of this export, command, attempt and index it is, from 1 */
  nth: number;
}
/** What becomes of a pod. By default it completes with the report that `results` in fake.ts has for its command. */
export interface Fate {
  exit?: number;
  report?: Partial<Report>;
  /** it ends without a termination message */
  mute?: boolean;
  /** it runs until it is deleted */
  hang?: boolean;
  /** it runs until this is resolved */
  until?: Promise<void>;
  /** it never starts, for this reason */
  stuck?: { reason: string; message: string };
  /** how long it takes to stop after it was deleted */
  graceMs?: number;
}

export class ScriptedNode {
  readonly name: string;
  readonly #namespace: string;
  /** what happened, in order: `start export 0`, `end export 0`, `gone export 0` */
  readonly log: string[] = [];
  fate: (start: Start) => Fate | undefined = () => undefined;
  readonly #client: KubeClient;
  readonly #stop = new AbortController();
  readonly #pods: Informer<Pod>;
  readonly #seen = new Map<string, { start: Start; fate: Fate }>();
  readonly #leaving = new Set<string>();
  readonly #counts = new Map<string, number>();
  #running: Promise<void> | undefined;

  /** @param namespace a namespace of makeNamespace, whose pods are scheduled only to its own node */
  constructor(client: KubeClient, namespace: string) {
    this.#client = client;
    this.#namespace = namespace;
    this.name = `scripted-${namespace}`;
    this.#pods = new Informer<Pod>(client, {
      path: pathOf(resources.pods),
      fieldSelector: `spec.nodeName=${this.name}`,
      onKey: (key) =>
        void this.#look(key).catch(
          (error) => !this.#stop.signal.aborted && console.error(`!! node ${this.name}: ${error}`),
        ),
    });
  }

  async start(): Promise<void> {
    const path = pathOf(resources.nodes);
    await this.#client.create(path, {
      apiVersion: "v1",
      kind: "Node",
      metadata: { name: this.name, labels: { "fhir-export-test/namespace": this.#namespace } },
    });
    const room = { cpu: "64", memory: "256Gi", pods: "500" };
    await this.#client.patch(`${path}/${this.name}/status`, {
      status: {
        capacity: room,
        allocatable: room,
        conditions: [
          {
            type: "Ready",
            status: "True",
            reason: "Scripted",
            message: "",
            lastHeartbeatTime: now(),
            lastTransitionTime: now(),
          },
        ],
      },
    });
    // This replaces the taint not-ready that admission has added.
    await this.#client.patch(`${path}/${this.name}`, { spec: { taints: null } });
    this.#running = this.#pods.run(this.#stop.signal);
    await this.#pods.whenSynced();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
    await this.#client.delete(pathOf(resources.nodes, { name: this.name }));
  }

  async #look(key: string): Promise<void> {
    const pod = this.#pods.get(key);
    if (!pod) return;
    const { uid = "", deletionTimestamp } = pod.metadata;
    const known = this.#seen.get(uid) ?? this.#meet(pod);
    if (deletionTimestamp) return this.#leave(pod, known.start, known.fate);
    if (pod.status?.phase !== "Pending" || known.fate.stuck) {
      if (known.fate.stuck && !pod.status?.containerStatuses)
        await this.#status(pod, { phase: "Pending", containerStatuses: [container({ waiting: known.fate.stuck })] });
      return;
    }
    if (pod.status.containerStatuses) return;
    this.#note("start", known.start);
    await this.#status(pod, {
      phase: "Running",
      podIP: "198.18.9.9",
      podIPs: [{ ip: "198.18.9.9" }],
      containerStatuses: [container({ running: { startedAt: now() } })],
    });
    if (known.fate.hang) return;
    await known.fate.until;
    await this.#end(pod, known.start, known.fate);
  }

  #meet(pod: Pod) {
    const own = pod.metadata.labels ?? {};
    const command = own[labels.command] as Command;
    const start = { command, attempt: Number(own[labels.attempt]), index: indexOf(pod), nth: 1 };
    const name = `${own[labels.uid]} ${command} ${start.attempt} ${start.index}`;
    start.nth = (this.#counts.get(name) ?? 0) + 1;
    this.#counts.set(name, start.nth);
    const met = { start, fate: this.fate(start) ?? {} };
    this.#seen.set(pod.metadata.uid ?? "", met);
    return met;
  }

  async #end(pod: Pod, start: Start, { exit = 0, report = {}, mute = false }: Fate): Promise<void> {
    const message = mute
      ? ""
      : JSON.stringify({ ...results[start.command], uid: pod.metadata.labels?.[labels.uid], ...report });
    const terminated = {
      exitCode: exit,
      message,
      reason: exit === 0 ? "Completed" : "Error",
      startedAt: now(),
      finishedAt: now(),
    };
    this.#note("end", start);
    await this.#status(pod, {
      phase: exit === 0 ? "Succeeded" : "Failed",
      containerStatuses: [container({ terminated })],
    });
  }

  async #leave(pod: Pod, start: Start, { graceMs = 0 }: Fate): Promise<void> {
    const { uid = "", namespace = "", name } = pod.metadata;
    if (this.#leaving.has(uid)) return;
    this.#leaving.add(uid);
    await sleep(graceMs);
    this.#note("gone", start);
    await this.#client
      .delete(pathOf(resources.pods, { namespace, name }), { uid, gracePeriodSeconds: 0 })
      .catch(forgive);
  }

  async #status({ metadata }: Pod, status: object): Promise<void> {
    const path = pathOf(resources.pods, {
      namespace: metadata.namespace ?? "",
      name: metadata.name,
      subresource: "status",
    });
    await this.#client.patch<KubeObject>(path, { metadata: { uid: metadata.uid }, status }).catch(forgive);
  }

  #note(what: string, { command, index }: Start): void {
    this.log.push(`${what} ${command} ${index}`);
  }
}

const container = (state: object) => ({
  name: "worker",
  image: "image",
  imageID: "image",
  ready: false,
  restartCount: 0,
  state,
});
const now = () => new Date().toISOString().replace(/\.\d+Z$/, "Z");
function forgive(error: unknown): void {
  if (!isNotFound(error) && !isConflict(error)) throw error;
}
