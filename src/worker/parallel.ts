/** Items at a time: enough to hide the latency of storage with 10,000 shards, few enough for the sockets of one pod. */
export const maxParallel = 16;

/** Runs `run` for every item, at most `maxParallel` at a time.
 *  @returns the results, in the order of the items
 *  @throws the first error. The other items are still run, but nobody waits for them. */
export async function eachParallel<T, R>(
  items: readonly T[],
  run: (item: T, index: number) => Promise<R>,
): Promise<R[]> {
  const results = new Array<R>(items.length);
  const queue = items.entries();
  await Promise.all(
    Array.from({ length: Math.min(maxParallel, items.length) }, async () => {
      for (const [index, item] of queue) results[index] = await run(item, index);
    }),
  );
  return results;
}
