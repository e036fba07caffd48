import type { Checkpoint } from "../contracts.ts";
import { transient } from "../failure.ts";
import { isContained } from "../sink/contained.ts";
import { checkpointPath, isCheckpoint, planPath, shardId, shardOfCheckpoint } from "../sink/layout.ts";
import type { Store } from "../sink/store.ts";
import { eachParallel } from "./parallel.ts";
import { abandonUnfinished, readPlan } from "./stored.ts";
import type { CommandResult, Work } from "./work.ts";

/** A writer that stood still may make its checkpoint anew between two steps of a purge. It finds no plan from then on,
 *  so another pass or two find the last of it. */
const mostPasses = 3;

/** Removes all objects of an export, after it has fenced off their writers. A worker that was frozen and wakes up later
 *  finds its checkpoint fenced or gone and stops, and nothing that it staged can be committed. The steps and their
 *  reasons are in docs/internals/storage-protocol.md.
 *  @returns how many objects could not be removed
 *  @throws terminal ForeignOutput, TaskVersion; transient Internal when a shard cannot be fenced */
export async function purgeExport(work: Work): Promise<CommandResult> {
  const { task, store, log } = work;
  const plan = await readPlan(store, task.uid);
  const planned = plan?.shards ?? [];
  // The seal closes each type by a shard of its own, which the plan does not name.
  const closing = [...new Set(planned.map(({ type }) => type))].map((type) => shardId(type, 0));
  const shards = new Set([...planned.map(({ id }) => id), ...closing]);
  let left = 0;
  for (let pass = 0; pass < mostPasses; pass++) {
    for (const path of await listAll(store)) if (isCheckpoint(path)) shards.add(shardOfCheckpoint(path));
    await fenceAll(work, [...shards]);
    left = await removeAll(store);
    if (left === 0) break;
  }
  if (left > 0) log.warn({ left }, "some objects could not be removed");
  log.info({ audit: "purge", export: task.name, left });
  return { left };
}

async function fenceAll({ task, store, log, signal, clock }: Work, shards: readonly string[]): Promise<void> {
  const wereOpen = await eachParallel(shards, (id) => fenceShard(store, task.uid, id));
  const open = wereOpen.filter(Boolean).length;
  if (open === 0) return;
  log.info({ open }, "shards fenced while they were being written");
  // A request that a writer sent before may still be under way, and what it brings could be abandoned too early.
  await clock.sleep(store.requestSeconds * 1000, signal);
}

/** @returns how many objects are left, those included that are not finished */
async function removeAll(store: Store): Promise<number> {
  // An upload that is ended while a part of it is under way may be back when the part has come.
  for (let [empty, tries] = [0, 0]; empty < 2 && tries < 10; tries++)
    empty = (await abandonUnfinished(store, "")) === 0 ? empty + 1 : 0;
  // The checkpoints are the fence, so they go after the data. The plan names the shards, so it goes last: until then a
  // purge that was killed can begin again.
  const roundOf = (path: string) => (path === planPath ? 2 : isCheckpoint(path) ? 1 : 0);
  for (const round of [0, 1, 2]) {
    const paths = (await listAll(store)).filter((path) => roundOf(path) === round && isContained(path));
    await eachParallel(paths, (path) => store.remove(path));
  }
  const left = (await listAll(store)).length;
  return left + (await abandonUnfinished(store, ""));
}

async function listAll(store: Store): Promise<string[]> {
  const paths: string[] = [];
  for await (const { path } of store.list("")) paths.push(path);
  return paths;
}

/** Replaces the shard's checkpoint by one that ends its writer, or creates it so that no writer can begin.
 *  @returns whether the shard had been begun and was not done
 *  @throws transient Internal when other writers were always first */
async function fenceShard(store: Store, uid: string, shard: string): Promise<boolean> {
  const path = checkpointPath(shard);
  const fenced: Checkpoint = {
    v: 2,
    uid,
    shard,
    writer: "purge",
    sequence: 0,
    done: [],
    fingerprints: [],
    errors: 0,
    fenced: true,
  };
  const bytes = Buffer.from(JSON.stringify(fenced));
  // a writer replaces its checkpoint at most every 2 s, so few tries are needed
  for (let tries = 0; tries < 50; tries++) {
    if ((await store.create(path, bytes)) !== undefined) return false;
    const found = await store.read(path);
    if (!found) continue;
    const { fenced: isFenced, ended } = JSON.parse(found.bytes.toString()) as Checkpoint;
    if (isFenced) return false;
    if ((await store.replace(path, bytes, found.tag)) !== undefined) return ended === undefined;
  }
  throw transient(
    "Internal",
    `shard ${shard} could not be fenced off, because its writer was always first; the purge is tried again`,
  );
}
