import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Agent, request } from "undici";
import { type RunningProcess, runProcess } from "../../src/standalone/process.ts";
import { freePort } from "./azurite.ts";
import type { Programs } from "./build.ts";
import { type Guard, startGuard } from "./guard.ts";
import {
  apiserverCommand,
  type Command,
  caFileOf,
  controllersCommand,
  etcdCommand,
  schedulerCommand,
  serverUsers,
  writePlaneFiles,
} from "./plane-files.ts";

type Part = "etcd" | "apiserver" | "controllers" | "scheduler";

/** etcd and kube-apiserver (tier T1), with controllers and scheduler (tier T2). They are the real programs on
 *  127.0.0.1, and their state is removed at the end. */
export interface ControlPlane {
  server: string;
  /** path of the kubeconfig of `admin`, a member of system:masters */
  kubeconfig: string;
  /** paths of kubeconfigs of users without any rights, for RBAC tests */
  users: { plain: string; operator: string; shim: string };
  tokens: { admin: string; plain: string; operator: string; shim: string };
  caFile: string;
  folder: string;
  pid(part: Part): number;
  /** Kills a part by SIGKILL. Resolves when it is gone. */
  kill(part: Part): Promise<void>;
  /** Starts a killed part again. For the API server it resolves when that is ready (about 2 s). */
  restart(part: Part): Promise<void>;
  pause(part: Part): void;
  resume(part: Part): void;
  /** Ends all programs and removes their state. */
  stop(): Promise<void>;
}

// Attach-detach, the volume binder, node IPAM and similar controllers only cost time. Without node-lifecycle and
// taint-eviction a node needs no heartbeat.
const controllers = [
  ...[
    "job-controller",
    "cronjob-controller",
    "ttl-after-finished-controller",
    "garbage-collector-controller",
    "pod-garbage-collector-controller",
  ],
  ...[
    "namespace-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "root-ca-certificate-publisher-controller",
  ],
  ...[
    "clusterrole-aggregation-controller",
    "deployment-controller",
    "replicaset-controller",
    "statefulset-controller",
    "daemonset-controller",
  ],
  ...["disruption-controller", "endpointslice-controller", "endpoints-controller", "resourcequota-controller"],
  ...["validatingadmissionpolicy-status-controller", "persistentvolume-binder-controller"],
];

/** Starts a control plane on free ports. Its processes end with this one.
 *  @param options.controllers false: no controllers and scheduler, and pods need no service account */
export async function startControlPlane(programs: Programs, options: { controllers: boolean }): Promise<ControlPlane> {
  for (let attempt = 1; ; attempt++) {
    const plane = new Plane(programs, options.controllers);
    try {
      await plane.start();
      return plane;
    } catch (error) {
      await plane.stop();
      // Another process may have taken a port that was free a moment ago.
      if (attempt === 3 || !/address already in use/.test(String(error))) throw error;
    }
  }
}

class Plane implements ControlPlane {
  server = "";
  readonly kubeconfig: string;
  readonly caFile: string;
  readonly users: ControlPlane["users"];
  tokens!: ControlPlane["tokens"];
  readonly folder = mkdtempSync(join(tmpdir(), "fhir-export-plane-"));
  readonly #data = existsSync("/dev/shm") ? mkdtempSync("/dev/shm/fhir-export-etcd-") : join(this.folder, "etcd");
  readonly #programs: Programs;
  readonly #withControllers: boolean;
  readonly #guard: Guard = startGuard([this.folder, this.#data]);
  readonly #commands = new Map<Part, Command>();
  readonly #running = new Map<Part, RunningProcess>();

  constructor(programs: Programs, withControllers: boolean) {
    this.#programs = programs;
    this.#withControllers = withControllers;
    const path = (name: string) => join(this.folder, name);
    this.caFile = caFileOf(this.folder);
    this.kubeconfig = path("admin.kubeconfig");
    this.users = {
      plain: path("plain.kubeconfig"),
      operator: path("operator.kubeconfig"),
      shim: path("shim.kubeconfig"),
    };
  }

