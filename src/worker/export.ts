import { randomBytes } from "node:crypto";
import type { Cohort, Plan, Shard, ShardResult } from "../contracts.ts";
import { FailureError, transient } from "../failure.ts";
import { countMatches } from "../fhir/reads.ts";
import { resultPath } from "../sink/layout.ts";
import { ShardWriter, type ShardWriterOptions } from "../sink/writer.ts";
import { sumByType } from "../totals.ts";
import { blockBytesOf, maxFileBytesOf } from "./page-memory.ts";
import { countShard, isWindowed } from "./read/searches.ts";
import { readShard } from "./read/shard.ts";
import { selector } from "./read/verdict.ts";
import { readCohort, readPlan } from "./stored.ts";
import type { CommandResult, Work } from "./work.ts";

/** Runs the shards of one package. Done when every shard has its result in storage. */
export async function exportPackage(work: Work): Promise<CommandResult> {
  const { task, store, index } = work;
  const plan = await readPlan(store, task.uid);
  if (!plan) throw transient("Internal", "there is no plan.json yet");
  const wanted = new Set(plan.packages[index] ?? []);
  return exportShards(
    work,
    plan,
    plan.shards.filter(({ id }) => wanted.has(id)),
  );
}

/** Runs shards over as many chains as the share of the source, and the memory, allow: the largest first, so that none is alone at the end. */
export async function exportShards(work: Work, plan: Plan, shards: readonly Shard[]): Promise<CommandResult> {
  const size = ({ expected = Number.POSITIVE_INFINITY }: Shard) => expected;
  const cohort = await readCohort(work);
  const stop = new AbortController();
  const signal = AbortSignal.any([work.signal, stop.signal]);
  const results: ShardResult[] = [];
  const queue = shards.toSorted((a, b) => (size(a) === size(b) ? 0 : size(b) - size(a))).values();
  const chain = async () => {
    for (const shard of queue) {
      signal.throwIfAborted();
      results.push(await exportShard({ ...work, signal }, plan, shard, cohort));
    }
  };
  const chains = Array.from({ length: Math.min(work.memory().chains, shards.length) }, () =>
    chain().catch((error) => {
      stop.abort();
      throw error;
    }),
  );
  const ends = await Promise.allSettled(chains);
  const failed = ends.filter((end) => end.status === "rejected").map((end) => end.reason as unknown);
  // the others failed because the first one stopped them
  if (failed.length > 0) throw failed.find((error) => error instanceof FailureError) ?? failed[0];
  return sumByType(results.map((result) => ({ type: result.type, ...countsOf(result) })));
}

const countsOf = ({ files, resources, errors }: ShardResult) => ({
  files: files.length,
  resources,
  bytes: files.reduce((sum, file) => sum + file.bytes, 0),
  errors,
});

/** How a shard of this export is written. */
export function writerOptions({ task, store, memory }: Work, shard: Shard): ShardWriterOptions {
  return {
    store,
    slabs: memory().slabs,
    uid: task.uid,
    shard,
    gzip: task.export.gzip,
    maxFileBytes: maxFileBytesOf(task),
    blockBytes: blockBytesOf(task),
    nonce: () => randomBytes(4).toString("hex"),
    now: () => performance.now(),
  };
}

/** Reads one shard to its end, from where an earlier worker stopped. */
async function exportShard(work: Work, plan: Plan, shard: Shard, cohort: Cohort | undefined): Promise<ShardResult> {
  const { store, board } = work;
  const done = await store.read(resultPath(shard.id));
  if (done) {
    const result = JSON.parse(done.bytes.toString()) as ShardResult;
    board.set(shard.id, shard.type, countsOf(result));
    return result;
  }
  const writer = await ShardWriter.open(writerOptions(work, shard));
  try {
    const result = await writeShard(work, plan, shard, cohort, writer);
    board.set(shard.id, shard.type, countsOf(result));
    return result;
  } finally {
    writer.close();
  }
}

async function writeShard(
  work: Work,
  plan: Plan,
  shard: Shard,
  cohort: Cohort | undefined,
  writer: ShardWriter,
): Promise<ShardResult> {
  const select = selector(work, plan, shard, cohort);
  let { short, outside, around } = await readShard(work, plan, shard, cohort, writer, select);
  // a page that lied may not do so again
  if (writer.errors > 0 && !around) {
    await writer.restart();
    ({ short, outside, around } = await readShard(work, plan, shard, cohort, writer, select));
  }
  // what is found by two of its searches is counted twice
  const counted = plan.source.counts && !shard.members;
  const missing = counted ? await countMissing(work, plan, shard, writer.seen, outside) : short;
  if (missing > 0) {
    work.log.warn(
      { shard: shard.id, missing },
      "the source counts more resources than it has shown; reading the shard again",
    );
    writer.rewind();
    ({ short } = await readShard(work, plan, shard, cohort, writer, select));
  }
  return writer.finish(
    !counted && short > 0
      ? [
          `The source's Bundle.total of ${shard.type} counts ${short} resources more than its pages show; some may be missing.`,
        ]
      : [],
  );
}

/** How many resources the source counts in the shard's window beyond those it has shown; without a window of all that its searches find. Fewer is no sign
 *  of a fault: what was updated since has left the window. More may be an estimate, so it is no more than a reason to look again. */
async function countMissing(
  { source }: Work,
  plan: Plan,
  shard: Shard,
  seen: number,
  outside: number,
): Promise<number> {
  if (seen === shard.expected) return 0;
  const { type, filters = [], expected } = shard;
  if (expected !== undefined || isWindowed(plan, shard) || filters.length > 1)
    return ((await countShard(source, plan, shard, undefined)) ?? seen) - seen;
  return ((await countMatches(source, { type, filter: filters[0] })) ?? 0) - seen - outside;
}
