import type { Cohort, Plan, Shard, ShardResult } from "../../contracts.ts";
import { eachFingerprint, ShownResources, wordsOf } from "../../sink/fingerprints.ts";
import { resultPath, shardId } from "../../sink/layout.ts";
import { ShardWriter } from "../../sink/writer.ts";
import { writerOptions } from "../export.ts";
import { eachParallel } from "../parallel.ts";
import { countShard } from "../read/searches.ts";
import { type Asides, readShard } from "../read/shard.ts";
import { isWithin, type Select, selector } from "../read/verdict.ts";
import type { Work } from "../work.ts";
import { writeTail } from "./tail.ts";
import { type Late, lateMs, lookAtLate, lookAtTail, type Tail } from "./touched.ts";

/** What is still open after so many looks at a source that stands still is told instead: it counts what it does not show. */
const rounds = 8;
/** While it is written to, a look is good when no row leaves between the count and its showing, which is luck: it is worth more of them. */
const busyRounds = 40;

/** A shard at the closing of its type. */
export interface Window {
  shard: Shard;
  result: ShardResult;
  /** found missing by this closing */
  extra: Set<string>;
  /** shown here now, and exported from another window, as they were before */
  moved: Set<string>;
  /** a reading has shown all that were counted before it; or nothing new, where what is found by several searches is counted as often, or nothing is
   *  counted */
  proven: boolean;
  /** readings in a row that have shown nothing new */
  silent: number;
}

/** Closes the windows of a type and reads its tail (DESIGN section 7): what came out is every resource as of transactionTime, also where the
 *  source was written to meanwhile. What was missing goes into a shard of its own, `{Type}-0000`; what cannot be had is told in its doubts. */
export async function closeType(
  work: Work,
  plan: Plan,
  type: string,
  results: ReadonlyMap<string, ShardResult>,
  cohort: Cohort | undefined,
): Promise<ShardResult> {
  const shards = plan.shards.filter((shard) => shard.type === type);
  const [first, last] = [shards[0]!, shards.at(-1)!];
  const { from: _, till: __, expected: ___, members: ____, ...rest } = first;
  const whole: Shard = {
    ...rest,
    id: shardId(type, 0),
    till: last.till,
    ...(first.from !== undefined && { from: first.from }),
  };
  const done = await work.store.read(resultPath(whole.id));
  if (done) return JSON.parse(done.bytes.toString()) as ShardResult;
  const writer = await ShardWriter.open(writerOptions(work, whole));
  try {
    // it is small, and what was touched is another set by now
    await writer.restart();
    const windows = shards.map(
      (shard): Window => ({
        shard,
        result: results.get(shard.id)!,
        extra: new Set(),
        moved: new Set(),
        proven: false,
        silent: 0,
      }),
    );
    const { open, tail, late } = await closeWindows(work, plan, windows, writer, cohort);
    const doubts = [
      ...open.map(({ shard: { id, expected } }) =>
        expected === undefined
          ? `The source, which does not count the resources of shard ${id}, shows other ones of ${type} each time; some may be missing.`
          : `The source counts more resources of ${type} in the window of shard ${id} than it shows; some may be missing.`,
      ),
      ...(await writeTail(work, plan, whole, windows, tail, late, writer, cohort)),
    ];
    return await writer.finish(doubts);
  } finally {
    writer.close();
  }
}

/** Reads windows again until the source counts no more in any than is known of it and was not touched since; where it does not count, until its
 *  readings agree. @returns those that stay open */
async function closeWindows(
  work: Work,
  plan: Plan,
  windows: Window[],
  writer: ShardWriter,
  cohort: Cohort | undefined,
): Promise<{ open: Window[]; tail: Tail; late: Late["there"] }> {
  const foreign = new Set<string>();
  const newer = newerThan(plan);
  const { type } = windows[0]!.shard;
  let late: Late | undefined;
  let withHistory: boolean | undefined;
  let touched = 0;
  let quiet = 0;
  for (let round = 1; ; round++) {
    const counts = await eachParallel(windows, async ({ shard, proven }) =>
      proven ? 0 : countShard(work.source, plan, shard, cohort),
    );
    // looked at after the counts: what it does not show was in its window when that was counted. So a count that is not above what is known and not
    // touched proves that nothing is missing.
    const first = late ? undefined : await lookAtLate(work, plan, windows[0]!.shard, cohort);
    const tail = first?.tail ?? (await lookAtTail(work, plan, type, withHistory));
    withHistory ??= tail.history;
    late ??= first!.late;
    const { moves, there } = late;
    if (!tail.history && !plan.source.windows) for (const [print, one] of newer.touched) tail.touched.set(print, one);
    // a row that leaves makes pages by offset skip another one. Deletions are seen in histories only.
    const silences = tail.touched.size + moves.size > 0 ? 2 : tail.history ? 0 : 1;
    const isOpen = await eachParallel(windows, async (window, index) => {
      const { result, extra, moved, proven } = window;
      if (proven) return false;
      if (result.foreign && round === 1) return true;
      const count = counts[index];
      if (count === undefined) return window.silent < silences;
      const more = count - (result.seen + extra.size + moved.size);
      // so many may have left it at most
      const most = more + tail.touched.size + moves.size;
      return more > 0 || (most > 0 && count > 0 && more + (await countGone(work, window, tail.touched, moves)) > 0);
    });
    const open = windows.filter((_, index) => isOpen[index]);
    if (tail.touched.size === touched) quiet++;
    touched = tail.touched.size;
    if (open.length === 0 || quiet >= rounds || round >= busyRounds) {
      await writeForeign(work, plan, windows, foreign, writer, cohort);
      return { open, tail, late: there };
    }
    work.log.info({ type, windows: open.length, round }, "the source has moved rows; reading windows again");
    for (const window of open) {
      const { extra } = window;
      const before = extra.size;
      // an index that lags still counts here what was touched; right before the reading, as any row may leave in between
      const count = await countShard(work.source, plan, window.shard, cohort);
      const shown = await readAgain(work, plan, windows, window, writer, cohort, {
        foreign: (print) => void foreign.add(print),
        outside: newer.note,
      });
      window.silent = extra.size === before ? window.silent + 1 : 0;
      window.proven =
        count === undefined
          ? window.silent >= silences
          : shown === count || (!!window.shard.members && window.silent > 0);
    }
  }
}

