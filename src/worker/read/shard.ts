import type { Cohort, Plan, Shard } from "../../contracts.ts";
import { terminal, waiting } from "../../failure.ts";
import { onceEach } from "../../fhir/links.ts";
import { PageFailure } from "../../fhir/retries.ts";
import type { PageTable } from "../../scan/table.ts";
import { oneLine } from "../../sink/lines.ts";
import type { ShardWriter } from "../../sink/writer.ts";
import { batchRows } from "../page-memory.ts";
import type { Work } from "../work.ts";
import { readAround } from "./bisect.ts";
import { type PageView, Reader } from "./pages.ts";
import { shardSearches, windowOf } from "./searches.ts";
import { endOf, type Select } from "./verdict.ts";

/** times that a shard is read from its start, for an unknown next link, without showing more than before */
const maxExpired = 5;

/** What the resources of a shard go through. */
export interface Way {
  work: Work;
  plan: Plan;
  shard: Shard;
  cohort: Cohort | undefined;
  writer: ShardWriter;
  select: Select;
  asides: Asides;
  reader: Reader;
}

/** What else is known, and told, of resources by their fingerprints. */
export interface Asides {
  /** those that count as shown */
  known?: (print: string) => boolean;
  /** those that another shard writes */
  foreign?: (print: string) => void;
  /** those that are not of the shard's window; they are newer, or older */
  outside?: (print: string, table: PageTable, row: number) => void;
}

/** How reading a shard, or one search of it, ended. */
export interface Read {
  /** how many resources fewer the source has shown than its Bundle.total says */
  short: number;
  /** resources that were shown and are not of the shard's window */
  outside: number;
  /** some pages could not be had; what of them could be had otherwise is written, the rest told */
  around: boolean;
}

/** Follows the pages of the shard's searches and writes what is selected and was not shown before.
 */
export async function readShard(
  work: Work,
  plan: Plan,
  shard: Shard,
  cohort: Cohort | undefined,
  writer: ShardWriter,
  select: Select,
  asides: Asides = {},
): Promise<Read> {
  const end = endOf(plan, work.task);
  const window = windowOf(plan, shard);
  const reader = await Reader.open(work.source, work.memory(), {
    type: shard.type,
    till: window && window.till < end ? window.till : end,
    ...(window?.from !== undefined && { from: window.from }),
    key: plan.key,
    members: select.members,
    base: work.source.base.href,
  });
  const way: Way = { work, plan, shard, cohort, writer, select, asides, reader };
  try {
    for (let [seen, tries] = [-1, 0]; ; ) {
      const read = await readSearches(way);
      if (read) return read;
      tries = writer.seen > seen ? 0 : tries + 1;
      seen = writer.seen;
      if (tries === maxExpired)
        throw waiting(
          "SourceInconsistent",
          `the source knows its next links of ${shard.type} no more before they can be followed`,
        );
      // a next link does not live for ever; the shard does, and what it has shown is known, but for its errors
      if (writer.errors > 0 && !asides.known) await writer.restart();
      else writer.rewind();
    }
  } finally {
    await reader.close();
  }
}

/** @returns undefined when the source does not know a next link any more */
async function readSearches(way: Way): Promise<Read | undefined> {
  const all: Read = { short: 0, outside: 0, around: false };
  const { page, search } = way.writer.position;
  for (const [index, first] of shardSearches(way.plan, way.shard, way.cohort).entries()) {
    if (index < search) continue;
    way.writer.beginSearch(index);
    const from = index === search ? (page ?? first) : first;
    const read = await readSearch(way, first, from);
    if (read.end === "expired") return undefined;
    all.outside += read.outside;
    if (read.end === "stuck") {
      all.around = true;
      await readAround(way, index, read.failure);
      // what was read before a resume was not counted
    } else if (from === first && read.total !== undefined) all.short += Math.max(0, read.total - read.shown);
  }
  return all;
}

export type SearchEnd =
  /** Bundle.total of the first page, and how many resources the pages have shown, those outside of the window included */
  | { end: "done"; total: number | undefined; shown: number; outside: number }
  /** the source does not know a next link any more */
  | { end: "expired" }
  /** a page cannot be had */
  | { end: "stuck"; failure: PageFailure; shown: number; outside: number };

