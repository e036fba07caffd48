import type { Command, Failure, Task } from "../../src/contracts.ts";
import { FailureError, toFailure, waiting } from "../../src/failure.ts";
import { SourceClient } from "../../src/fhir/client.ts";
import type { Logger } from "../../src/log.ts";
import type { Store } from "../../src/sink/store.ts";
import type { Clock } from "../../src/surroundings.ts";
import { exportPackage } from "../../src/worker/export.ts";
import { planAndSmallExport } from "../../src/worker/inline.ts";
import { PageMemory } from "../../src/worker/page-memory.ts";
import { ProgressBoard } from "../../src/worker/progress.ts";
import { purgeExport } from "../../src/worker/purge.ts";
import { seal } from "../../src/worker/seal/seal.ts";
import type { CommandResult, Work } from "../../src/worker/work.ts";
import { basePath, type SampleServer } from "../sources/exchange.ts";
import type { Random } from "../sources/random.ts";
import type { Send } from "./blobs.ts";
import { type Peer, WorkerProcess } from "./process.ts";
import type { Timeline } from "./timeline.ts";
import { MemoryTransport } from "./transport.ts";
import type { StorageFault, World } from "./world.ts";

export const baseURL = `http://source.example${basePath}`;

const commands = { plan: planAndSmallExport, export: exportPackage, seal, purge: purgeExport };
type RunCommand = keyof typeof commands;

/** How long after the end of a process the next one starts, and how long one that stands still is waited for. */
const restartMs = 2000;
const patienceMs = 60_000;
/** How often a command may fail, and how often it is started at all. */
const maxFailures = 12;
const maxTries = 30;
/** How often Azure's SDK sends a request. */
const maxSendings = 4;
/** Small, so that a world is cheap. Larger pages go the way of large pages. */
const slotBytes = 32_768;
/** No world may need more: it has a few hundred resources. */
export const maxRequests = { source: 8000, storage: 30_000 };

/** How the export has ended. */
export type End =
  | { end: "complete"; report: CommandResult }
  | { end: "failed"; command: Command; failure: Failure }
  | { end: "cancelled"; left: number };

/** What is there while a world runs. */
export interface Stage {
  world: World;
  timeline: Timeline;
  server: SampleServer;
  open: (send: Send) => Store;
  chance: Random;
  /** requests so far, over all workers */
  requests: { source: number; storage: number };
  /** Uncommitted blocks go, where the storage drops them at all. */
  dropBlocks: () => void;
  log: (line: string) => void;
}

const quiet = { debug() {}, info() {}, warn() {}, error() {} } as unknown as Logger;

/** Runs an export as the operator does: plan, packages, seal; each command again until it has ended well, as long as
 *  that makes sense. Where the world cancels the export, its output is removed. */
export class Operator {
  readonly #stage: Stage;
  readonly #task: Task;
  /** processes that were started */
  #started = 0;
  readonly #alive = new Set<WorkerProcess>();
  #cancel: (() => void) | undefined;
  #isCancelled = false;
  readonly #storageFaults: { kind: StorageFault["kind"]; request: number; left: number }[];
  unbounded: string | undefined;

