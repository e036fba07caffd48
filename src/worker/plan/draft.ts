import type { Shard } from "../../contracts.ts";
import { terminal, transient } from "../../failure.ts";
import { planningPath } from "../../sink/layout.ts";
import type { Store } from "../../sink/store.ts";
import type { Work } from "../work.ts";
import type { Windows } from "./probes.ts";
import type { Count } from "./windows.ts";

/** What holds of the source's searches. */
export interface Probed extends Windows {
  sort: boolean;
  /** ids of the cohort in one search */
  batch?: number;
  /** types that have nothing */
  empty: string[];
  /** resources of the types, as far as they are counted */
  held?: Record<string, number>;
  /** resources of a shard */
  max: number;
}

/** What a planner has found out so far. A successor goes on with it, so that all of a plan is below one moment. */
export interface Findings {
  v: 1;
  uid: string;
  /** what resources of the export are older than, milliseconds */
  end: number;
  types: string[];
  typeHistory: boolean;
  instanceHistory: boolean;
  warnings: string[];
  probed?: Probed;
  /** the shards of the types that are dealt with */
  done: Record<string, Shard[]>;
  /** of the others: what the source has counted, by bounds */
  counts: Record<string, Record<string, number>>;
}

/** A kill repeats at most so much of a plan (DESIGN section 13). */
const checkpointMs = 2000;

/** Keeps a planner's findings in storage, until plan.json stands: 10,000 shards take 20,000 counts, and a pod may not live that long. */
export class Planning {
  findings: Findings;
  readonly #store: Store;
  readonly #log: Work["log"];
  #etag: string | undefined;
  #savedAt = performance.now();
  #saving = false;
  /** another planner is at work, or all is over; plan.json is whose is first */
  #lost = false;

  private constructor({ store, log }: Work, findings: Findings, etag: string | undefined) {
    this.#store = store;
    this.#log = log;
    this.findings = findings;
    this.#etag = etag;
  }

  /** Goes on with what an earlier planner has found, or begins.
   *  @param begin freezes the moment
   *  @throws terminal ForeignOutput, TaskVersion */
  static async open(work: Work, begin: () => Promise<Findings>): Promise<Planning> {
    const found = await Planning.#read(work);
    if (found) work.log.info({ types: Object.keys(found.findings.done).length }, "going on with an earlier plan");
    return new Planning(work, found?.findings ?? (await begin()), found?.etag);
  }

  static async #read({ store, task }: Work): Promise<{ findings: Findings; etag: string } | undefined> {
    const found = await store.read(planningPath);
    if (!found) return undefined;
    const findings = JSON.parse(found.bytes.toString()) as Findings;
    if (findings.uid !== task.uid)
      throw terminal(
        "ForeignOutput",
        "the export's folder holds the plan of another export; choose another container or name",
      );
    if (findings.v !== 1)
      throw terminal("TaskVersion", `planning.json has version ${findings.v}, made by another release`);
    return { findings, etag: found.etag };
  }

  /** Before anything else is made: puts the moment into storage, or goes on with that of a planner that was first. */
  async fix(work: Work): Promise<void> {
    if (this.#etag !== undefined) return;
    await this.#put();
    const found = this.#lost ? await Planning.#read(work) : undefined;
    if (found) this.findings = found.findings;
  }

  /** Makes an object of the plan, unless there is one. Whoever stood still meanwhile takes it back when all is over: once a plan stands, and after a purge, there
   *  are no findings any more (DESIGN section 6).
   *  @throws transient Internal */
  async make(path: string, bytes: Buffer): Promise<void> {
    const etag = await this.#store.create(path, bytes);
    if (etag === undefined || (await this.#store.read(planningPath))) return;
    await this.#store.remove(path, etag);
    throw transient("Internal", "the export was planned, or removed, while this planner stood still");
  }

  /** Counts of a type that the source is asked for once. */
  counted(type: string, count: Count): Count {
    const known = (this.findings.counts[type] ??= {});
    return async (from, till) => {
      const key = `${from ?? ""}-${till ?? ""}`;
      if (known[key] !== undefined) return known[key];
      const found = await count(from, till);
      if (found === undefined) return undefined;
      known[key] = found;
      await this.#saveIfDue();
      return found;
    };
  }

  /** The shards of a type, made once. */
  async shardsOf(type: string, make: () => Promise<Shard[]>): Promise<Shard[]> {
    const { done, counts } = this.findings;
    if (done[type]) return done[type];
    const shards = await make();
    done[type] = shards;
    delete counts[type];
    await this.#saveIfDue();
    return shards;
  }

  /** Once plan.json stands. */
  async remove(): Promise<void> {
    if (this.#etag !== undefined) await this.#store.remove(planningPath, this.#etag);
  }

  async #saveIfDue(): Promise<void> {
    if (this.#lost || this.#saving || performance.now() - this.#savedAt < checkpointMs) return;
    this.#saving = true;
    try {
      await this.#put();
    } finally {
      this.#saving = false;
      this.#savedAt = performance.now();
    }
  }

  async #put(): Promise<void> {
    const bytes = Buffer.from(JSON.stringify(this.findings));
    const etag =
      this.#etag === undefined
        ? await this.#store.create(planningPath, bytes)
        : await this.#store.replace(planningPath, bytes, this.#etag);
    this.#lost = etag === undefined;
    if (this.#lost) this.#log.info("another planner is at work");
    else this.#etag = etag;
  }
}