  async start(): Promise<void> {
    const [etcdPort, peerPort, port] = [await freePort(), await freePort(), await freePort()];
    this.server = `https://127.0.0.1:${port}`;
    this.tokens = writePlaneFiles(this.folder, this.server, { ...serverUsers, plain: {}, operator: {}, shim: {} });
    this.#commands.set("etcd", etcdCommand(this.#programs, this.#data, etcdPort, peerPort));
    const listen = [
      "--bind-address=127.0.0.1",
      "--advertise-address=127.0.0.1",
      `--secure-port=${port}`,
      "--endpoint-reconciler-type=none",
    ];
    // The pods of a namespace stay on the node of its test, see makeNamespace.
    const admission = ["--enable-admission-plugins=PodNodeSelector"];
    // Without controllers nothing makes the default service account.
    if (!this.#withControllers) admission.push("--disable-admission-plugins=ServiceAccount");
    this.#commands.set("apiserver", apiserverCommand(this.#programs, this.folder, etcdPort, [...listen, ...admission]));
    this.#run("etcd");
    await this.#until("etcd", async () => (await request(`http://127.0.0.1:${etcdPort}/health`)).statusCode === 200);
    this.#run("apiserver");
    if (this.#withControllers) {
      const { controllerManager, scheduler } = this.#programs;
      if (!controllerManager || !scheduler)
        throw new Error("no kube-controller-manager and kube-scheduler beside the API server");
      this.#commands.set("controllers", controllersCommand(controllerManager, this.folder, controllers));
      this.#commands.set("scheduler", schedulerCommand(scheduler, this.folder));
      // The certificate is made long before the server is ready. Controllers and scheduler wait for the server
      // themselves.
      await this.#until("apiserver", async () => existsSync(this.caFile));
      this.#run("controllers");
      this.#run("scheduler");
    }
    await this.#ready();
  }

  pid(part: Part): number {
    return this.#process(part).pid!;
  }
  async kill(part: Part): Promise<void> {
    const running = this.#process(part);
    this.#running.delete(part);
    running.kill("SIGCONT");
    running.kill("SIGKILL");
    await running.exited;
  }
  async restart(part: Part): Promise<void> {
    if (this.#running.has(part)) throw new Error(`${part} runs`);
    this.#run(part);
    if (part === "apiserver") await this.#ready();
  }
  pause(part: Part): void {
    this.#process(part).kill("SIGSTOP");
  }
  resume(part: Part): void {
    this.#process(part).kill("SIGCONT");
  }
  async stop(): Promise<void> {
    // On SIGTERM the API server would wait up to 10 s for open watches. The state is thrown away, so SIGKILL does no
    // harm.
    await Promise.all([...this.#running.keys()].map((part) => this.kill(part)));
    this.#guard.close();
    for (const folder of [this.folder, this.#data]) rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
  }

  #process(part: Part): RunningProcess {
    const running = this.#running.get(part);
    if (!running) throw new Error(`${part} does not run`);
    return running;
  }

  #run(part: Part): void {
    const [command, args] = this.#commands.get(part)!;
    const output = openSync(this.#log(part), "a");
    const running = runProcess({ command, args, env: {}, cwd: this.folder, output, group: true });
    closeSync(output);
    this.#running.set(part, running);
    if (running.pid !== undefined) this.#guard.add(running.pid);
    running.exited.then(() => running.pid !== undefined && this.#guard.remove(running.pid));
  }

  async #until(part: Part, holds: () => Promise<boolean>): Promise<void> {
    const running = this.#process(part);
    let gone = false;
    running.exited.then(() => (gone = true));
    for (const deadline = Date.now() + 60_000; ; await sleep(25)) {
      if (await holds().catch(() => false)) return;
      if (gone || Date.now() > deadline)
        throw new Error(`${part} ${gone ? "ended" : "is not ready after 60 s"}:\n${this.#tail(part)}`);
    }
  }

  /** Each try has a connection of its own, as a restarted server is another one at the same address. */
  async #ready(): Promise<void> {
    await this.#until("apiserver", async () => {
      const dispatcher = new Agent({ connect: { ca: readFileSync(this.caFile) }, allowH2: false });
      try {
        const answer = await request(`${this.server}/readyz`, { dispatcher, headersTimeout: 2000 });
        await answer.body.dump();
        return answer.statusCode === 200;
      } finally {
        await dispatcher.destroy();
      }
    });
  }

  #log(part: Part): string {
    return join(this.folder, `${part}.log`);
  }
  #tail(part: Part): string {
    return readFileSync(this.#log(part), "utf8").split("\n").slice(-15).join("\n");
  }
}
