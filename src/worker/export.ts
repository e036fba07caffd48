import type { Shard, ShardResult, Totals } from "../contracts.ts";
import { FailureError, transient } from "../failure.ts";
import { ShardWriter } from "../sink/writer.ts";
import { sumByType } from "../totals.ts";
import { outcomeLine } from "./operation-outcome.ts";
import type { ShardRead } from "./read/search.ts";
import { rowSelector } from "./read/verdict.ts";
import { readUntilWhole } from "./read/whole.ts";
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
    const evidence = shard.refused === undefined ? await readUntilWhole(read) : tellRefusedType(read, shard.refused);
    const result = await writer.finish({ evidence });
    board.set(shard.id, shard.type, totalsOf(result));
    return result;
  } catch (error) {
    await writer.giveUp().catch(() => {});
    throw error;
  } finally {
    writer.close();
  }
}

/** Reports a type that the source refused when the export was planned. @returns no evidence: it was not read */
function tellRefusedType({ shard: { type }, writer }: ShardRead, status: number): [] {
  const text = `No resource of ${type} is exported: the source refuses all searches of it (${status || "no whole answer"}).`;
  writer.error(outcomeLine("error", status === 401 || status === 403 ? "forbidden" : "not-supported", text));
  return [];
}
