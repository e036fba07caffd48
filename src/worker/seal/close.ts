import type { Shard, ShardResult } from "../../contracts.ts";
import { eachFingerprint } from "../../sink/fingerprints.ts";
import { shardId } from "../../sink/layout.ts";
import { ShardWriter } from "../../sink/writer.ts";
import { eachParallel } from "../parallel.ts";
import { nextReading, type ReadingEvidence } from "../read/next-reading.ts";
import { countSearches, isCountedInWindow } from "../read/searches.ts";
import { writerOptions } from "../read/writer-options.ts";
import type { ExportRun } from "../run.ts";
import { readResult } from "../stored.ts";
import { openDoubts } from "./doubts.ts";
import { writeForeign } from "./foreign.ts";
import { isRefuted, missingOf, type SearchCount } from "./missing.ts";
import { type OtherRows, rereadSearch } from "./reread.ts";
import { howToRead, noteReading } from "./rereading.ts";
import { writeTail } from "./tail.ts";
import { type LateWrites, type Tail, TailWatch } from "./touched.ts";
import {
  beginClosing,
  closedSearches,
  knownOf,
  type SearchClosing,
  type ShardClosing,
  type TypeClosing,
} from "./type-closing.ts";

// Closing a type: proving that all its searches together have shown every resource as of transactionTime, also where
// the source was written to while they were read. D is the millisecond behind transactionTime.
//
// With paging by offset, an update takes a row out of its window, all rows behind it move up by one, and the next page
// skips a stranger. So when the shards have run, their searches are counted and compared (closeShards):
//
// 1. Count each search that is not proven yet.
// 2. Then look at the tail: what was written to at D or later. The order matters. A resource that this look does not
//    show was still in its window when the window was counted.
// 3. Decide which searches are open (missing.ts, read/next-reading.ts). Of the resources that are known, at most those
//    that were touched since D, or written in the minute before D with a stamp of another window, have left. If the
//    count is not above the others, nothing is missing. Where nothing is counted, or counts are too small to be true,
//    readings must agree: one, or two where something was touched. A shard that has met foreign rows is open in the
//    first round, to collect them.
// 4. Nothing is open: continue with 7. Give up after `quietRounds` rounds without new writes, or `busyRounds` at all:
//    what is open then is reported as a doubt.
// 5. Count each open search again and read it again (reread.ts): from its other end where nothing is counted, and in
//    parts of its window where it does not show all that it holds. Resources that no reading has shown before are
//    written to the shard `{Type}-0000`. A reading that shows as many resources as were counted right before it proves
//    its search.
// 6. Repeat from 1.
// 7. Write the foreign rows that no shard has written (foreign.ts).
// 8. Write what was touched since D, and no shard has, as it was right before D (tail.ts). What cannot be obtained is
//    reported as a doubt.

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
    const doubts = [...openDoubts(open), ...(await writeTail(closing, tail, late))];
    return await writer.finish({
      evidence: [],
      ...(doubts.length > 0 && { doubts }),
      closed: closedSearches(closing.shards),
    });
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
  const { from, expected: _, members: __, counts: ___, ...rest } = first;
  return { ...rest, id: shardId(first.type, 0), till: last.till, ...(from !== undefined && { from }) };
}

/** A search that is to be read again. */
interface OpenSearch {
  one: ShardClosing;
  /** of the search in its shard */
  index: number;
}

/** Steps 1 to 7. @returns the shards that are still open, and the last look at the tail */
async function closeShards(
  closing: TypeClosing,
): Promise<{ open: readonly ShardClosing[]; tail: Tail; late: LateWrites }> {
  const { work, type, shards } = closing;
  const watch = new TailWatch(closing);
  const foreign = new Set<string>();
  let touched = 0;
  let quiet = 0;
  for (let round = 1; ; round++) {
    const counts = await eachParallel(shards, ({ shard, searches }) =>
      countSearches(closing, shard, (index) => !searches[index]?.proof && !searches[index]?.refuted),
    );
    const tail = await watch.look();
    const { late } = watch;
    const look: Round = { round, counts, tail, late };
    const open = await openSearches(closing, look);
    if (tail.touched.size === touched) quiet++;
    touched = tail.touched.size;
    const isSpent = quiet > 0 && open.every(({ one, index }) => one.searches[index]!.isSpent);
    if (open.length === 0 || isSpent || quiet >= quietRounds || round >= busyRounds) {
      await writeForeign(closing, foreign);
      return { open: shards.filter((shard) => open.some(({ one }) => one === shard)), tail, late };
    }
    work.log.info({ type, searches: open.length, round }, "searches are not proven to be whole; reading them again");
    const hooks: OtherRows = { foreign: (print) => void foreign.add(print), outside: watch.noteOutside };
    for (const search of open) await readAndProve(closing, search, watch, hooks);
  }
}

