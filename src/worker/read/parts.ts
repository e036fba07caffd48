import type { Shard } from "../../contracts.ts";
import type { SearchEvidence } from "../../evidence.ts";
import { SearchLedger } from "./ledger.ts";
import { type OpenShardRead, readSearch, type SearchEnd } from "./search.ts";
import { countSearches, shardSearches } from "./searches.ts";

/** A reading of which it is not known yet which search it is of. */
export type OpenRead = Omit<OpenShardRead, "ledger">;

/** [from, till) in milliseconds */
type TimeSpan = [from: number, till: number];

/** Reads a search that does not show all that it holds, in halves of its window. Many servers end every search after
 *  some number of resources, whatever it holds: without a next link, or by refusing it.
 *
 *  1. Count the part and read it. It is whole when it shows as many as are counted. Where the source does not count, it
 *     is whole when a reading from its other end shows nothing new; without an order, when its halves show nothing new.
 *  2. Halve a part that is not whole. Only one millisecond is not halved: it is read from both ends, and what is
 *     missing then stays missing.
 *
 *  @param search index of the shard's search
 *  @returns the sum of the parts; `counted` is higher than `shown` where one is not whole */
export async function readInParts(read: OpenRead, search: number): Promise<SearchEvidence> {
  return { ...(await readPartOf(read, search, spanOf(read.shard))), inParts: true };
}

async function readPartOf(read: OpenRead, search: number, span: TimeSpan): Promise<SearchEvidence> {
  const part = shardPart(read, span);
  const counted = (await countSearches(part, part.shard, (index) => index === search))[search];
  if (counted === 0) return { shown: 0, counted };
  const ledger = new SearchLedger(true);
  const end = await readOnePart({ ...part, ledger }, search);
  const isWhole = end.end === "done" && (await isPartWhole({ ...part, ledger }, search, counted));
  const { shown } = ledger.soFar();
  ledger.close();
  if (isWhole) return { shown, ...(counted !== undefined && { counted: shown }) };
  if (isSmallest(span)) return { shown, counted: Math.max(counted ?? 0, shown + 1) };
  const [first, second] = halvesOf(span);
  const [low, high] = [await readPartOf(read, search, first), await readPartOf(read, search, second)];
  const isCounted = low.counted !== undefined || high.counted !== undefined;
  const sum = (low.counted ?? low.shown) + (high.counted ?? high.shown);
  return { shown: low.shown + high.shown, ...(isCounted && { counted: sum }) };
}

/** Whether a part that was read to its end has shown all that it holds. Reads it in other ways where that is needed. */
async function isPartWhole(read: OpenShardRead, search: number, counted: number | undefined): Promise<boolean> {
  const { plan, ledger } = read;
  const { shown } = ledger.soFar();
  const span = spanOf(read.shard);
  // Rows that are reported as errors may be among those that the source counts, or beside them.
  if (counted !== undefined && shown >= counted && shown - ledger.faults <= counted) return true;
  if (counted !== undefined && !isSmallest(span)) return false;
  const others: { shard: Shard; backwards: boolean }[] = plan.source.sort
    ? [{ shard: read.shard, backwards: true }]
    : isSmallest(span)
      ? []
      : halvesOf(span).map((half) => ({ shard: shardPart(read, half).shard, backwards: false }));
  for (const { shard, backwards } of others) {
    const end = await readOnePart({ ...read, shard }, search, { backwards });
    if (end.end !== "done") return false;
  }
  const all = ledger.soFar().shown;
  return counted === undefined ? others.length > 0 && all === shown : all === counted;
}

const spanOf = ({ from, till }: Shard): TimeSpan => [from === undefined ? 0 : Date.parse(from), Date.parse(till)];

const isSmallest = ([from, till]: TimeSpan): boolean => till - from <= 1;

function halvesOf([from, till]: TimeSpan): [TimeSpan, TimeSpan] {
  const middle = from + Math.floor((till - from) / 2);
  return [
    [from, middle],
    [middle, till],
  ];
}

/** The reading of a part of a shard's window. */
export function shardPart<T extends Pick<OpenShardRead, "shard">>(read: T, [from, till]: TimeSpan): T {
  const instant = (ms: number) => new Date(ms).toISOString();
  const { from: _, windows: __, ...rest } = read.shard;
  return { ...read, shard: { ...rest, till: instant(till), ...(from > 0 && { from: instant(from) }) } };
}

/** Reads one search of a part.
 *  @param how `backwards`: from the last resource of the search to its first; `tries`: see SearchStart */
export function readOnePart(
  read: OpenShardRead,
  search: number,
  { backwards = false, tries }: { backwards?: boolean; tries?: number } = {},
): Promise<SearchEnd> {
  const url = shardSearches(read, read.shard)[search]!;
  const first = backwards ? reversed(url) : url;
  return readSearch(read, { first, from: first, ...(tries !== undefined && { tries }) });
}

/** The same search from its last resource to its first. */
export const reversed = (url: string): string => url.replace("_sort=_lastUpdated,_id", "_sort=-_lastUpdated,-_id");