/** Reads one search from the page `from` to its end. @param tries of each page */
export async function readSearch(way: Way, first: string, from: string, tries?: number): Promise<SearchEnd> {
  const { work, shard, writer, select, asides, reader } = way;
  const { source, board, log, signal } = work;
  const follow = onceEach(shard.type);
  let total: number | undefined;
  let [shown, outside] = [0, 0];
  for (let link: string | undefined = from; link !== undefined; ) {
    signal.throwIfAborted();
    follow(link);
    let view: PageView | { status: number };
    try {
      view = await reader.read(link, [400, 404, 410], tries);
    } catch (failure) {
      if (failure instanceof PageFailure) return { end: "stuck", failure, shown, outside };
      throw failure;
    }
    if ("status" in view) {
      if (link === first)
        throw terminal("SourceInconsistent", `the source refuses a search of ${shard.type} (${view.status})`);
      log.warn(
        { shard: shard.id, status: view.status },
        "the source does not know the next link any more; reading the shard again",
      );
      return { end: "expired" };
    }
    if (link === from) ({ total } = view.table);
    writer.begin(link);
    const rows = await writeRows(view, writer, select, asides);
    shown += rows.shown;
    outside += rows.outside;
    const { next }: { next: string | undefined } = view.table;
    link = next === undefined ? undefined : source.resolve(next).href;
    await writer.pageDone(link);
    const { checkpointAt, ...counts } = writer.durable;
    board.set(shard.id, shard.type, counts, checkpointAt);
  }
  return { end: "done", total, shown, outside };
}

/** Judges the rows of a page, from where the writer stands, and writes those that are lines: neighbours together.
 *  @returns how many of them were resources of the search, and how many of those not of the shard's window */
async function writeRows(
  { table, lines, words, prints }: PageView,
  writer: ShardWriter,
  select: Select,
  { known, foreign, outside: aside }: Asides,
): Promise<{ shown: number; outside: number }> {
  const { count } = table;
  let run = writer.position.taken;
  let [shown, outside] = [0, 0];
  const isNew = (at: number) => (known === undefined || !known(printAt(words, at))) && writer.show(words, at);
  for (let from = run; from < count; ) {
    const plain = table.plainRows(from, Math.min(count, from + batchRows));
    const to = Math.max(plain, from + 1);
    table.prints(from, to, prints);
    let row = from;
    // most pages hold nothing but lines that are new
    if (select.plain === undefined && select.cut === undefined && known === undefined) {
      row += writer.showRun(words, prints >> 2, plain - from);
      shown += row - from;
    }
    for (; row < to; row++) {
      const verdict =
        row >= plain ? select.any(table, row) : select.plain === undefined ? "line" : select.plain(table, row);
      const counts = verdict === "line" || verdict === "pass";
      if (verdict === "outside") outside++;
      if (counts || verdict === "outside" || verdict === "foreign") shown++;
      const at = (prints >> 2) + (row - from) * 4;
      const fresh = counts && isNew(at);
      if (fresh && verdict === "line" && select.cut === undefined) continue;
      // what stands before it goes first
      const waits = run < row ? writer.lines(lines, run, row) : undefined;
      if (waits) await waits;
      run = row + 1;
      if (typeof verdict === "object") writer.error(verdict.outcome);
      else if (verdict === "foreign") {
        writer.foreign();
        foreign?.(printAt(words, at));
      } else if (!fresh) {
        if (verdict === "outside") aside?.(printAt(words, at), table, row);
        writer.skip();
      } else if (verdict === "pass") writer.pass();
      else await writer.lines(oneLine(select.cut!(table.resource(row))), 0, 1);
    }
    from = to;
  }
  if (run < count) await writer.lines(lines, run, count);
  return { shown, outside };
}

const printAt = (words: Uint32Array, at: number) =>
  Buffer.from(words.buffer, words.byteOffset + at * 4, 16).toString("latin1");
