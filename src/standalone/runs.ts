import { randomUUID } from "node:crypto";
import { readFile, rm } from "node:fs/promises";
import { get } from "node:http";
import { join } from "node:path";
import type { DatabaseSync } from "node:sqlite";
import { json } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import type { Command, Progress, Report } from "../contracts.ts";
import type { RunSpec, RunView } from "../effects.ts";
import type { Logger } from "../log.ts";
import { workerNodeOptions } from "../node-flags.ts";
import { type Child, isAlive, startChild } from "./children.ts";
import { transaction } from "./database.ts";
import { afterExit, type IndexState, isWhole, type Run, type RunOwner, startable } from "./rules.ts";

export interface RunsOptions {
  database: DatabaseSync;
  /** command line of a worker without its command: node, script, "worker" */
  worker: string[];
  log: Logger;
  /** called when a run of this export changed */
  changed: (exportName: string) => void;
  /** time between SIGTERM and SIGKILL */
  graceMs?: number;
  /** delay before an index is tried again; it doubles with each failure, up to a minute */
  backoffMs?: number;
}

interface Live {
  child: Child;
  stopping: boolean;
}

/** Runs of commands as child processes, with what an Indexed Job does: completions, parallelism, retries per index,
 *  suspend. Each state is stored in the database before anything depends on it, so that a standalone that was killed
 *  finds the processes that it had started. */
export class Runs {
  readonly #options: Required<RunsOptions>;
  readonly #runs = new Map<string, Run>();
  readonly #indexes = new Map<string, IndexState[]>();
  readonly #live = new Map<string, Live>();
  readonly #timers = new Set<NodeJS.Timeout>();
  readonly #tasks = new Set<Promise<void>>();
  #closing = false;

  constructor(options: RunsOptions) {
    this.#options = { graceMs: 10_000, backoffMs: 1000, ...options };
  }

  /** Continues the runs of the last standalone. First it waits for its children that are still alive. */
  recover(): void {
    const { database, changed } = this.#options;
    for (const { json } of database.prepare("SELECT json FROM runs").all()) {
      const run = JSON.parse(json as string) as Run;
      const rows = database.prepare("SELECT json FROM indexes WHERE run = ? ORDER BY number").all(run.uid);
      this.#runs.set(run.name, run);
      this.#indexes.set(
        run.uid,
        rows.map((row) => JSON.parse(row.json as string)),
      );
      for (const index of this.#of(run)) if (index.state === "running") this.#track(this.#awaitOrphan(run, index));
      if (run.ttlSeconds !== undefined) this.#later(run.ttlSeconds * 1000, () => void this.remove(run.uid));
      this.#advance(run);
      changed(run.owner.name);
    }
  }

  /** Starts a run. If one of this name exists, nothing happens: the name is the lock. */
  ensure(spec: RunSpec, owner: RunOwner, folder: string): void {
    if (this.#runs.has(spec.name)) return;
    const { name, command, attempt, completions, parallelism, suspend } = spec;
    const run: Run = { name, uid: randomUUID(), owner, command, attempt, completions, parallelism, suspend, folder };
    const indexes = Array.from(
      { length: completions },
      (_, number): IndexState => ({ number, state: "pending", failures: 0 }),
    );
    transaction(this.#options.database, () => {
      this.#options.database
        .prepare("INSERT INTO runs VALUES (?, ?, ?, ?)")
        .run(name, run.uid, owner.uid, JSON.stringify(run));
      for (const index of indexes) this.#saveIndex(run, index);
    });
    this.#runs.set(name, run);
    this.#indexes.set(run.uid, indexes);
    this.#advance(run);
  }

