/** A node of Kubernetes, real in all its parts, on this machine: control plane, containerd, kubelet, kube-proxy and CoreDNS in namespaces of their own, which
 *  no packet leaves. As root, on Debian or Ubuntu. */
import { mkdirSync, mkdtempSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Guard, startGuard } from "../guard.ts";
import { caFileOf } from "../plane-files.ts";
import { until } from "../until.ts";
import { importCommand, versionCommand } from "./images.ts";
import { endNode, leftovers, podsRun, sysctls } from "./leftovers.ts";
import {
  inside,
  lives,
  nodeAddress,
  nodeHost,
  nodeName,
  type Process,
  processOf,
  setUp,
  startHolder,
} from "./namespaces.ts";
import { endGroup, type Output, type RunOptions, runInside, startInside } from "./processes.ts";
import type { NodePrograms } from "./programs.ts";
import { alone, type NodeRecord, readRecord, removeRecord, writeRecord } from "./record.ts";
import { etcdPort, type Server, serverCommands, writeServerFiles } from "./servers.ts";

/** A program that runs on the node until it is stopped, or the node is. */
export interface Spawned {
  /** as seen from outside */
  pid: number;
  /** the file with what it says */
  log: string;
  lives(): boolean;
  stop(graceMs?: number): Promise<void>;
}

export interface TestNode {
  /** of admin, for programs on the node */
  kubeconfig: string;
  caFile: string;
  /** what pods reach processes of the node at */
  address: string;
  /** the same by name */
  hostName: string;
  /** a folder for files of tests: it goes when the node does */
  files: string;
  /** logs of its servers and of what was spawned on it */
  logs: string;
  /** the command line of a shell on it, for people */
  shell: string[];
  /** Runs a program on the node to its end; kubectl, helm3, helm4, kubeconform, kube-score and node are in its PATH. What it is told by its exit code is the caller's. */
  run(command: string[], options?: RunOptions): Promise<Output>;
  /** Starts a program on the node. */
  spawn(command: string[], options?: { name?: string; env?: RunOptions["env"]; cwd?: string }): Spawned;
  /** Takes the images of a file of `docker save` (image.ts, saveImage). */
  importImage(file: string): Promise<void>;
  /** Resolves when it answers again. Pods run on meanwhile. */
  restartKubelet(): Promise<void>;
  /** Ends all and removes what it left.
   *  @throws Error that names what is left all the same */
  stop(): Promise<void>;
}

/** Starts the node, the only one on this machine. It ends with this process.
 *  @param options.logs a folder for logs, which stays; default: one that goes with the node
 *  @param options.patienceMs how long to wait while another one runs; default: not at all
 *  @throws Error when another one runs */
export async function startNode(
  programs: NodePrograms,
  options: { logs?: string; patienceMs?: number } = {},
): Promise<TestNode> {
  const claim = async () => {
    await endStale();
    // whatever TMPDIR is: the node has a /var and a /run of its own
    const folder = mkdtempSync("/tmp/fhir-export-real-node-");
    const logs = options.logs ?? join(folder, "logs");
    const made: NodeRecord = { owner: processOf(process.pid)!, folder, logs, sysctls: sysctls() };
    writeRecord(made);
    return made;
  };
  let record: NodeRecord | undefined;
  for (const deadline = Date.now() + (options.patienceMs ?? 0); !record; ) {
    try {
      record = await alone(claim);
    } catch (error) {
      if (!(error instanceof Busy) || Date.now() > deadline) throw error;
      await sleep(1000);
    }
  }
  const node = new RunningNode(record, programs);
  try {
    await node.start();
    return node;
  } catch (error) {
    const said = node.tails();
    await node.stop().catch((more) => console.error(`!! ${more}`));
    throw new Error(`the node does not start: ${(error as Error).message}\n${said}`);
  }
}

/** The node that another process, such as the global set-up of the tests, started. */
export function attachNode(): TestNode {
  const record = readRecord();
  if (!record) throw new Error("no node runs");
  return new RunningNode(record, JSON.parse(readFileSync(join(record.folder, "programs.json"), "utf8")));
}

/** Another node runs. */
class Busy extends Error {}

/** Ends what a killed run left. */
async function endStale(): Promise<void> {
  const record = readRecord();
  if (record && lives(record.owner))
    throw new Busy(`process ${record.owner.pid} runs a node; there can be one on a machine`);
  if (record) await endNode(record);
  removeRecord();
  if (podsRun()) throw new Error("pods of another kubelet run on this machine");
}

class RunningNode implements TestNode {
  readonly kubeconfig: string;
  readonly caFile: string;
  readonly address = nodeAddress;
  readonly hostName = nodeHost;
  readonly files: string;
  readonly logs: string;
  readonly #programs: NodePrograms;
  #record: NodeRecord;
  /** of the process that started it */
  #guard: Guard | undefined;
  readonly #servers = new Map<Server, Process>();
  #spawned = 0;

  constructor(record: NodeRecord, programs: NodePrograms) {
    this.#record = record;
    this.#programs = programs;
    this.kubeconfig = this.#path("admin.kubeconfig");
    this.caFile = caFileOf(record.folder);
    this.files = this.#path("files");
    this.logs = record.logs;
  }

