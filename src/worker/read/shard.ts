import type { SearchEvidence } from "../../evidence.ts";
import { countIn, withCount } from "../../fhir/page-size.ts";
import { exportEnd } from "../run.ts";
import { readAround, refusedSearch, tellSearchLoss } from "./bisect.ts";
import { SearchLedger } from "./ledger.ts";
import { nextReading } from "./next-reading.ts";
import { PageReader } from "./pages.ts";
import { type OpenRead, readInParts, reversed } from "./parts.ts";
import { isShown, type OpenShardRead, readSearch, type SearchEnd, type SearchStart, type ShardRead } from "./search.ts";
import { countSearches, shardSearches, windowOf } from "./searches.ts";

/** How often a shard is read from its start, after a next link that the source forgot, without showing more than
 *  before. */
const maxExpired = 5;

/** How the reading of a shard ended. */
export interface ShardEnd {
  /** of each search of the shard, in their order */
  evidence: SearchEvidence[];
  /** Some pages could not be read. What could be read otherwise is written, and the rest is told. */
  bisected: boolean;
  /** The source has always forgotten a next link before it could be followed. */
  cutOff?: true;
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
      if (tries === maxExpired) return { evidence: [], bisected: false, cutOff: true };
      // A caller that knows what was shown has written other things, too: they must stay.
      const errors = hooks.known ? 0 : writer.errors;
      if (nextReading({ expired: true, errors }) === "anew") await writer.restart();
      else writer.rewind();
    }
  } finally {
    await reader.close();
  }
}

/** @returns undefined when the source does not know a next link any more */
async function readSearches(read: OpenRead): Promise<ShardEnd | undefined> {
  const { writer, hooks, only, how } = read;
  const { page, search } = writer.position;
  const evidence = writer.evidence.slice(0, search);
  const begun = writer.evidence[search];
  const ended: ShardEnd = { evidence, bisected: false };
  const searches = shardSearches(read, read.shard);
  // A caller that knows what was shown keeps it away from the shard's writer.
  const hasOwnSets = searches.length > 1 || hooks.known !== undefined;
  for (const [index, url] of searches.entries()) {
    if (index < search || (only !== undefined && index !== only)) continue;
    if (how === "inParts") {
      evidence[index] = await readInParts(read, index);
      continue;
    }
    const first = how === "backwards" ? reversed(url) : url;
    writer.beginSearch(index);
    const isBegun = index === search && page !== undefined;
    const ledger = new SearchLedger(hasOwnSets, isBegun ? begun : undefined);
    const end = await readInSomeOrder({ ...read, ledger }, index, { first, from: isBegun ? page : first });
    const isRead = await settleEnd({ ...read, ledger }, index, end, ended);
    if (!isRead) return undefined;
    evidence[index] = end.end === "done" ? end.evidence : ledger.end(writer.shown);
    writer.endSearch(index, evidence[index]);
    ledger.close();
  }
  return ended;
}

/** Deals with a search that has not come to its end.
 *  @param ended notes whether pages could not be read
 *  @returns false when the source has forgotten a next link, so that the shard is to be read again */
async function settleEnd(read: OpenShardRead, index: number, end: WholeEnd, ended: ShardEnd): Promise<boolean> {
  if (end.end === "done") return true;
  if (end.end === "refused") {
    tellSearchLoss(read, refusedSearch(end.status));
    return true;
  }
  // Some servers name one more link than they have pages.
  if (await isCountShown(read, index, end.shown)) return true;
  if (end.end === "expired") {
    read.work.log.warn(
      { shard: read.shard.id },
      "the source does not know a next link any more; reading the shard again",
    );
    return false;
  }
  ended.bisected ||= end.failure.isOfOnePage;
  await readAround(read, index, end.failure);
  return true;
}

/** Whether a search has shown as much as the source counts in it now. */
async function isCountShown(read: OpenRead, index: number, shown: number): Promise<boolean> {
  if (shown === 0) return false;
  return isShown(shown, (await countSearches(read, read.shard, (at) => at === index))[index]);
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
