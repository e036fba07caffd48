/** Shares shards out to packages, one per completion index: as many as hold `size` resources each, evenly (the largest shard first, always to the package
 *  that holds least). What a package holds stays in the order of the shards.
 *  @param cost resources, as far as known */
export function packShards<T extends { id: string }>(
  shards: readonly T[],
  cost: (shard: T) => number,
  size: number,
  maxPackages = 10_000,
): string[][] {
  const costs = shards.map(cost);
  const total = costs.reduce((sum, one) => sum + one, 0);
  // an export of nothing has one package, too: the Job behind it needs a completion
  const count = Math.max(1, Math.min(maxPackages, shards.length, Math.ceil(total / size)));
  const packages = Array.from({ length: count }, (_, index) => ({ index, held: 0, shards: [] as number[] }));
  // the one that holds least is always the first
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

/** a shard of fewer resources is not worth its requests */
const fewResources = 2000;
/** shards a chain, at least: what is left when the others are done is less */
const shardsPerChain = 2;

/** Resources of a shard: as many as are asked for, but fewer where chains would be left without.
 *  @param total of the source, as far as known */
export const shardSize = (
  total: number,
  { shardResources, parallelism }: { shardResources: number; parallelism: number },
  requests: number,
): number =>
  Math.min(
    shardResources,
    Math.max(fewResources, Math.ceil(total / (Math.max(1, requests) * parallelism * shardsPerChain))),
  );

/** packages a pod, at least: one that is slow holds the others up less */
const packagesPerPod = 2;

/** Resources of a package: a worker reads as many shards at a time as its share has requests, so it gets as many, unless pods would be left without.
 *  @param total of the export, as far as known */
export const packageSize = (
  total: number,
  { shardResources, parallelism }: { shardResources: number; parallelism: number },
  requests: number,
): number =>
  Math.min(
    shardResources * Math.max(1, requests),
    Math.max(shardResources, Math.ceil(total / (parallelism * packagesPerPod))),
  );
