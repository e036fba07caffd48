import type { Checkpoint } from "../contracts.ts";
import { transient } from "../failure.ts";
import { isContained } from "../sink/contained.ts";
import { checkpointPath, planPath, resultPath } from "../sink/layout.ts";
import type { Store } from "../sink/store.ts";
import { eachParallel } from "./parallel.ts";
import { abandonUnfinished, readPlan } from "./stored.ts";
import type { CommandResult, Work } from "./work.ts";

/** After this time no request of a writer is under way any more that it sent before it was fenced. */
const requestTimeoutSeconds = 30;

/** Removes all objects of an export, after it has fenced off their writers. A worker that was frozen and wakes up later
 *  finds its checkpoint fenced or gone and stops, and nothing that it staged can be committed. The steps and their
 *  reasons are in docs/internals/storage-protocol.md.
 *  @returns how many objects could not be removed
 *  @throws terminal ForeignOutput, TaskVersion; transient Internal when a shard cannot be fenced */
export async function purgeExport({ task, store, log, signal, clock }: Work): Promise<CommandResult> {
  const plan = await readPlan(store, task.uid);
  const wereOpen = await eachParallel(plan?.shards ?? [], ({ id }) => fenceShard(store, task.uid, id));
  const open = wereOpen.filter(Boolean).length;
  if (open > 0) {
    log.info({ open }, "shards fenced while they were being written");
    await clock.sleep(Math.min(requestTimeoutSeconds, task.source.retrySeconds) * 1000, signal);
  }
  // The checkpoints are the fence, so they go after the data. The plan names the shards, so it goes last: until then a
  // purge that was killed can begin again.
  const roundOf = (path: string) =>
    path === planPath ? 2 : path.startsWith("_work/") && /\/checkpoint\.json$/.test(path) ? 1 : 0;
  for (const round of [0, 1, 2]) {
    if (round === 0) await abandonUnfinished(store, "");
    const paths = await listAll(store);
    await eachParallel(
      paths.filter((path) => roundOf(path) === round && isContained(path)),
      (path) => store.remove(path),
    );
  }
  let left = (await listAll(store)).length;
  for await (const _ of store.unfinished("")) left++;
  if (left > 0) log.warn({ left }, "some objects could not be removed");
  log.info({ audit: "purge", export: task.name, left });
  return { left };
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
    v: 1,
    uid,
    shard,
    writer: "purge",
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
    if ((JSON.parse(found.bytes.toString()) as Checkpoint).fenced) return false;
    if ((await store.replace(path, bytes, found.etag)) !== undefined)
      return (await store.read(resultPath(shard))) === undefined;
  }
  throw transient(
    "Internal",
    `shard ${shard} could not be fenced off, because its writer was always first; the purge is tried again`,
  );
}