  /** Changes a run. If it is suspended, its children are stopped; what they stored stays. */
  set(
    uid: string,
    { suspend, parallelism, ttlSeconds }: { suspend?: boolean; parallelism?: number; ttlSeconds?: number },
  ): void {
    const run = this.#byUID(uid);
    if (!run) return;
    if (suspend !== undefined) run.suspend = suspend;
    if (parallelism !== undefined) run.parallelism = parallelism;
    if (ttlSeconds !== undefined) {
      run.ttlSeconds = ttlSeconds;
      this.#later(ttlSeconds * 1000, () => void this.remove(uid));
    }
    this.#saveRun(run);
    if (run.suspend) for (const number of this.#running(run)) void this.#stop(run, number);
    this.#advance(run);
  }

  /** Stops the run's children, waits until they are gone and forgets the run. */
  async remove(uid: string): Promise<void> {
    const run = this.#byUID(uid);
    if (!run || run.going) return;
    run.going = true;
    await Promise.all(this.#running(run).map((number) => this.#stop(run, number)));
    while (this.#running(run).length) await sleep(50);
    transaction(this.#options.database, () => {
      this.#options.database.prepare("DELETE FROM indexes WHERE run = ?").run(uid);
      this.#options.database.prepare("DELETE FROM runs WHERE uid = ?").run(uid);
    });
    this.#runs.delete(run.name);
    this.#indexes.delete(uid);
    this.#options.changed(run.owner.name);
  }

  all(): Run[] {
    return [...this.#runs.values()];
  }

  owned(exportUID: string): Run[] {
    return this.all().filter((run) => run.owner.uid === exportUID);
  }

  async view(run: Run): Promise<RunView & { command: Command }> {
    const indexes = this.#of(run);
    const reports = indexes.map((index) => index.report);
    const ports = this.#running(run).map((number) => this.#live.get(indexKey(run, number))?.child.progressPort);
    const progress = await Promise.all(ports.map((port) => (port === undefined ? undefined : readProgress(port))));
    return {
      command: run.command,
      name: run.name,
      uid: run.uid,
      ours: true,
      attempt: run.attempt,
      state: run.end?.state ?? (run.suspend ? "suspended" : "active"),
      ...(run.end?.reason && { reason: run.end.reason }),
      ...(run.going && { going: true }),
      parallelism: run.parallelism,
      ...(run.ttlSeconds !== undefined && { ttlSeconds: run.ttlSeconds }),
      live: this.#running(run).length,
      done: indexes.filter(({ state }) => state === "done").length,
      reports,
      progress: progress.filter((one) => one !== undefined),
    };
  }

  /** Stops all children and waits for them. The next standalone continues the runs. */
  async close(): Promise<void> {
    this.#closing = true;
    for (const timer of this.#timers) clearTimeout(timer);
    for (const run of this.#runs.values()) for (const number of this.#running(run)) void this.#stop(run, number);
    await Promise.all(this.#tasks);
  }

  #track(task: Promise<void>): void {
    this.#tasks.add(task);
    void task.finally(() => this.#tasks.delete(task));
  }

  /** Ends the run if all indexes are done; else starts the indexes that may start. */
  #advance(run: Run): void {
    const indexes = this.#of(run);
    if (!run.end && isWhole(indexes)) {
      run.end = { state: "complete" };
      this.#saveRun(run);
    }
    if (run.going || run.end || run.suspend || this.#closing) return;
    const { start, wait } = startable(indexes, run.parallelism, Date.now());
    for (const number of start) this.#start(run, indexes[number]!);
    if (wait !== undefined) this.#later(wait, () => this.#advance(run));
  }

  #start(run: Run, index: IndexState): void {
    const termination = terminationOf(run, index.number);
    // The state is stored before the process starts. A kill between the two leaves a running index without a process,
    // which recover() starts again.
    index.state = "running";
    delete index.process;
    this.#saveIndex(run, index);
    this.#track(this.#work(run, index, termination));
  }

  async #work(run: Run, index: IndexState, termination: string): Promise<void> {
    await rm(termination, { force: true });
    // The run may have been suspended or removed meanwhile.
    if (run.going || run.end || run.suspend || this.#closing) return this.#ended(run, index, { stopped: true });
    const child = startChild([...this.#options.worker, run.command], {
      NODE_OPTIONS: workerNodeOptions,
      FHIR_EXPORT_TASK: join(run.folder, "task.json"),
      FHIR_EXPORT_UID: run.owner.uid,
      JOB_COMPLETION_INDEX: String(index.number),
      FHIR_EXPORT_TERMINATION: termination,
      FHIR_EXPORT_PROGRESS: "127.0.0.1:0",
    });
    const live: Live = { child, stopping: false };
    this.#live.set(indexKey(run, index.number), live);
    if (child.identity) index.process = child.identity;
    this.#saveIndex(run, index);
    this.#options.log.debug({ run: run.name, index: index.number, pid: child.identity?.pid }, "worker started");
    const { code, signal } = await child.exited;
    this.#live.delete(indexKey(run, index.number));
    const report = await readReport(termination, run.owner.uid);
    this.#options.log.debug({ run: run.name, index: index.number, code, signal }, "worker ended");
    this.#ended(run, index, { stopped: live.stopping, code, report });
  }

  #ended(
    run: Run,
    index: IndexState,
    exit: { stopped: boolean; code?: number | null; report?: Report | undefined },
  ): void {
    // The run may have been removed meanwhile.
    if (this.#indexes.get(run.uid) === undefined) return;
    const after = afterExit(run.command, index, exit, { now: Date.now(), backoffMs: this.#options.backoffMs });
    Object.assign(index, after.index);
    delete index.process;
    this.#saveIndex(run, index);
    if (after.runFailed && !run.end) {
      run.end = { state: "failed", reason: after.runFailed };
      this.#saveRun(run);
      for (const number of this.#running(run)) void this.#stop(run, number);
    }
    this.#advance(run);
    this.#options.changed(run.owner.name);
  }

  /** Waits for a child of the last standalone. It exits when it notices that its IPC channel is closed; only then
   *  another may do its work. */
  async #awaitOrphan(run: Run, index: IndexState): Promise<void> {
    const until = Date.now() + this.#options.graceMs;
    while (index.process && isAlive(index.process)) {
      if (Date.now() > until) process.kill(index.process.pid, "SIGKILL");
      await sleep(50);
      if (this.#closing) return;
    }
    this.#ended(run, index, { stopped: true });
  }

  async #stop(run: Run, number: number): Promise<void> {
    const live = this.#live.get(indexKey(run, number));
    if (!live) return;
    live.stopping = true;
    await live.child.stop(this.#options.graceMs);
  }

  #later(delay: number, action: () => void): void {
    if (this.#closing) return;
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      action();
    }, delay);
    this.#timers.add(timer);
  }

  #byUID(uid: string): Run | undefined {
    return [...this.#runs.values()].find((run) => run.uid === uid);
  }

  #of(run: Run): IndexState[] {
    return this.#indexes.get(run.uid) ?? [];
  }

  #running(run: Run): number[] {
    return this.#of(run).flatMap(({ number, state }) => (state === "running" ? [number] : []));
  }

  #saveRun(run: Run): void {
    this.#options.database.prepare("UPDATE runs SET json = ? WHERE uid = ?").run(JSON.stringify(run), run.uid);
  }

  #saveIndex(run: Run, index: IndexState): void {
    this.#options.database
      .prepare("INSERT OR REPLACE INTO indexes VALUES (?, ?, ?)")
      .run(run.uid, index.number, JSON.stringify(index));
  }
}

const indexKey = (run: Run, number: number) => `${run.uid}/${number}`;
const terminationOf = (run: Run, number: number) => join(run.folder, `${run.name}-${number}.report`);

async function readReport(path: string, uid: string): Promise<Report | undefined> {
  try {
    const report = JSON.parse(await readFile(path, "utf8")) as Report;
    return report.v === 1 && report.uid === uid ? report : undefined;
  } catch {
    // There is no report, or half of one. The controller gets it by running the command again.
    return undefined;
  }
}

/** Asks a worker for its progress; undefined = no answer. The connection is closed afterwards, as an open one would
 *  keep the worker alive. */
function readProgress(port: number): Promise<Progress | undefined> {
  return new Promise((resolve) => {
    const request = get({ host: "127.0.0.1", port, path: "/progress", agent: false, timeout: 1000 }, async (answer) => {
      try {
        resolve((await json(answer)) as Progress);
      } catch {
        resolve(undefined);
      }
    });
    request.on("timeout", () => request.destroy());
    request.on("error", () => resolve(undefined));
  });
}
