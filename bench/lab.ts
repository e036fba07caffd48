/** The set-up of a benchmark: source and sink run on one core, and what is measured on the other. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { bundle } from "../build/bundle.ts";
import type { Plan, Task } from "../src/contracts.ts";
import { PatientCompartment } from "../src/fhir/compartment.ts";
import { ServerNames } from "../src/fhir/references.ts";
import { nodeFlags, workerNodeOptions } from "../src/node-flags.ts";
import { shardSearches } from "../src/worker/read/searches.ts";
import { makeAuthority } from "../test/fhir/certificates.ts";
import { freePort } from "../test/tools/azurite.ts";
import type { Job } from "./peers.ts";
import type { SinkOptions } from "./sink.ts";
import type { SourceOptions } from "./source.ts";
import type { Usage } from "./usage.ts";

const here = import.meta.dirname;
const cores = availableParallelism() > 1 && existsSync("/usr/bin/taskset");
/** Whether this machine has two cores, and can keep a process on one of them. */
export const pinned: boolean = cores;

export interface Measured extends Usage {
  /** from the first request of a page to the last block stored */
  seconds: number;
  /** bytes of the pages, as they were sent */
  pageBytes: number;
  storedBytes: number;
  resources: number;
}

export interface LabOptions {
  types: Record<string, number>;
  count: number;
  chains: number;
  pretty?: boolean;
  delay?: number;
  tls?: boolean;
  gzip?: boolean;
  level?: "System" | "Patient";
  shardResources?: number;
  blockBytes?: number;
}

