import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { KubeClient, pathOf, resources } from "../../src/kube/client.ts";
import { isConflict, isNotFound } from "../../src/kube/error.ts";
import { Informer } from "../../src/kube/informer.ts";
import { nodeFlags } from "../../src/node-flags.ts";
import { runProcess } from "../../src/standalone/process.ts";
import { type Guard, startGuard } from "./guard.ts";
import { makeEnv, makeFiles, makeRewrite, type Pod, type Started, seconds, stateOf, unknownField } from "./pod.ts";

export interface KubeletOptions {
  kubeconfig: string;
  /** takes only pods of this namespace (of makeNamespace): other tests have their own nodes */
  namespace?: string;
  /** what each image that is here runs when a container has no command */
  images?: Record<string, string[]>;
}

const program = fileURLToPath(new URL("../../bin/fhir-export.mjs", import.meta.url));
const knownImages = { "fhir-export:test": [process.execPath, ...nodeFlags, program], "node:test": [process.execPath] };

interface Running {
  key: string;
  pod: Pod;
  ip: string;
  started: Started[];
  /** asked to end: seconds of grace */
  grace?: number;
  /** no longer in the API: nothing is left to report to */
  gone?: true;
  done: Promise<void>;
}

/** A node whose pods are processes of this machine, each with its own 127.x.y.z address. What it does not know in a pod
 *  fails that pod. */
export class Kubelet {
  readonly node: string;
  readonly folder = mkdtempSync(join(tmpdir(), "fhir-export-node-"));
  readonly #client: KubeClient;
  readonly #images: Record<string, string[]>;
  readonly #namespace: string | undefined;
  readonly #guard: Guard = startGuard([this.folder]);
  readonly #pods = new Map<string, Running>();
  readonly #informer: Informer<Pod>;
  readonly #stop = new AbortController();
  /** pending while halted */
  #gate = Promise.withResolvers<void>();
  #halted = false;
  // kubelets of several test processes share 127.0.0.0/8; 127.0.x is left to others
  #address = (Math.floor(Math.random() * 250) + 2) * 65_536 + Math.floor(Math.random() * 200) * 256;