/** How many of what is known of a window may have left it: what was touched, and what was written shortly before transactionTime to where it is not this window's.
 *  @param moves of lookAtLate */
async function countGone(
  { store }: Work,
  { shard, result, extra, moved }: Window,
  touched: Tail["touched"],
  moves: ReadonlyMap<string, number>,
): Promise<number> {
  const from = shard.from === undefined ? Number.NEGATIVE_INFINITY : Date.parse(shard.from);
  const till = Date.parse(shard.till);
  const isGone = (print: string) => {
    if (touched.has(print)) return true;
    const at = moves.get(print);
    return at !== undefined && !(at >= from && at < till);
  };
  let gone = 0;
  for (const print of new Set([...extra, ...moved])) if (isGone(print)) gone++;
  await eachFingerprint(store, result.fingerprints, (print) => {
    if (isGone(print)) gone++;
  });
  return gone;
}

/** Keeps what readings show that was written to since transactionTime: a source without histories and windows tells of it nowhere else. */
function newerThan({ transactionTime }: Plan): { touched: Tail["touched"]; note: NonNullable<Asides["outside"]> } {
  const touched: Tail["touched"] = new Map();
  const end = Date.parse(transactionTime) + 1;
  return {
    touched,
    note(print, table, row) {
      if (Date.parse(table.lastUpdated(row) ?? "") < end) return;
      const versionId = table.versionId(row);
      touched.set(print, { id: table.id(row), deleted: false, isNew: versionId === "1", versionId });
    },
  };
}

/** Reads a window again and writes what is new of it. @returns how many it has shown */
async function readAgain(
  work: Work,
  plan: Plan,
  windows: readonly Window[],
  window: Window,
  writer: ShardWriter,
  cohort: Cohort | undefined,
  asides: Omit<Asides, "known">,
): Promise<number> {
  const { shard, result, extra, moved } = window;
  const known = new ShownResources(work.store, shard.id);
  await known.restore(result.fingerprints);
  let shown = new ShownResources(work.store, shard.id);
  const isNew = (print: string) => !known.has(print) && !writer.has(print) && !moved.has(print);
  const read = (show: (print: string) => boolean) => {
    writer.rewind();
    shown = new ShownResources(work.store, shard.id);
    return readShard(work, plan, shard, cohort, writer, again(work, plan, shard, cohort), {
      known(print) {
        shown.add(wordsOf(print), 0);
        return show(print);
      },
      ...asides,
    });
  };
  if (Date.parse(shard.till) > Date.parse(plan.transactionTime) - lateMs) {
    // an update that was searchable late: another window has shown what was there before it, and nothing may come out twice
    const fresh = new Set<string>();
    await read((print) => {
      if (isNew(print)) fresh.add(print);
      return true;
    });
    await eachParallel(fresh.size > 0 ? windows : [], ({ result }) =>
      eachFingerprint(work.store, result === window.result ? [] : result.fingerprints, (print) => {
        if (fresh.delete(print)) moved.add(print);
      }),
    );
    if (fresh.size === 0) return shown.count;
  }
  await read((print) => {
    if (!isNew(print)) return true;
    extra.add(print);
    return false;
  });
  return shown.count;
}

/** Of resources that are another shard's, or whose nobody knows, writes those that no shard has: an index that finds a resource by one of its references
 *  only, a reference that only the source understands, a window that shows what is of another. */
async function writeForeign(
  work: Work,
  plan: Plan,
  windows: readonly Window[],
  foreign: Set<string>,
  writer: ShardWriter,
  cohort: Cohort | undefined,
): Promise<void> {
  await eachParallel(foreign.size > 0 ? windows : [], async ({ result, extra }) => {
    for (const print of extra) foreign.delete(print);
    await eachFingerprint(work.store, result.fingerprints, (print) => void foreign.delete(print));
  });
  for (const { shard, result, extra } of foreign.size > 0 ? windows : []) {
    if (!result.foreign) continue;
    // whatever window shows it
    const [{ from }, { till }] = [windows[0]!.shard, windows.at(-1)!.shard];
    const { from: _, ...rest } = shard;
    const wide: Shard = { ...rest, ...(from !== undefined && { from }), till };
    const select = again(work, plan, wide, cohort);
    const take: Select["any"] = (table, row) => {
      const verdict = select.any(table, row);
      if (verdict !== "foreign") return verdict;
      const lastUpdated = table.lastUpdated(row);
      return lastUpdated === undefined || isWithin(wide, lastUpdated) ? "line" : "skip";
    };
    writer.rewind();
    await readShard(
      work,
      plan,
      shard,
      cohort,
      writer,
      { ...select, plain: take, any: take },
      {
        known(print) {
          if (!foreign.has(print) || writer.has(print)) return true;
          extra.add(print);
          return false;
        },
      },
    );
  }
}

/** Of a shard that is read a second time: its errors were told. */
function again(work: Work, plan: Plan, shard: Shard, cohort: Cohort | undefined): Select {
  const select = selector(work, plan, shard, cohort);
  return {
    ...select,
    any(table, row) {
      const verdict = select.any(table, row);
      return typeof verdict === "object" ? "skip" : verdict;
    },
  };
}
