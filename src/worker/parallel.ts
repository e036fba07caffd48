/** requests to storage at a time: enough to hide its latency for 10,000 shards, few enough for one pod's sockets */
const limit = 16;

/** Runs `run` for every item, at most `limit` at a time; results in the order of the items. */
export async function eachParallel<T, R>(
  items: readonly T[],
  run: (item: T, index: number) => Promise<R>,
): Promise<R[]> {
  const results = new Array<R>(items.length);
  const queue = items.entries();
  await Promise.all(
    Array.from({ length: Math.min(limit, items.length) }, async () => {
      for (const [index, item] of queue) results[index] = await run(item, index);
    }),
  );
  return results;
}