  constructor({ kubeconfig, namespace, images }: KubeletOptions) {
    this.#client = KubeClient.load(kubeconfig);
    this.#namespace = namespace;
    this.#images = { ...knownImages, ...images };
    this.node = `node-${namespace ?? "1"}`;
    this.#gate.resolve();
    const path = namespace === undefined ? pathOf(resources.pods) : pathOf(resources.pods, { namespace });
    this.#informer = new Informer<Pod>(this.#client, {
      path,
      fieldSelector: `spec.nodeName=${this.node}`,
      onKey: (key) => this.#look(key),
    });
  }

  async start(): Promise<void> {
    const labels = {
      "kubernetes.io/hostname": this.node,
      ...(this.#namespace && { "fhir-export-test/namespace": this.#namespace }),
    };
    const path = pathOf(resources.nodes, { name: this.node });
    await this.#client.apply(
      path,
      { apiVersion: "v1", kind: "Node", metadata: { name: this.node, labels } },
      "kubelet",
    );
    const capacity = { cpu: "64", memory: "256Gi", pods: "5000", "ephemeral-storage": "1Ti" };
    await this.#client.patch(`${path}/status`, {
      status: { capacity, allocatable: capacity, conditions: [readiness("True")] },
    });
    // admission put it there, a controller that does not run here would remove it
    await this.#client.patch(path, { spec: { taints: null } });
    this.#informer.run(this.#stop.signal);
    await this.#informer.whenSynced();
  }

  /** Kills all pods and removes node, logs and volumes. */
  async stop(): Promise<void> {
    this.#stop.abort(new Error("the kubelet stops"));
    for (const running of this.#pods.values()) {
      running.gone = true;
      for (const { process } of running.started) process.kill("SIGKILL");
    }
    this.#gate.resolve();
    await Promise.all([...this.#pods.values()].map(({ done }) => done));
    await this.#client.delete(pathOf(resources.nodes, { name: this.node })).catch(() => {});
    await this.#client.close();
    this.#guard.close();
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** From now on it sees and reports nothing, as when a node is lost; the processes go on. */
  async halt(): Promise<void> {
    this.#halted = true;
    this.#gate = Promise.withResolvers();
    await this.#setReady("Unknown");
  }
  async resume(): Promise<void> {
    await this.#setReady("True");
    this.#halted = false;
    this.#gate.resolve();
    for (const key of new Set([
      ...[...this.#pods.values()].map(({ key }) => key),
      ...[...this.#informer.list()].map(keyOf),
    ]))
      this.#look(key);
  }

  /** Of the pod's first container, while it runs. */
  pidOf(pod: string): number | undefined {
    const started = this.#find(pod)?.started[0];
    return started?.exit ? undefined : started?.process.pid;
  }
  /** @returns false when nothing of it runs */
  kill(pod: string, signal: NodeJS.Signals = "SIGKILL"): boolean {
    return (this.#find(pod)?.started ?? []).map(({ process }) => process.kill(signal)).some((sent) => sent);
  }
  freeze(pod: string): boolean {
    return this.kill(pod, "SIGSTOP");
  }
  thaw(pod: string): boolean {
    return this.kill(pod, "SIGCONT");
  }
  /** What the pod's containers wrote, also after its end. */
  log(pod: string): string {
    return (this.#find(pod)?.started ?? []).map(({ log }) => readFileSync(log, "utf8")).join("");
  }

  /** the newest one of that name */
  #find(name: string): Running | undefined {
    return [...this.#pods.values()].findLast(({ pod }) => pod.metadata.name === name);
  }

  #look(key: string): void {
    if (this.#halted || this.#stop.signal.aborted) return;
    const pod = this.#informer.get(key);
    const uid = pod?.metadata.uid ?? "";
    for (const [other, running] of this.#pods)
      if (running.key === key && other !== uid && !running.gone) {
        running.gone = true;
        this.#end(running, 1);
      }
    if (!pod) return;
    const running = this.#pods.get(uid);
    if (running) {
      running.pod = pod;
      if (pod.metadata.deletionTimestamp) this.#end(running, pod.metadata.deletionGracePeriodSeconds ?? 30);
    } else if (pod.status?.phase === "Pending") {
      const made: Running = { key, pod, ip: this.#nextAddress(), started: [], done: Promise.resolve() };
      if (pod.metadata.deletionTimestamp) made.grace = 0;
      this.#pods.set(uid, made);
      // what fails here is a bug of this file: it must be seen
      made.done = this.#run(made).catch((error) => console.error(`!! kubelet: pod ${key}:`, error));
    }
  }

  /** SIGTERM, after the grace SIGKILL; #run sees the end. */
  #end(running: Running, grace: number): void {
    if (running.grace !== undefined && running.grace <= grace) return;
    running.grace = grace;
    for (const { process } of running.started) process.stop(grace * 1000);
  }

  async #run(running: Running): Promise<void> {
    const { pod } = running;
    const wrong = unknownField(pod);
    if (wrong)
      await this.#report(running, {
        phase: "Failed",
        reason: "UnknownField",
        message: `the process kubelet does not know ${wrong}`,
      });
    else if (await this.#start(running)) {
      await this.#report(running, { phase: "Running" });
      await Promise.all(running.started.map(({ process }) => process.exited));
      await this.#report(running, {
        phase: running.started.every(({ exit }) => exit?.code === 0) ? "Succeeded" : "Failed",
      });
    } else await this.#report(running, { phase: "Failed" });
    while (!running.gone && !this.#stop.signal.aborted && running.grace === undefined) await sleep(20);
    if (running.gone || this.#stop.signal.aborted) return;
    await this.#gate.promise;
    const { uid } = pod.metadata;
    await this.#client.delete(podPath(pod), { gracePeriodSeconds: 0, ...(uid && { uid }) }).catch(unlessGone);
  }

  /** @returns false when it was told to end before */
  async #start(running: Running): Promise<boolean> {
    const { pod, ip } = running;
    const folder = join(this.folder, pod.metadata.uid!);
    mkdirSync(folder, { recursive: true });
    let paths: Map<string, string> | undefined;
    let blocked = "";
    while (!paths) {
      await this.#gate.promise;
      if (running.grace !== undefined || running.gone || this.#stop.signal.aborted) return false;
      const missing = pod.spec.containers.find(({ image }) => !(image in this.#images));
      // a Secret may come later than the pod that mounts it
      const made = missing
        ? `image ${missing.image} is not on this node`
        : await makeFiles(this.#client, pod, join(folder, "volumes"));
      if (made instanceof Map) paths = made;
      else {
        if (made !== blocked)
          await this.#report(
            running,
            { phase: "Pending" },
            { reason: missing ? "ErrImageNeverPull" : "CreateContainerConfigError", message: made },
          );
        blocked = made;
        await sleep(50);
      }
    }
    if (running.grace !== undefined || running.gone || this.#stop.signal.aborted) return false;
    for (const container of pod.spec.containers) {
      const termination = join(folder, `${container.name}.termination`);
      const log = join(folder, `${container.name}.log`);
      const rewrite = makeRewrite(container, paths, termination);
      const { env, expand } = makeEnv(pod, container, ip, rewrite);
      // the image's own command is of this machine already
      const command = container.command?.map(expand) ?? this.#images[container.image]!;
      const output = openSync(log, "a");
      const [file, ...args] = [...command, ...(container.args ?? []).map(expand)];
      const process = runProcess({
        command: file ?? "",
        args,
        env,
        cwd: container.workingDir ? rewrite(container.workingDir) : folder,
        output,
        group: true,
      });
      closeSync(output);
      const started: Started = { container, process, startedAt: new Date().toISOString(), log, termination };
      running.started.push(started);
      if (process.pid !== undefined) this.#guard.add(process.pid);
      process.exited.then((exit) => {
        started.exit = { ...exit, at: new Date().toISOString() };
        if (process.pid !== undefined) this.#guard.remove(process.pid);
      });
    }
    return true;
  }

  async #report(
    running: Running,
    status: { phase: string; reason?: string; message?: string },
    waiting?: object,
  ): Promise<void> {
    const { pod, ip, started } = running;
    await this.#gate.promise;
    if (running.gone || this.#stop.signal.aborted) return;
    const ready = status.phase === "Running";
    const containerStatuses = pod.spec.containers.map((container) => {
      const one = started.find(({ container: { name } }) => name === container.name);
      const state = one ? stateOf(one) : { waiting: waiting ?? { reason: "ContainerCreating" } };
      const { name, image } = container;
      return { name, image, imageID: image, ready, started: ready, restartCount: 0, state };
    });
    const condition = (type: string, on: boolean) => ({
      type,
      status: on ? "True" : "False",
      lastTransitionTime: seconds(),
    });
    const body = {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: pod.metadata.name, ...(pod.metadata.uid && { uid: pod.metadata.uid }) },
      status: {
        ...status,
        startTime: seconds(started[0]?.startedAt),
        hostIP: "127.0.0.1",
        ...(started.length ? { podIP: ip, podIPs: [{ ip }] } : {}),
        // applied: the conditions of others (PodScheduled, DisruptionTarget) stay
        conditions: [condition("Initialized", true), condition("ContainersReady", ready), condition("Ready", ready)],
        containerStatuses,
      },
    };
    for (let wait = 20; ; wait = Math.min(2 * wait, 1000)) {
      try {
        await this.#client.apply(`${podPath(pod)}/status`, body, "kubelet");
        return;
      } catch (error) {
        if (isNotFound(error) || isConflict(error) || this.#stop.signal.aborted) return;
        // an API server that is killed comes back
        await sleep(wait);
      }
    }
  }

  async #setReady(status: "True" | "Unknown"): Promise<void> {
    await this.#client.patch(`${pathOf(resources.nodes, { name: this.node })}/status`, {
      status: { conditions: [readiness(status)] },
    });
  }

  #nextAddress(): string {
    this.#address += 1;
    if (this.#address % 256 === 255) this.#address += 2;
    return `127.${(this.#address >> 16) & 255}.${(this.#address >> 8) & 255}.${this.#address & 255}`;
  }
}

/** Starts a node; its pods end with this process. */
export async function startKubelet(options: KubeletOptions): Promise<Kubelet> {
  const kubelet = new Kubelet(options);
  await kubelet.start();
  return kubelet;
}

const keyOf = ({ metadata }: Pod) => `${metadata.namespace}/${metadata.name}`;
const podPath = ({ metadata: { namespace = "", name } }: Pod) => pathOf(resources.pods, { namespace, name });
const readiness = (status: string) => ({
  type: "Ready",
  status,
  reason: "ProcessKubelet",
  lastHeartbeatTime: seconds(),
  lastTransitionTime: seconds(),
});
const unlessGone = (error: unknown) => {
  if (!isNotFound(error) && !isConflict(error)) throw error;
};
