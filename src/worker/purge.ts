import { setTimeout as sleep } from "node:timers/promises";
import type { Checkpoint } from "../contracts.ts";
import { transient } from "../failure.ts";
import { checkpointPath, planPath, resultPath } from "../sink/layout.ts";
import type { Store } from "../sink/store.ts";
import { eachParallel } from "./parallel.ts";
import { readPlan } from "./stored.ts";
import type { CommandResult, Work } from "./work.ts";

/** a request that a frozen writer had under way when the fence went up has ended by then */
const requestTimeoutSeconds = 30;

/** Removes the export's objects after fencing its writers off (DESIGN section 6): a worker that wakes up later finds its checkpoint fenced, and
 *  nothing it staged can be committed. */
export async function purge({ task, store, log, signal }: Work): Promise<CommandResult> {
  const plan = await readPlan(store, task.uid);
  const open = (await eachParallel(plan?.shards ?? [], ({ id }) => fence(store, task.uid, id))).filter(Boolean).length;
  if (open > 0) {
    log.info({ open }, "shards fenced while they were being written");
    await sleep(Math.min(requestTimeoutSeconds, task.source.retrySeconds) * 1000, undefined, { signal });
  }
  // checkpoints are the fence: they go after the data, and the plan that names them goes last
  const rank = (path: string) =>
    path === planPath ? 2 : path.startsWith("_work/") && /\/checkpoint\.json$/.test(path) ? 1 : 0;
  for (const round of [0, 1, 2]) {
    const paths = await listed(store);
    await eachParallel(
      paths.filter((path) => rank(path) === round),
      (path) => store.remove(path),
    );
  }
  const left = (await listed(store)).length;
  if (left > 0) log.warn({ left }, "some objects could not be removed");
  log.info({ audit: "purge", export: task.name, left });
  return { left };
}

async function listed(store: Store): Promise<string[]> {
  const paths: string[] = [];
  for await (const { path } of store.list("", { uncommitted: true })) paths.push(path);
  return paths;
}

/** Replaces the shard's checkpoint by one that ends its writer, whoever writes in between. @returns whether the shard was being written */
async function fence(store: Store, uid: string, shard: string): Promise<boolean> {
  const path = checkpointPath(shard);
  const fenced: Checkpoint = {
    v: 1,
    uid,
    shard,
    writer: "purge",
    seen: 0,
    done: [],
    fingerprints: [],
    errors: 0,
    fenced: true,
  };
  const bytes = Buffer.from(JSON.stringify(fenced));
  // the writer checkpoints every 2 s at most: a few tries win
  for (let tries = 0; tries < 50; tries++) {
    if ((await store.create(path, bytes)) !== undefined) return false;
    const found = await store.read(path);
    if (!found) continue;
    if ((JSON.parse(found.bytes.toString()) as Checkpoint).fenced) return false;
    if ((await store.replace(path, bytes, found.etag)) !== undefined)
      return (await store.read(resultPath(shard))) === undefined;
  }
  throw transient("Internal", `shard ${shard} could not be fenced`);
}
