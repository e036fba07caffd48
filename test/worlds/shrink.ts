import type { World } from "./world.ts";

/** Ways to make a world smaller, the largest steps first. */
function* smaller(world: World): Generator<World> {
  for (const name of ["faults", "storageFaults", "writes", "blows"] as const)
    if (world[name].length > 0) yield { ...world, [name]: [] };
  if (world.cancel !== undefined) yield { ...world, cancel: undefined };
  for (const name of ["faults", "storageFaults", "writes", "blows", "resources"] as const)
    for (const list of parts(world[name] as unknown[])) yield { ...world, [name]: list };
  for (const [process, own] of world.blows.entries())
    for (const list of parts(own)) yield { ...world, blows: world.blows.with(process, list) };
  for (const name of Object.keys(world.behaviour)) yield { ...world, behaviour: without(world.behaviour, name) };
  for (const name of ["patients", "types", "typeFilters", "elements", "since", "until"])
    if (name in world.export) yield { ...world, export: without(world.export, name) };
  const { source, plan, export: request, ahead } = world;
  if (ahead.source !== 0) yield { ...world, ahead: { ...ahead, source: 0 } };
  if (request.gzip) yield { ...world, export: { ...request, gzip: false } };
  if (request.maxFileBytes < 1 << 30) yield { ...world, export: { ...request, maxFileBytes: 1 << 30 } };
  if (plan.parallelism > 1) yield { ...world, plan: { ...plan, parallelism: 1 } };
  if (plan.shardResources < 1000) yield { ...world, plan: { ...plan, shardResources: 1000 } };
  if (source.share.requests > 1) yield { ...world, source: { ...source, share: { requests: 1 } } };
  if (source.settleSeconds > 0) yield { ...world, source: { ...source, settleSeconds: 0 } };
  if (source.count < 100) yield { ...world, source: { ...source, count: 100 } };
  if (world.storage === "directory") yield { ...world, storage: "azure" };
}

const without = <T extends object>(from: T, name: string): T =>
  Object.fromEntries(Object.entries(from).filter(([key]) => key !== name)) as T;

/** A list without one of its halves, quarters, and so on, down to single items. */
function* parts<T>(list: readonly T[]): Generator<T[]> {
  for (let size = Math.ceil(list.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2))
    for (let from = 0; from < list.length; from += size) yield [...list.slice(0, from), ...list.slice(from + size)];
}

/** Makes a world smaller as long as it still fails.
 *  @param fails whether a world fails as the first one did
 *  @param most how many worlds are tried */
export async function shrink(world: World, fails: (world: World) => Promise<boolean>, most = 600): Promise<World> {
  let tried = 0;
  for (let found = true; found; ) {
    found = false;
    for (const candidate of smaller(world)) {
      if (tried++ >= most) return world;
      if (!(await fails(candidate))) continue;
      world = candidate;
      found = true;
      break;
    }
  }
  return world;
}