/** What one round has found out. */
interface Round {
  round: number;
  /** of each shard, and each of its searches; undefined where it is not counted, or proven */
  counts: readonly (readonly (number | undefined)[])[];
  tail: Tail;
  late: LateWrites;
}

/** Step 3. Notes the proof of each search that is not open. */
async function openSearches(closing: TypeClosing, look: Round): Promise<OpenSearch[]> {
  const open = await eachParallel(closing.shards, async (one, at) => {
    const ofShard: OpenSearch[] = [];
    for (const [index, search] of one.searches.entries()) {
      const count = look.counts[at]![index];
      if (await isOpen(closing, { one, index }, count, look)) ofShard.push({ one, index });
      else if (!search.proof) {
        search.proof = count === undefined || search.refuted ? "agreed" : "counted";
        if (count !== undefined) search.counted = count;
      }
    }
    return ofShard;
  });
  return open.flat();
}

async function isOpen(
  closing: TypeClosing,
  { one, index }: OpenSearch,
  count: number | undefined,
  look: Round,
): Promise<boolean> {
  const search = one.searches[index]!;
  const unclaimed = one.result.foreign === true && look.round === 1;
  const counted = count === undefined ? undefined : countOf(closing, one, count, look);
  if (counted && isRefuted({ ...counted, shown: search.shown })) search.refuted = true;
  const evidence = readingEvidence(search, unclaimed, search.refuted ? undefined : counted, look);
  const next = nextReading(evidence);
  if (next !== "unclear") return next !== "none";
  // Which of the known resources have left is known only where the fingerprints of the shard are those of the search.
  if (counted?.known === undefined || !counted.isInWindow) return true;
  const missing = evidence.missing!.least + (await countGone(closing, one, look));
  return nextReading({ missing: { least: missing, most: missing } }) !== "none";
}

function readingEvidence(
  search: SearchClosing,
  unclaimed: boolean,
  counted: Omit<SearchCount, "shown"> | undefined,
  { tail, late }: Round,
): ReadingEvidence {
  const { proof, shown, silent } = search;
  const rest = { proven: proof !== undefined, unclaimed };
  if (!counted) return { ...rest, silence: { had: silent, wanted: silencesWanted(tail, late) } };
  return { ...rest, missing: missingOf({ ...counted, shown }) };
}

function countOf(
  { plan }: TypeClosing,
  one: ShardClosing,
  count: number,
  { tail, late }: Round,
): Omit<SearchCount, "shown"> {
  const { shard } = one;
  return {
    count,
    isInWindow: isCountedInWindow(plan, shard),
    ...(isOwnSearch(one) && { known: knownOf(one) }),
    touched: tail.touched.size,
    alive: tail.history ? tail.alive : undefined,
    late: late.mayMove.size,
    isFiltered: shard.filters !== undefined,
  };
}

/** Whether a shard has one search, whose resources are its own. */
const isOwnSearch = ({ shard, searches }: ShardClosing): boolean => searches.length === 1 && !shard.members;

/** How many readings in a row must show nothing new where nothing is counted. A row that leaves makes pages by offset
 *  skip another one. */
const silencesWanted = (tail: Tail, late: LateWrites): number => (tail.touched.size + late.mayMove.size > 0 ? 2 : 1);

/** How many of the known resources of a shard may have left its window: those that were touched, and those that were
 *  written shortly before D with a stamp of another window. */
async function countGone(
  { work }: TypeClosing,
  { shard, result, extra, moved }: ShardClosing,
  { tail: { touched }, late: { mayMove } }: Pick<Round, "tail" | "late">,
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

/** Step 5, for one search. */
async function readAndProve(
  closing: TypeClosing,
  { one, index }: OpenSearch,
  watch: TailWatch,
  hooks: OtherRows,
): Promise<void> {
  const { source } = closing.plan;
  const search = one.searches[index]!;
  const extraBefore = one.extra.size;
  const knownBefore = knownOf(one) - one.result.errors;
  // Right before the reading, as any row may leave in between; and an index that lags still counts what was touched.
  const count = (await countSearches(closing, one.shard, (at) => at === index))[index];
  const how = howToRead(search, count, source);
  const { shown, inside, counted } = await rereadSearch(closing, { one, index, ...(how && { how }) }, hooks);
  const isUncounted = count === undefined || search.refuted === true;
  // Behind the reading, as what was written to meanwhile may have left as well.
  const tail = await watch.look();
  const look = { tail, late: watch.late };
  noteReading(search, source, {
    how,
    shown,
    inside,
    least: isUncounted && isOwnSearch(one) ? knownBefore - (await countGone(closing, one, look)) : undefined,
    counted: how === "inParts" ? counted : (count ?? counted),
    foundNew: one.extra.size > extraBefore,
    isInWindow: isCountedInWindow(closing.plan, one.shard),
    silences: silencesWanted(tail, watch.late),
  });
}
