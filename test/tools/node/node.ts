/** A node of Kubernetes, real in all its parts, on this machine: control plane, containerd, kubelet, kube-proxy and
 *  CoreDNS in namespaces of their own, which no packet leaves. As root, on Debian or Ubuntu. */
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

/** A program that runs on the node until it or the node is stopped. */
export interface Spawned {
  /** its number as seen from outside */
  pid: number;
  /** file with its output */
  log: string;
  lives(): boolean;
  stop(graceMs?: number): Promise<void>;
}

export interface TestNode {
  /** path of admin's kubeconfig, for programs on the node */
  kubeconfig: string;
  caFile: string;
  /** the address at which pods reach processes of the node */
  address: string;
  /** the name at which they do */
  hostName: string;
  /** folder for files of tests; it is removed with the node */
  files: string;
  /** folder with the logs of its servers and of spawned programs */
  logs: string;
  /** command line of a shell on the node, for people */
  shell: string[];
  /** Runs a program on the node to its end; kubectl, helm3, helm4, kubeconform, kube-score and node are in its
   *  PATH. The caller judges its exit code. */
  run(command: string[], options?: RunOptions): Promise<Output>;
  /** Starts a program on the node. */
  spawn(command: string[], options?: { name?: string; env?: RunOptions["env"]; cwd?: string }): Spawned;
  /** Imports the images of a file of `docker save` (image.ts, saveImage). */
  importImage(file: string): Promise<void>;
  /** Restarts the kubelet. Resolves when it answers again. Pods keep running meanwhile. */
  restartKubelet(): Promise<void>;
  /** Ends the node and removes everything of it.
   *  @throws Error that names the leftovers, if there are any */
  stop(): Promise<void>;
}

/** Starts the node, the only one on this machine. It ends with this process.
 *  @param options.logs folder for logs, which stays; default: one that is removed with the node
 *  @param options.patienceMs how long to wait while another node runs; default: not at all
 *  @throws Error when another one runs */
export async function startNode(
  programs: NodePrograms,
  options: { logs?: string; patienceMs?: number } = {},
): Promise<TestNode> {
  const claim = async () => {
    await endStale();
    // The folder is here whatever TMPDIR is, as the node has a /var and a /run of its own.
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

/** Thrown when another node runs. */
class Busy extends Error {}

/** Ends the node that a killed run left. */
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
  /** the guard of the process that started the node */
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
    // If this process is killed, the node's processes end at once. The rest is removed at the next start.
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
    // The certificate is made long before the server is ready. The programs that use it wait for the server themselves.
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
      // Another process has stopped the node already.
      if (now?.folder !== this.#record.folder) return [];
      await endNode(this.#record);
      removeRecord();
      return leftovers(this.#record);
    });
    this.#guard?.close();
    if (left.length) throw new Error(`left of the node:\n${left.join("\n")}`);
  }

  /** The ends of the logs, for the error when the node does not start. */
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
    // Another process may restart the server; it finds it by this file.
    writeFileSync(this.#path(`${server}.process`), JSON.stringify(started));
  }

  #pid(): number {
    const { holder } = this.#record;
    if (!holder || !lives(holder)) throw new Error("the node does not run");
    return holder.pid;
  }

  /** Polls until a command succeeds on the node. It fails as soon as a server that this process has started is gone. */
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
      // The caches of kubectl and Helm are here, so that they are removed with the node.
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
