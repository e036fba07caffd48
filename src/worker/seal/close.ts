import type { Shard, ShardResult } from "../../contracts.ts";
import { eachFingerprint } from "../../sink/fingerprints.ts";
import { shardId } from "../../sink/layout.ts";
import { ShardWriter } from "../../sink/writer.ts";
import { eachParallel } from "../parallel.ts";
import { isProven, nextReading, type ReadingEvidence } from "../read/next-reading.ts";
import { countShard } from "../read/searches.ts";
import { writerOptions } from "../read/writer-options.ts";
import type { ExportRun } from "../run.ts";
import { readResult } from "../stored.ts";
import { openDoubts } from "./doubts.ts";
import { writeForeign } from "./foreign.ts";
import { type OtherRows, readOnceMore } from "./reread.ts";
import { writeTail } from "./tail.ts";
import { type LateWrites, type Tail, TailWatch } from "./touched.ts";
import { beginClosing, knownOf, type ShardClosing, type TypeClosing } from "./type-closing.ts";

// Closing a type: proving that all its shards together have every resource as of transactionTime, also where the source
// was written to while they were read. D is the millisecond behind transactionTime.
//
// With paging by offset, an update takes a row out of its window, all rows behind it move up by one, and the next page
// skips a stranger. So when the shards have run, their windows are counted and compared (closeShards):
//
// 1. Count each shard that is not proven yet.
// 2. Then look at the tail: what was written to at D or later. The order matters. A resource that this look does not
//    show was still in its window when the window was counted.
// 3. Decide which shards are open (read/next-reading.ts). Of the resources that are known of a shard, at most those
//    that were touched since D, or written in the minute before D with a stamp of another window, have left it. If the
//    count is not above the others, nothing is missing. Where nothing is counted, readings must agree: two that show
//    nothing new where something was touched, one where a deletion would not be seen, none where the history shows that
//    nothing was written. A shard that has met foreign rows is open in the first round, to collect them.
// 4. Nothing is open: continue with 7. Give up after `quietRounds` rounds without new writes, or `busyRounds` at all:
//    what is open then is told as a doubt.
// 5. Count each open shard again and read it again (reread.ts). Resources that no reading has shown before are written
//    to the shard `{Type}-0000`. A reading that shows as many resources as were counted right before it proves its
//    shard.
// 6. Repeat from 1.
// 7. Write the foreign rows that no shard has written (foreign.ts).
// 8. Write what was touched since D, and no shard has, as it was right before D (tail.ts). What cannot be obtained is
//    told as a doubt.

/** A source that stands still, and yet counts what it does not show after this many rounds, will not show it. */
const quietRounds = 8;
/** While the source is written to, a round succeeds if no row leaves between a count and its reading. That is luck, so
 *  more rounds are worth it. */
const busyRounds = 40;

/** Closes a type.
 *  @returns the result of the shard `{Type}-0000`, with what was missing and the doubts that remain */
export async function closeType(
  run: ExportRun,
  type: string,
  results: ReadonlyMap<string, ShardResult>,
): Promise<ShardResult> {
  const { store, task } = run.work;
  const shards = run.plan.shards.filter((shard) => shard.type === type);
  const whole = wholeOf(shards);
  const done = await readResult(store, task.uid, whole.id);
  if (done) return done;
  const writer = await ShardWriter.open(writerOptions(run.work, whole));
  try {
    // What an earlier seal has written is little, and other resources are touched by now: it is made anew.
    await writer.restart();
    const closing: TypeClosing = {
      ...run,
      type,
      whole,
      writer,
      shards: shards.map((shard) => beginClosing(shard, results.get(shard.id)!)),
    };
    const { open, tail, late } = await closeShards(closing);
    const doubts = [...openDoubts(open), ...(await writeTail(closing, tail, late.recentlyWritten))];
    return await writer.finish(doubts);
  } catch (error) {
    await writer.giveUp().catch(() => {});
    throw error;
  } finally {
    writer.close();
  }
}

/** All shards of a type as one. */
function wholeOf(shards: readonly Shard[]): Shard {
  const [first, last] = [shards[0]!, shards.at(-1)!];
  const { from, expected: _, members: __, ...rest } = first;
  return { ...rest, id: shardId(first.type, 0), till: last.till, ...(from !== undefined && { from }) };
}