  async start(): Promise<void> {
    const { folder } = this.#record;
    // when this process is killed, processes end at once, and the rest is removed at the next start
    this.#guard = startGuard([folder]);
    await this.#makeNamespaces(this.#guard.add);
    for (const path of [this.files, this.logs, this.#path("home")]) mkdirSync(path, { recursive: true });
    writeFileSync(this.#path("programs.json"), JSON.stringify(this.#programs));
    const made = await this.run(["sh", "-c", setUp(folder)]);
    if (made.code !== 0) throw new Error(`the namespaces cannot be set up: ${made.stderr}`);
    writeServerFiles(folder);
    this.#start("containerd");
    this.#start("etcd");
    await this.#until("etcd", ["bash", "-c", `exec 3<>/dev/tcp/127.0.0.1/${etcdPort}`]);
    this.#start("apiserver");
    await Promise.all([this.#startPlane(), this.#startContainers()]);
    for (const server of ["kubelet", "proxy", "dns"] as const) this.#start(server);
    await this.#until("Ready", ["kubectl", "wait", "--for=condition=Ready", `node/${nodeName}`, "--timeout=5s"]);
    await this.#until("DNS", ["node", "--eval", `dns.promises.resolve4("kubernetes.default.svc.cluster.local")`]);
  }

  async #startPlane(): Promise<void> {
    // the certificate is made long before the server is ready; both wait for that themselves
    await this.#until("the API server's certificate", ["test", "-e", this.caFile]);
    for (const server of ["controllers", "scheduler"] as const) this.#start(server);
    await this.#until("the API server", ["kubectl", "get", "--raw", "/readyz"]);
  }

  async #startContainers(): Promise<void> {
    await this.#until("containerd", versionCommand);
    await this.importImage(join(this.#programs.node, "pause.tar"));
  }

  get shell(): string[] {
    const variables = Object.entries(this.#environment()).map(([name, value]) => `${name}=${value}`);
    const [program, args] = inside(this.#pid(), ["env", ...variables, "bash"], "/");
    return [program, ...args];
  }

  async run(command: string[], options: RunOptions = {}): Promise<Output> {
    return runInside(this.#pid(), command, this.#environment(), options);
  }

  spawn(command: string[], { name, env, cwd }: { name?: string; env?: RunOptions["env"]; cwd?: string } = {}): Spawned {
    const log = join(this.logs, `${name ?? `${command[0]!.split("/").pop()}-${process.pid}-${this.#spawned++}`}.log`);
    const started = startInside(this.#pid(), command, { env: { ...this.#environment(), ...env }, log, cwd });
    return { pid: started.pid, log, lives: () => lives(started), stop: (graceMs = 2000) => endGroup(started, graceMs) };
  }

  async importImage(file: string): Promise<void> {
    const { code, stderr } = await this.run(importCommand(file));
    if (code !== 0) throw new Error(`${file} cannot be imported: ${stderr}`);
  }

  async restartKubelet(): Promise<void> {
    await endGroup(JSON.parse(readFileSync(this.#path("kubelet.process"), "utf8")) as Process, 5000);
    this.#start("kubelet");
    await this.#until("the kubelet", ["kubectl", "get", "--raw", `/api/v1/nodes/${nodeName}/proxy/healthz`]);
  }

  async stop(): Promise<void> {
    const left = await alone(async () => {
      const now = readRecord();
      // another process was faster
      if (now?.folder !== this.#record.folder) return [];
      await endNode(this.#record);
      removeRecord();
      return leftovers(this.#record);
    });
    this.#guard?.close();
    if (left.length) throw new Error(`left of the node:\n${left.join("\n")}`);
  }

  /** The ends of the logs, for the message when it does not start. */
  tails(): string {
    return [...this.#servers.keys()]
      .map((name) => `${name}:\n${readFileSync(this.#log(name), "utf8").split("\n").slice(-6).join("\n")}`)
      .join("\n");
  }

  async #makeNamespaces(guard: (pid: number) => void): Promise<void> {
    const { holder, parent } = await startHolder(guard);
    this.#record = { ...this.#record, holder, parent, network: readlinkSync(`/proc/${holder.pid}/ns/net`) };
    writeRecord(this.#record);
  }

  #start(server: Server): void {
    const [program, args] = serverCommands(this.#programs, this.#record.folder)[server];
    const started = startInside(this.#pid(), [program, ...args], {
      env: this.#environment(),
      log: this.#log(server),
      cwd: this.#record.folder,
    });
    this.#servers.set(server, started);
    // for the process that restarts it
    writeFileSync(this.#path(`${server}.process`), JSON.stringify(started));
  }

  #pid(): number {
    const { holder } = this.#record;
    if (!holder || !lives(holder)) throw new Error("the node does not run");
    return holder.pid;
  }

  /** Polls until a command succeeds on the node, and no longer than the servers that this process has started live. */
  async #until(what: string, command: string[]): Promise<void> {
    await until(
      what,
      async () => {
        for (const [server, started] of this.#servers) if (!lives(started)) throw new Error(`${server} ended`);
        return (await this.run(command, { timeoutMs: 20_000 })).code === 0;
      },
      60_000,
    );
  }

  #environment(): { [name: string]: string } {
    const { plane, node, tools } = this.#programs;
    const own = [dirname(plane.kubectl), node, tools, dirname(process.execPath)];
    return {
      PATH: [...own, "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"].join(delimiter),
      // caches of kubectl and Helm are to go with the node
      HOME: this.#path("home"),
      KUBECONFIG: this.kubeconfig,
      LANG: "C.UTF-8",
    };
  }

  #log(name: string): string {
    return join(this.logs, `${name}.log`);
  }
  #path(name: string): string {
    return join(this.#record.folder, name);
  }
}
