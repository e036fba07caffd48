import type { Shard } from "../../contracts.ts";
import { terminal, transient } from "../../failure.ts";
import type { PatientCompartment } from "../../fhir/compartment.ts";
import type { FHIRRelease } from "../../fhir/release.ts";
import { manifestPath, planningPath, planPath } from "../../sink/layout.ts";
import type { Store } from "../../sink/store.ts";
import type { Work } from "../work.ts";
import type { TypesSeen, WindowSupport } from "./probes.ts";
import type { Bounds, CountWindow } from "./windows.ts";

/** What the probes have found out of the source's searches. */
export interface SourceProbe extends WindowSupport {
  /** it keeps an order when it is asked to sort */
  sort: boolean;
  /** how many ids of the cohort one search takes; absent where types are not searched by members */
  batch?: number;
  /** types of which a page has shown no resources */
  empty: string[];
  /** it stamps resources when it is asked for them */
  stampsMove?: boolean;
  /** types that the source counts no further than this number */
  caps?: Record<string, number>;
  /** types whose counts prove nothing */
  uncounted?: string[];
  /** how many resources each type has, where the source counts them */
  held?: Record<string, number>;
  /** types that the source refuses to search, by the status of its answer */
  refused?: Record<string, number>;
  /** the source has a history that tells what was deleted */
  history?: boolean;
  /** how many resources a shard should have at most */
  max: number;
}

/** planning.json: what a planner has found out so far. A successor continues with it, so that all of a plan is of one
 *  moment. */
export interface DraftState {
  v: 1;
  uid: string;
  /** the moment that the plan is of, in milliseconds: resources of the export are older */
  end: number;
  types: string[];
  typeHistory: boolean;
  instanceHistory: boolean;
  /** as in Plan.source */
  release?: FHIRRelease;
  names?: string[];
  /** how many milliseconds the source's clock is ahead of ours */
  clockAheadMs?: number;
  warnings: string[];
  /** Plan.doubts */
  doubts?: string[];
  /** what the first look at each type has found, right before `end` */
  seen?: TypesSeen;
  /** When that look began at the earliest, in milliseconds by the source's clock. Absent where the look may have been
   *  behind `end`. */
  seenFrom?: number;
  probed?: SourceProbe;
  /** the shards of each type that is already cut */
  done: Record<string, Shard[]>;
  /** of each other type: what the source has counted, by the bounds of the window */
  counts: Record<string, Record<string, number>>;
}

/** One planning, once the source is probed: all that is needed to cut a type into shards. */
export interface Planning {
  work: Work;
  draft: PlanDraft;
  probe: SourceProbe;
  compartment: PatientCompartment;
  /** what the searches of the export are bounded by */
  bounds: Bounds;
}

/** A kill costs a planner at most the work of this time. */
const saveEveryMs = 2000;

/** Keeps what a planner has found out in storage until plan.json exists: a plan of 10,000 shards takes 20,000 counts,
 *  and its pod may not live that long. */
export class PlanDraft {
  state: DraftState;
  readonly #store: Store;
  readonly #log: Work["log"];
  #tag: string | undefined;
  readonly #clock: Work["clock"];
  #savedAt: number;
  #saving = false;
  /** Another planner is at work, or the export has ended. This one continues without saving: whichever plan is stored
   *  first counts. */
  #lost = false;

  private constructor({ store, log, clock }: Work, state: DraftState, tag: string | undefined) {
    this.#store = store;
    this.#log = log;
    this.#clock = clock;
    this.#savedAt = clock.monotonic();
    this.state = state;
    this.#tag = tag;
  }

  /** Continues the draft of an earlier planner, or begins one.
   *  @param begin fixes the moment that the plan is of
   *  @throws terminal ForeignOutput, TaskVersion */
  static async open(work: Work, begin: () => Promise<DraftState>): Promise<PlanDraft> {
    const found = await PlanDraft.#read(work);
    if (found) work.log.info({ types: Object.keys(found.state.done).length }, "continuing an earlier plan");
    return new PlanDraft(work, found?.state ?? (await begin()), found?.tag);
  }