/** Steps 1 to 7. @returns the shards that are still open, and the last look at the tail */
async function closeShards(
  closing: TypeClosing,
): Promise<{ open: readonly ShardClosing[]; tail: Tail; late: LateWrites }> {
  const { work, type } = closing;
  const watch = new TailWatch(closing);
  const foreign = new Set<string>();
  let touched = 0;
  let quiet = 0;
  for (let round = 1; ; round++) {
    const counts = await eachParallel(closing.shards, async ({ shard, proven }) =>
      proven ? undefined : countShard(closing, shard),
    );
    const tail = await watch.look();
    const { late } = watch;
    const open = await openShards(closing, { round, counts, tail, late });
    if (tail.touched.size === touched) quiet++;
    touched = tail.touched.size;
    if (open.length === 0 || quiet >= quietRounds || round >= busyRounds) {
      await writeForeign(closing, foreign);
      return { open, tail, late };
    }
    work.log.info({ type, windows: open.length, round }, "the source has moved rows; reading windows again");
    const silences = silencesWanted(tail, late);
    const hooks: OtherRows = { foreign: (print) => void foreign.add(print), outside: watch.noteOutside };
    for (const one of open) await readAndProve(closing, one, silences, hooks);
  }
}

/** What one round has found out. */
interface Round {
  round: number;
  /** of each shard; undefined where it is not counted, or proven */
  counts: readonly (number | undefined)[];
  tail: Tail;
  late: LateWrites;
}

/** Step 3. */
async function openShards(closing: TypeClosing, look: Round): Promise<ShardClosing[]> {
  const { shards } = closing;
  const isOpen = await eachParallel(shards, async (one, index) => {
    const evidence = evidenceOf(one, look.counts[index], look);
    const next = nextReading(evidence);
    if (next !== "unclear") return next !== "none";
    const missing = evidence.missing!.least + (await countGone(closing, one, look));
    return nextReading({ missing: { least: missing, most: missing } }) !== "none";
  });
  return shards.filter((_, index) => isOpen[index]);
}

function evidenceOf(one: ShardClosing, count: number | undefined, { round, tail, late }: Round): ReadingEvidence {
  const { result, proven, silent } = one;
  const unclaimed = result.foreign === true && round === 1;
  if (count === undefined) return { proven, unclaimed, silence: { had: silent, wanted: silencesWanted(tail, late) } };
  const least = count - knownOf(one);
  // A window that is counted empty has nothing to show.
  const most = count > 0 ? least + tail.touched.size + late.mayMove.size : least;
  return { proven, unclaimed, missing: { least, most } };
}

/** How many readings in a row must show nothing new where nothing is counted. A row that leaves makes pages by
 *  offset skip another one. Deletions are seen in histories only. */
const silencesWanted = (tail: Tail, late: LateWrites): number =>
  tail.touched.size + late.mayMove.size > 0 ? 2 : tail.history ? 0 : 1;

/** How many of the known resources of a shard may have left its window: those that were touched, and those that were
 *  written shortly before D with a stamp of another window. */
async function countGone(
  { work }: TypeClosing,
  { shard, result, extra, moved }: ShardClosing,
  { tail: { touched }, late: { mayMove } }: Round,
): Promise<number> {
  const from = shard.from === undefined ? Number.NEGATIVE_INFINITY : Date.parse(shard.from);
  const till = Date.parse(shard.till);
  const isGone = (print: string) => {
    if (touched.has(print)) return true;
    const at = mayMove.get(print);
    return at !== undefined && !(at >= from && at < till);
  };
  let gone = 0;
  for (const print of new Set([...extra, ...moved])) if (isGone(print)) gone++;
  await eachFingerprint(work.store, result.fingerprints, (print) => {
    if (isGone(print)) gone++;
  });
  return gone;
}

/** Step 5, for one shard. */
async function readAndProve(
  closing: TypeClosing,
  one: ShardClosing,
  silences: number,
  hooks: OtherRows,
): Promise<void> {
  const known = one.extra.size;
  // Right before the reading, as any row may leave in between; and an index that lags still counts what was touched.
  const counted = await countShard(closing, one.shard);
  const shown = await readOnceMore(closing, one, hooks);
  one.silent = one.extra.size === known ? one.silent + 1 : 0;
  const silence = { had: one.silent, wanted: silences };
  one.proven = isProven({ counted, shown, byMembers: one.shard.members !== undefined, silence });
}
