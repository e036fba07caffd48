import { waiting } from "../../failure.ts";
import { countIn, withCount } from "../../fhir/page-size.ts";
import { PageFailure } from "../../fhir/retries.ts";
import { exportEnd } from "../run.ts";
import { readAround, refusedSearch, tellSearchLoss } from "./bisect.ts";
import { nextReading } from "./next-reading.ts";
import { PageReader } from "./pages.ts";
import { isShown, type OpenShardRead, readSearch, type SearchEnd, type SearchStart, type ShardRead } from "./search.ts";
import { countShard, shardSearches, windowOf } from "./searches.ts";

/** How often a shard is read from its start, after a next link that the source forgot, without showing more than
 *  before. */
const maxExpired = 5;

/** How the reading of a shard ended. */
export interface ShardEnd {
  /** how many resources fewer the pages have shown than Bundle.total of their searches says */
  short: number;
  /** resources that were shown and are not of the shard's window */
  outside: number;
  /** Some pages could not be read. What could be read otherwise is written, and the rest is told. */
  bisected: boolean;
}

/** Reads a shard: follows the pages of its searches from where the writer stands, and writes what is selected and was
 *  not shown before.
 *  @throws terminal SourceInconsistent (onResourceError: Fail) where a part cannot be had */
export async function readShard(read: ShardRead): Promise<ShardEnd> {
  const { work, plan, shard, writer, select, hooks } = read;
  const end = exportEnd(read);
  const window = windowOf(plan, shard);
  const reader = await PageReader.open(work.source, work.memory(), {
    type: shard.type,
    till: window && window.till < end ? window.till : end,
    ...(window?.from !== undefined && { from: window.from }),
    key: plan.key,
    members: select.members,
    base: work.source.base.href,
  });
  try {
    for (let [seen, tries] = [-1, 0]; ; ) {
      const ended = await readSearches({ ...read, reader });
      if (ended) return ended;
      tries = writer.seen > seen ? 0 : tries + 1;
      seen = writer.seen;
      if (tries === maxExpired) return tellForgotten(read);
      // A caller that knows what was shown has written other things, too: they must stay.
      const errors = hooks.known ? 0 : writer.errors;
      if (nextReading({ expired: true, errors }) === "anew") await writer.restart();
      else writer.rewind();
    }
  } finally {
    await reader.close();
  }
}

/** Tells of a source that forgets its next links again and again at the same place. */
function tellForgotten(read: ShardRead): ShardEnd {
  const { type } = read.shard;
  const why = `the source forgets its next links of ${type} before they can be followed; a smaller paging.count of the FhirSource may help`;
  tellSearchLoss(read, new PageFailure(waiting("SourceInconsistent", why), 410));
  return { short: 0, outside: 0, bisected: false };
}

/** @returns undefined when the source does not know a next link any more */
async function readSearches(read: OpenShardRead): Promise<ShardEnd | undefined> {
  const ended: ShardEnd = { short: 0, outside: 0, bisected: false };
  const { page, search } = read.writer.position;
  for (const [index, first] of shardSearches(read, read.shard).entries()) {
    if (index < search) continue;
    read.writer.beginSearch(index);
    const from = index === search ? (page ?? first) : first;
    const end = await readInSomeOrder(read, index, { first, from });
    // Some servers name one more link than they have pages.
    if ((end.end === "expired" || end.end === "stuck") && (await isCountShown(read, end.shown))) continue;
    if (end.end === "expired") {
      const { work, shard } = read;
      work.log.warn({ shard: shard.id }, "the source does not know a next link any more; reading the shard again");
      return undefined;
    }
    if (end.end === "refused") {
      tellSearchLoss(read, refusedSearch(end.status));
      continue;
    }
    ended.outside += end.outside;
    if (end.end === "stuck") {
      ended.bisected ||= end.failure.isOfOnePage;
      await readAround(read, index, end.failure);
      // What an earlier worker has read of a search was not counted by this one.
    } else if (from === first && end.total !== undefined) ended.short += Math.max(0, end.total - end.shown);
  }
  return ended;
}

/** Whether a search has shown as much as the source counts in it now. */
async function isCountShown(read: OpenShardRead, shown: number): Promise<boolean> {
  if (shown === 0 || shardSearches(read, read.shard).length > 1) return false;
  return isShown(shown, await countShard(read, read.shard));
}

type WholeEnd = Exclude<SearchEnd, { end: "tooMuch" }>;

/** Reads a search, by smaller pages where the source says that a page is too much, or does not make it in time. What
 *  works is remembered for the type. */
async function readInSomeSize(read: OpenShardRead, start: SearchStart): Promise<WholeEnd> {
  const { work, shard } = read;
  const { pageSizes } = work.source;
  const most = pageSizes.get(shard.type);
  const { first } = start;
  let at = start;
  if (most !== undefined && most < (countIn(first) ?? 0)) {
    const less = withCount(first, most);
    at = { first: less, from: start.from === first ? less : start.from };
  }
  for (;;) {
    const end = await readSearch(read, at);
    if (end.end !== "tooMuch") {
      if (end.end === "done" && at.first !== first) pageSizes.set(shard.type, countIn(at.first)!);
      return end;
    }
    const { count } = end.smaller;
    work.log.warn({ shard: shard.id, count }, "a page is too much for the source; asking for smaller ones");
    at = end.smaller;
  }
}

/** Reads a search, without an order where the source refuses the order of this type. */
async function readInSomeOrder(read: OpenShardRead, index: number, start: SearchStart): Promise<WholeEnd> {
  const end = await readInSomeSize(read, start);
  const { source } = read.plan;
  const isRefused = end.end === "refused" || (end.end === "stuck" && !end.failure.isOfOnePage);
  if (!isRefused || !source.sort || start.from !== start.first) return end;
  const unsorted = { ...read, plan: { ...read.plan, source: { ...source, sort: false } } };
  const first = shardSearches(unsorted, read.shard)[index]!;
  const again = await readInSomeSize(unsorted, { first, from: first });
  // A search that is refused in both ways is told by its first answer.
  return again.end === "refused" ? end : again;
}