  static async #read({ store, task }: Work): Promise<{ state: DraftState; tag: string } | undefined> {
    const found = await store.read(planningPath);
    if (!found) return undefined;
    const state = JSON.parse(found.bytes.toString()) as DraftState;
    if (state.uid !== task.uid)
      throw terminal(
        "ForeignOutput",
        "the export's folder holds the plan of another export; choose another container or name",
      );
    if (state.v !== 1)
      throw terminal("TaskVersion", `planning.json has version ${state.v}; it was written by another release`);
    return { state, tag: found.tag };
  }

  /** Stores the draft before anything else is made. If another planner was first, this one continues with the other's
   *  draft, and so with its moment. */
  async fixMoment(work: Work): Promise<void> {
    if (this.#tag !== undefined) return;
    await this.#put();
    if (!this.#lost && !(await this.#isWanted(planningPath))) {
      await this.#store.remove(planningPath);
      throw transient("Internal", "the export was planned by another worker while this planner was frozen");
    }
    const found = this.#lost ? await PlanDraft.#read(work) : undefined;
    if (found) this.state = found.state;
  }

  /** Creates an object of the plan unless it exists. This planner may have stood still until all was over; then it
   *  removes what it has created.
   *  @returns whether it has created the object
   *  @throws transient Internal */
  async createOnce(path: string, bytes: Buffer): Promise<boolean> {
    if ((await this.#store.create(path, bytes)) === undefined) return false;
    if (await this.#isWanted(path)) return true;
    await this.#store.remove(path);
    throw transient("Internal", "the export was planned or removed by another worker while this planner was frozen");
  }

  /** Whether an object of the plan that was just made is still needed. The draft is removed by the planner that has
   *  made the plan, by the seal and by a purge. Where it is gone, the cohort is needed from the plan to the manifest,
   *  and the plan stays beside the manifest. */
  async #isWanted(path: string): Promise<boolean> {
    const paths = [planningPath, planPath, manifestPath];
    const [draft, plan, manifest] = await Promise.all(paths.map((one) => this.#store.size(one)));
    if (path === planningPath) return plan === undefined && manifest === undefined;
    if (draft !== undefined) return true;
    return path === planPath ? manifest !== undefined : plan !== undefined && manifest === undefined;
  }

  /** Wraps `count` so that the source is asked for each window of the type once, by this planner and its successors. */
  rememberCounts(type: string, count: CountWindow): CountWindow {
    const known = (this.state.counts[type] ??= {});
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

  /** The shards of a type. Only the first call for a type runs `cut`. */
  async shardsOf(type: string, cut: () => Promise<Shard[]>): Promise<Shard[]> {
    const { done, counts } = this.state;
    if (done[type]) return done[type];
    const shards = await cut();
    done[type] = shards;
    delete counts[type];
    await this.#saveIfDue();
    return shards;
  }

  /** Removes the draft. Only the planner that has made plan.json may do that: it would tell any other that stood still
   *  that all is over. */
  async remove(): Promise<void> {
    await this.#store.remove(planningPath);
  }

  async #saveIfDue(): Promise<void> {
    if (this.#lost || this.#saving || this.#clock.monotonic() - this.#savedAt < saveEveryMs) return;
    this.#saving = true;
    try {
      await this.#put();
    } finally {
      this.#saving = false;
      this.#savedAt = this.#clock.monotonic();
    }
  }

  async #put(): Promise<void> {
    const bytes = Buffer.from(JSON.stringify(this.state));
    const tag =
      this.#tag === undefined
        ? await this.#store.create(planningPath, bytes)
        : await this.#store.replace(planningPath, bytes, this.#tag);
    this.#lost = tag === undefined;
    if (this.#lost) this.#log.info("another planner is at work");
    else this.#tag = tag;
  }
}
