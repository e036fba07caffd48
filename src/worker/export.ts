import type { Shard, ShardResult, Totals } from "../contracts.ts";
import { FailureError, transient } from "../failure.ts";
import { countMatches } from "../fhir/reads.ts";
import { ShardWriter } from "../sink/writer.ts";
import { sumByType } from "../totals.ts";
import { outcomeLine } from "./operation-outcome.ts";
import { nextReading } from "./read/next-reading.ts";
import type { ShardRead } from "./read/search.ts";
import { countShard, isWindowed } from "./read/searches.ts";
import { readShard, type ShardEnd } from "./read/shard.ts";
import { rowSelector } from "./read/verdict.ts";
import { writerOptions } from "./read/writer-options.ts";
import { type ExportRun, openRun } from "./run.ts";
import { readPlan, readResult } from "./stored.ts";
import type { CommandResult, Work } from "./work.ts";

/** The command `export`: runs the shards of one package. It is done when every shard has its result in storage.
 *  @throws transient Internal while there is no plan */
export async function exportPackage(work: Work): Promise<CommandResult> {
  const { task, store, index } = work;
  const plan = await readPlan(store, task.uid);
  if (!plan) throw transient("Internal", "there is no plan.json yet");
  const wanted = new Set(plan.packages[index] ?? []);
  return exportShards(
    await openRun(work, plan),
    plan.shards.filter(({ id }) => wanted.has(id)),
  );
}

/** Runs shards over as many chains as the share of the source, and the memory, allow. The largest shards go first, so
 *  that none is alone at the end. */
export async function exportShards(run: ExportRun, shards: readonly Shard[]): Promise<CommandResult> {
  const { work } = run;
  const size = ({ expected = Number.POSITIVE_INFINITY }: Shard) => expected;
  const stop = new AbortController();
  const signal = AbortSignal.any([work.signal, stop.signal]);
  const chainRun: ExportRun = { ...run, work: { ...work, signal } };
  const results: ShardResult[] = [];
  const queue = shards.toSorted((a, b) => (size(a) === size(b) ? 0 : size(b) - size(a))).values();
  const runChain = async () => {
    for (const shard of queue) {
      signal.throwIfAborted();
      results.push(await exportShard(chainRun, shard));
    }
  };
  const chains = Array.from({ length: Math.min(work.memory().chains, shards.length) }, () =>
    runChain().catch((error) => {
      stop.abort();
      throw error;
    }),
  );
  const ends = await Promise.allSettled(chains);
  const failed = ends.filter((end) => end.status === "rejected").map((end) => end.reason as unknown);
  // The other chains failed because the first one stopped them.
  if (failed.length > 0) throw failed.find((error) => error instanceof FailureError) ?? failed[0];
  return sumByType(results.map((result) => ({ type: result.type, ...totalsOf(result) })));
}

const totalsOf = ({ files, resources, errors }: ShardResult): Totals => ({
  files: files.length,
  resources,
  bytes: files.reduce((sum, file) => sum + file.bytes, 0),
  errors,
});

/** Reads one shard to its end, from where an earlier worker stopped, unless its result is in storage. */
async function exportShard(run: ExportRun, shard: Shard): Promise<ShardResult> {
  const { store, board, task } = run.work;
  const done = await readResult(store, task.uid, shard.id);
  if (done) {
    board.set(shard.id, shard.type, totalsOf(done));
    return done;
  }
  const writer = await ShardWriter.open(writerOptions(run.work, shard));
  try {
    const read: ShardRead = { ...run, shard, writer, select: rowSelector(run, shard), hooks: {} };
    const result = await (shard.refused === undefined ? writeShard(read) : tellRefusedType(read, shard.refused));
    board.set(shard.id, shard.type, totalsOf(result));
    return result;
  } catch (error) {
    await writer.giveUp().catch(() => {});
    throw error;
  } finally {
    writer.close();
  }
}

/** Tells of a type that the source refused when the export was planned. */
function tellRefusedType({ shard: { type }, writer }: ShardRead, status: number): Promise<ShardResult> {
  const text = `No resource of ${type} is exported: the source refuses all searches of it (${status || "no whole answer"}).`;
  writer.error(outcomeLine("error", status === 401 || status === 403 ? "forbidden" : "not-supported", text));
  return writer.finish([]);
}

/** Reads a shard, and again for each of the two reasons for which nextReading asks, once each: what stays after that is
 *  told. The seal looks at all shards of the type again when they are there. */
async function writeShard(read: ShardRead): Promise<ShardResult> {
  const { work, plan, shard, writer } = read;
  let end = await readShard(read);
  // The errors of a shard that was bisected are final: each page of it was tried several times.
  if (nextReading({ errors: end.bisected ? 0 : writer.errors }) === "anew") {
    await writer.restart();
    end = await readShard(read);
  }
  // Several searches of members may find one resource, and each of them counts it.
  const isCounted = plan.source.counts && !shard.members;
  const missing = isCounted ? await countMissing(read, end) : end.short;
  if (nextReading({ missing: { least: missing, most: missing } }) === "onward") {
    work.log.warn(
      { shard: shard.id, missing },
      "the source counts more resources than it has shown; reading the shard again",
    );
    writer.rewind();
    end = await readShard(read);
  }
  return writer.finish(
    !isCounted && end.short > 0
      ? [
          `The source's Bundle.total of ${shard.type} counts ${end.short} resources more than its pages show; some may be missing.`,
        ]
      : [],
  );
}

/** How many resources the source counts in the shard's window beyond those that it has shown; for a shard without a
 *  window, beyond all that its searches have shown. A count that is too small is no sign of a fault, as a resource
 *  that was updated has left the window. One that is too large may be an estimate, so it is only a reason to read
 *  again. */
async function countMissing(read: ShardRead, { outside }: ShardEnd): Promise<number> {
  const { work, plan, shard, writer } = read;
  const { type, filters = [], expected } = shard;
  const { seen } = writer;
  if (seen === expected) return 0;
  if (expected !== undefined || isWindowed(plan, shard) || filters.length > 1)
    return ((await countShard(read, shard)) ?? seen) - seen;
  return ((await countMatches(work.source, { type, filter: filters[0] })) ?? 0) - seen - outside;
}