  constructor(stage: Stage) {
    const { world } = stage;
    this.#stage = stage;
    this.#storageFaults = world.storageFaults.map(({ kind, request, times }) => ({ kind, request, left: times }));
    this.#task = {
      v: 1,
      uid: "uid-of-the-export",
      name: "world",
      createdAt: "2026-01-01T00:00:00.000Z",
      attempt: 1,
      export: world.export,
      source: { baseURL, auth: { kind: "none" }, ...world.source },
      target: {
        folder: "x",
        azureBlob: {
          accountURL: "https://account.blob.example",
          container: "container",
          createContainer: true,
          blockBytes: world.blockBytes,
          auth: "sas",
        },
      },
      plan: world.plan,
    };
  }

  /** Whether a process may still do something. */
  get isAnyAlive(): boolean {
    return this.#alive.size > 0;
  }

  async run(): Promise<End> {
    const cancelled = new Promise<"cancelled">((resolve) => (this.#cancel = () => resolve("cancelled")));
    const end = await Promise.race([this.#export(), cancelled]);
    if (end !== "cancelled") return end;
    const purged = await this.#try("purge", 0);
    return "failure" in purged
      ? { end: "failed", command: "purge", failure: purged.failure }
      : { end: "cancelled", left: purged.result.left ?? 0 };
  }

  async #export(): Promise<End> {
    const planned = await this.#try("plan", 0);
    if ("failure" in planned) return { end: "failed", command: "plan", failure: planned.failure };
    const { packages = 0 } = planned.result;
    if (packages === 0) return { end: "complete", report: planned.result };
    const queue = Array.from({ length: packages }, (_, index) => index).values();
    let failed: Failure | undefined;
    await Promise.all(
      Array.from({ length: this.#task.plan.parallelism }, async () => {
        for (const index of queue) {
          if (failed) return;
          const done = await this.#try("export", index);
          if ("failure" in done) failed = done.failure;
        }
      }),
    );
    if (failed) return { end: "failed", command: "export", failure: failed };
    const sealed = await this.#try("seal", 0);
    return "failure" in sealed
      ? { end: "failed", command: "seal", failure: sealed.failure }
      : { end: "complete", report: sealed.result };
  }

  /** Runs a command until it ends well, or trying again cannot help. */
  async #try(command: RunCommand, index: number): Promise<{ result: CommandResult } | { failure: Failure }> {
    const { timeline, log } = this.#stage;
    for (let tries = 1, failures = 0; ; tries++) {
      const end = await this.#start(command, index);
      log(`${command} ${index}: ${end.end} ${"failure" in end ? `${end.failure.class}: ${end.failure.message}` : ""}`);
      if (this.#isCancelled && command !== "purge") return new Promise(() => {});
      if (end.end === "done") return end;
      if (end.end === "failed" && (end.failure.class === "terminal" || ++failures >= maxFailures)) return end;
      if (tries >= maxTries) throw new Error(`${command} was started ${maxTries} times`);
      await new Promise<void>((resolve) => timeline.after(restartMs * 2 ** Math.min(failures, 6), resolve));
    }
  }

  /** Starts a process, and waits until it has ended or is given up. */
  #start(
    command: RunCommand,
    index: number,
  ): Promise<{ end: "done"; result: CommandResult } | { end: "failed"; failure: Failure } | { end: "lost" }> {
    const { timeline, world, chance, log } = this.#stage;
    const blows = command === "purge" ? [] : (world.blows[this.#started] ?? []);
    this.#started++;
    return new Promise((resolve) => {
      const process: WorkerProcess = new WorkerProcess({ timeline, chance, latency: world.latency }, blows, {
        death: () => {
          this.#alive.delete(process);
          resolve({ end: "lost" });
        },
        // The node of a process that stands still is taken for lost, and the process may wake up much later.
        freeze: () => void timeline.after(patienceMs, () => process.isFrozen && resolve({ end: "lost" })),
        request: (peer) => this.#count(peer),
      });
      this.#alive.add(process);
      commands[command](this.#work(process, index)).then(
        (result) => {
          resolve({ end: "done", result });
          process.kill();
        },
        (error: unknown) => {
          if (!(error instanceof FailureError)) log(String((error as Error).stack));
          resolve({ end: "failed", failure: toFailure(error) });
          process.kill();
        },
      );
    });
  }

  /** What a process works with. */
  #work(process: WorkerProcess, index: number): Work {
    const { server, chance, world, open } = this.#stage;
    const clock = process.clock(world.ahead.worker);
    const random = (bytes: number) => {
      const made = Buffer.alloc(bytes);
      for (let at = 0; at < bytes; at++) made[at] = chance.int(256);
      return made;
    };
    const { signal } = new AbortController();
    const transport = new MemoryTransport(server, process, clock);
    let memory: PageMemory | undefined;
    return {
      task: this.#task,
      store: open((effect) => this.#sendToStorage(process, clock, effect)),
      source: new SourceClient(this.#task.source, "/nowhere", signal, { clock, random, transport }),
      memory: () => (memory ??= new PageMemory(world.source.share.requests, world.blockBytes, slotBytes)),
      index,
      board: new ProgressBoard(),
      log: quiet,
      signal,
      clock,
      random,
    };
  }

  /** Azure's SDK tries again by itself; a file system does not. */
  async #sendToStorage<T>(process: WorkerProcess, clock: Clock, effect: () => T): Promise<T> {
    for (let tries = 1; ; tries++) {
      const answer = await process.send("storage", (): { result: T } | undefined => {
        const fault = this.#takeStorageFault();
        if (fault === "refuse") return undefined;
        const result = effect();
        return fault === "lose" ? undefined : { result };
      });
      if (answer) return answer.result;
      if (this.#stage.world.storage === "directory" || tries === maxSendings)
        throw waiting("TargetUnreachable", "the storage of the ExportTarget does not answer");
      await clock.sleep(1000 * 2 ** tries);
    }
  }

  #takeStorageFault(): StorageFault["kind"] | undefined {
    const { requests } = this.#stage;
    const fault = this.#storageFaults.find(({ request, left }) => request <= requests.storage && left > 0);
    if (!fault) return undefined;
    fault.left--;
    if (fault.kind === "dropBlocks") this.#stage.dropBlocks();
    return fault.kind;
  }

  #count(peer: Peer): void {
    const number = ++this.#stage.requests[peer];
    if (number > maxRequests[peer]) this.unbounded ??= `more than ${maxRequests[peer]} requests to ${peer}`;
    if (peer === "storage" && number === this.#stage.world.cancel) {
      this.#isCancelled = true;
      // A process that stands still cannot be ended.
      for (const process of [...this.#alive]) if (!process.isFrozen) process.kill();
      this.#cancel?.();
    }
  }
}
