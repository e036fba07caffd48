/** Distributes shards over packages, one per completion index of the export Job. There are as many packages as the
 *  total needs at `size` resources each. They are filled evenly: the largest shard first, always into the package that
 *  holds least. A package keeps its shards in their given order.
 *  @param cost resources of a shard, as far as known
 *  @returns ids of shards; an export without shards has one empty package */
export function packShards<T extends { id: string }>(
  shards: readonly T[],
  cost: (shard: T) => number,
  size: number,
  maxPackages = 10_000,
): string[][] {
  const costs = shards.map(cost);
  const total = costs.reduce((sum, one) => sum + one, 0);
  // at least one, because the export Job needs a completion even where there is nothing to export
  const count = Math.max(1, Math.min(maxPackages, shards.length, Math.ceil(total / size)));
  const packages = Array.from({ length: count }, (_, index) => ({ index, held: 0, shards: [] as number[] }));
  // sorted by what they hold, so the first one always holds least
  const queue = packages.slice();
  for (const shard of [...costs.keys()].sort((a, b) => costs[b]! - costs[a]! || a - b)) {
    const least = queue.shift()!;
    least.shards.push(shard);
    least.held += costs[shard]!;
    let [low, high] = [0, queue.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      const other = queue[middle]!;
      if (other.held < least.held || (other.held === least.held && other.index < least.index)) low = middle + 1;
      else high = middle;
    }
    queue.splice(low, 0, least);
  }
  return packages.map((one) => one.shards.sort((a, b) => a - b).map((shard) => shards[shard]!.id));
}

/** A smaller shard is not worth the requests that it takes to plan and close it. */
const fewResources = 2000;
/** Each chain gets at least this many shards, so that less is left to wait for when the other chains are done. */
const shardsPerChain = 2;

/** How many resources a shard should have: as many as are asked for, but fewer where some chains would have no shard.
 *  @param total resources of the source, as far as known
 *  @param requests requests that a worker may have open at a time, each by one chain */
export const shardSize = (
  total: number,
  { shardResources, parallelism }: { shardResources: number; parallelism: number },
  requests: number,
): number =>
  Math.min(
    shardResources,
    Math.max(fewResources, Math.ceil(total / (Math.max(1, requests) * parallelism * shardsPerChain))),
  );

/** Each pod gets at least this many packages, so that a slow one delays the export less. */
const packagesPerPod = 2;

/** How many resources a package should have. A worker reads one shard per request of its share at a time, so a package
 *  has that many shards, but fewer where some pods would have no package.
 *  @param total resources of the export, as far as known
 *  @param requests requests that a worker may have open at a time */
export const packageSize = (
  total: number,
  { shardResources, parallelism }: { shardResources: number; parallelism: number },
  requests: number,
): number =>
  Math.min(
    shardResources * Math.max(1, requests),
    Math.max(shardResources, Math.ceil(total / (parallelism * packagesPerPod))),
  );
