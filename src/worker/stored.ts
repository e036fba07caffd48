import type { Cohort } from "../cohort.ts";
import type { Plan, ShardResult } from "../contracts.ts";
import { terminal, transient } from "../failure.ts";
import { readCheckpoint, resultOf } from "../sink/checkpoint.ts";
import { checkpointPath, cohortPath, planPath } from "../sink/layout.ts";
import type { Store, Unfinished } from "../sink/store.ts";
import { eachParallel } from "./parallel.ts";
import type { Work } from "./work.ts";

/** The stored plan of the export with this uid; undefined where there is none yet.
 *  @throws terminal ForeignOutput, TaskVersion */
export async function readPlan(store: Store, uid: string): Promise<Plan | undefined> {
  const found = await store.read(planPath);
  if (!found) return undefined;
  const stored = JSON.parse(found.bytes.toString()) as Plan;
  if (stored.uid !== uid)
    throw terminal(
      "ForeignOutput",
      "the export's folder holds the plan of another export; choose another container or name",
    );
  if (stored.v !== 1)
    throw terminal("TaskVersion", `plan.json has version ${stored.v}; it was written by another release`);
  return stored;
}

/** The result of a shard; undefined while it is not done.
 *  @param uid of the export
 *  @throws terminal Fenced, ForeignOutput, TaskVersion */
export async function readResult(store: Store, uid: string, shard: string): Promise<ShardResult | undefined> {
  const found = await store.read(checkpointPath(shard));
  return found && resultOf(readCheckpoint(found.bytes, { uid, shard: { id: shard } }));
}

/** The cohort that the plan has resolved; undefined where everybody is in the export.
 *  @throws transient Internal where there should be one */
export async function readCohort({ task, store }: Work): Promise<Cohort | undefined> {
  const { level, patients } = task.export;
  if (level === "System" || (level === "Patient" && !patients?.length)) return undefined;
  const found = await store.read(cohortPath);
  if (!found) throw transient("Internal", "there is no cohort beside plan.json");
  return JSON.parse(found.bytes.toString()) as Cohort;
}

/** Ends whatever below `prefix` was begun and is no object yet. @returns how much there was */
export async function abandonUnfinished(store: Store, prefix: string): Promise<number> {
  const all: Unfinished[] = [];
  for await (const one of store.unfinished(prefix)) all.push(one);
  await eachParallel(all, ({ path, key }) => store.abandon(path, key));
  return all.length;
}