const folder = mkdtempSync(join(tmpdir(), "fhir-export-bench-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
let image: Promise<string> | undefined;

/** Bundles the worker as an image holds it: plain JavaScript, beside the scanner. */
const bundled = async (): Promise<string> => (await bundle(join(folder, "image"))).main;

/** A source, a sink and a plan, for any number of runs. */
export class Lab implements AsyncDisposable {
  readonly options: LabOptions;
  readonly #children: ChildProcess[] = [];
  readonly #folder = mkdtempSync(join(folder, "lab-"));
  readonly resources: number;
  #source = "";
  #sink = "";
  #plan: Plan | undefined;
  #environment: Record<string, string> = {};

  private constructor(options: LabOptions) {
    this.options = options;
    this.resources = Object.values(options.types).reduce((sum, count) => sum + count, 0);
  }

  static async open(options: LabOptions): Promise<Lab> {
    const lab = new Lab(options);
    await lab.#start();
    return lab;
  }

  async #start(): Promise<void> {
    const { types, count, pretty, delay, tls, gzip, level } = this.options;
    const authority = tls ? makeAuthority() : undefined;
    const scheme = tls ? "https" : "http";
    if (authority) {
      writeFileSync(join(this.#folder, "ca.crt"), authority.cert);
      this.#environment = { NODE_EXTRA_CA_CERTS: join(this.#folder, "ca.crt") };
    }
    const own = authority?.issue("127.0.0.1");
    const [sourcePort, sinkPort] = [await freePort(), await freePort()];
    this.#source = `${scheme}://127.0.0.1:${sourcePort}`;
    this.#sink = `${scheme}://127.0.0.1:${sinkPort}`;
    const source: SourceOptions = {
      port: sourcePort,
      types,
      count,
      pretty: pretty ?? false,
      delay: delay ?? 0,
      ...(own && { tls: own }),
    };
    const sink: SinkOptions = { port: sinkPort, ...(own && { tls: own }) };
    await Promise.all([
      this.#serve("source.ts", { BENCH_SOURCE: JSON.stringify(source) }),
      this.#serve("sink.ts", { BENCH_SINK: JSON.stringify(sink) }),
    ]);

    const task: Task = {
      v: 1,
      uid: "bench",
      name: "bench",
      createdAt: "2026-01-01T00:00:00.000Z",
      attempt: 1,
      export: {
        level: level ?? "System",
        types: Object.keys(types),
        gzip: gzip ?? false,
        maxFileBytes: 1 << 30,
        onResourceError: "Record",
      },
      source: {
        baseURL: `${this.#source}/fhir`,
        auth: { kind: "none" },
        count,
        settleSeconds: 0,
        history: false,
        retrySeconds: 5,
        share: { requests: this.options.chains },
      },
      target: {
        folder: "export",
        azureBlob: {
          accountURL: `${this.#sink}/bench`,
          container: "bench",
          createContainer: true,
          blockBytes: this.#blockBytes,
          auth: "connectionString",
        },
      },
      plan: { shardResources: this.options.shardResources ?? 25_000, inlineResources: 0, parallelism: 1 },
    };
    writeFileSync(join(this.#folder, "task.json"), JSON.stringify(task));
    for (const name of ["source", "target"]) mkdirSync(join(this.#folder, name));
    if (authority) writeFileSync(join(this.#folder, "source", "ca.crt"), authority.cert);
    writeFileSync(join(this.#folder, "target", "connection-string"), this.#connectionString);
    await this.#run([await this.#worker(), "worker", "plan"], this.#workerEnvironment);
    const plan = `${this.#sink}/bench/bench/export/_work/plan.json`;
    this.#plan = JSON.parse((await this.#ask(plan)).toString()) as Plan;
    // one package with all shards, so that one worker does everything
    this.#plan.packages = [this.#plan.packages.flat()];
    await this.#ask(plan, JSON.stringify(this.#plan));
  }

  get #blockBytes(): number {
    return this.options.blockBytes ?? 8 << 20;
  }
  get #connectionString(): string {
    const key = Buffer.alloc(64, 7).toString("base64");
    return `DefaultEndpointsProtocol=http;AccountName=bench;AccountKey=${key};BlobEndpoint=${this.#sink}/bench;`;
  }
  get #workerEnvironment(): Record<string, string> {
    return {
      NODE_OPTIONS: workerNodeOptions,
      FHIR_EXPORT_TASK: join(this.#folder, "task.json"),
      FHIR_EXPORT_UID: "bench",
      FHIR_EXPORT_TERMINATION: join(this.#folder, "termination"),
      FHIR_EXPORT_LOG_LEVEL: "silent",
      JOB_COMPLETION_INDEX: "0",
    };
  }
  #worker(): Promise<string> {
    return (image ??= bundled());
  }

  /** Measures our worker's export command. */
  async worker({ digest = true } = {}): Promise<Measured> {
    const before = digest ? [] : [`--import=${join(here, "no-digest.ts")}`];
    const measured = await this.#measure(
      [...nodeFlags, ...before, await this.#worker(), "worker", "export"],
      this.#workerEnvironment,
    );
    const report = JSON.parse(readFileSync(join(this.#folder, "termination"), "utf8")) as {
      totals: { resources: number };
    };
    if (report.totals.resources !== this.resources)
      throw new Error(`${report.totals.resources} of ${this.resources} resources`);
    return measured;
  }

  /** Measures a peer of peers.ts. */
  peer(name: "raw" | "careful" | "naive", { digest = true, exchange = false } = {}): Promise<Measured> {
    const plan = this.#plan!;
    const compartment = new PatientCompartment("R4", new ServerNames(new URL(`${this.#source}/fhir/`)));
    const searches = plan.shards
      .flatMap((shard) => shardSearches({ plan, cohort: undefined, compartment }, shard))
      .map((search) => `${this.#source}/fhir/${search}`);
    const job: Job = {
      searches,
      chains: this.options.chains,
      blockBytes: this.#blockBytes,
      digest,
      exchange,
      gzip: this.options.gzip ?? false,
      connectionString: this.#connectionString,
      sink: this.#sink,
    };
    return this.#measure([...nodeFlags, join(here, "peers.ts"), name], {
      NODE_OPTIONS: workerNodeOptions,
      BENCH_JOB: JSON.stringify(job),
    });
  }

  /** All that a run stores. */
  async content(run: () => Promise<unknown>): Promise<Buffer> {
    await this.#ask(`${this.#sink}/keep`);
    await run();
    return this.#ask(`${this.#sink}/content`);
  }

  async #measure(command: string[], environment: Record<string, string>): Promise<Measured> {
    const keeps = (await this.#stats(this.#sink)).bytes === 0;
    await this.#ask(`${this.#source}/reset`);
    if (!keeps) await this.#ask(`${this.#sink}/reset`);
    const usage = await this.#run(command, environment);
    const [source, sink] = [await this.#stats(this.#source), await this.#stats(this.#sink)];
    return {
      ...usage,
      seconds: (sink.last! - source.first!) / 1000,
      pageBytes: source.bytes,
      storedBytes: sink.bytes,
      resources: this.resources,
    };
  }

  /** Runs a command on the second core, to its end. */
  async #run(command: string[], environment: Record<string, string>): Promise<Usage> {
    const usage = join(this.#folder, "usage.json");
    const [program, ...args] = onCore(1, [process.execPath, `--import=${join(here, "usage.ts")}`, ...command]);
    const child = spawn(program!, args, {
      env: { PATH: process.env.PATH, ...this.#environment, ...environment, BENCH_USAGE: usage },
      stdio: "inherit",
    });
    const [code] = (await once(child, "exit")) as [number | null];
    if (code !== 0) throw new Error(`${command.join(" ")} ended with ${code}`);
    return JSON.parse(readFileSync(usage, "utf8")) as Usage;
  }

  /** Starts a server on the first core; it ends when the lab is closed. */
  async #serve(file: string, environment: Record<string, string>): Promise<void> {
    const [program, ...args] = onCore(0, [process.execPath, join(here, file)]);
    const child = spawn(program!, args, {
      env: { PATH: process.env.PATH, ...environment },
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    this.#children.push(child);
    await once(child, "message");
  }

  async #stats(of: string): Promise<{ first?: number; last?: number; bytes: number }> {
    return JSON.parse((await this.#ask(`${of}/stats`)).toString()) as { first?: number; last?: number; bytes: number };
  }

  async #ask(url: string, put?: string): Promise<Buffer> {
    const { Agent, request } = await import("undici");
    const dispatcher = new Agent({ allowH2: false, connect: { rejectUnauthorized: false } });
    const answer = await request(url, { dispatcher, method: put === undefined ? "GET" : "PUT", body: put ?? null });
    const bytes = Buffer.from(await answer.body.arrayBuffer());
    await dispatcher.close();
    return bytes;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#children) {
      child.disconnect();
      if (child.exitCode === null) await once(child, "exit");
    }
  }
}

const onCore = (core: number, command: string[]) => (cores ? ["taskset", "-c", String(core), ...command] : command);

/** Measures the methods of gzip.ts on the core where everything is measured. @returns MB/s of lines, by round */
export function gzipRates(lines: Buffer): Record<"output" | "digests" | "zlib", number[]> {
  const file = join(folder, "lines");
  writeFileSync(file, lines);
  const [program, ...args] = onCore(1, [process.execPath, ...nodeFlags, join(here, "gzip.ts"), file]);
  const { stdout, stderr } = spawnSync(program!, args, { encoding: "utf8" });
  if (!stdout) throw new Error(stderr);
  return JSON.parse(stdout) as Record<"output" | "digests" | "zlib", number[]>;
}
