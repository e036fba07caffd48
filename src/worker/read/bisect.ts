import { terminal } from "../../failure.ts";
import { readCapabilities } from "../../fhir/reads.ts";
import type { PageFailure } from "../../fhir/retries.ts";
import { outcomeLine } from "../operation-outcome.ts";
import { type OpenShardRead, readSearch, type SearchEnd } from "./search.ts";
import { countShard, isWindowed, shardSearches } from "./searches.ts";

/** How often a page is tried: in a window that can be halved, and in one of a single millisecond. */
const [tries, lastTries] = [1, 4];

/** Reads around a page that cannot be read; without it, its next link is not known either.
 *  1. Is it the page? If the source does not answer `/metadata`, the source is waited for.
 *  2. The window of the search is halved until the fault is alone in one millisecond. All other parts are read.
 *  3. That millisecond, which a transaction may have given to many resources, is read one resource at a time, from both
 *     ends if the source keeps an order.
 *  4. What is left is told as an OperationOutcome (onResourceError: Record), or ends the export.
 *  Where the windows of the type do not hold all of it, halves could hide more than the page: all behind it is told.
 *  @param search index of the shard's search
 *  @throws terminal SourceInconsistent (onResourceError: Fail); waiting when the source does not answer at all */
export async function readAround(read: OpenShardRead, search: number, failure: PageFailure): Promise<void> {
  const { work, plan, shard, writer } = read;
  await readCapabilities(work.source, work.task.source.retrySeconds);
  work.log.warn({ shard: shard.id, failure: failure.message }, "a page cannot be read; reading around it");
  writer.leaveThePages();
  const isCounted = shard.expected !== undefined;
  // A type whose windows add up to its count has all of it in halves, too, even if it is read without them.
  if (!isWindowed(plan, shard) && !isCounted)
    return tellLoss(read, failure, { resources: 1, which: `A page of ${shard.type} and those behind it` });
  const from = shard.from === undefined ? 0 : Date.parse(shard.from);
  await readHalves(read, search, [from, Date.parse(shard.till)]);
}

/** @param window [from, till) in milliseconds */
async function readHalves(read: OpenShardRead, search: number, [from, till]: [number, number]): Promise<void> {
  const { plan, shard } = read;
  const instant = (ms: number) => new Date(ms).toISOString();
  const { from: _, windows: __, ...rest } = shard;
  const part = { ...rest, till: instant(till), ...(from > 0 && { from: instant(from) }) };
  const partRead = { ...read, shard: part };
  const whole = await readPart(partRead, search, { tries });
  if (whole.end === "done") return;
  if (till - from > 1) {
    const middle = from + Math.floor((till - from) / 2);
    await readHalves(read, search, [from, middle]);
    return readHalves(read, search, [middle, till]);
  }
  const oneByOne = { ...partRead, plan: { ...plan, source: { ...plan.source, count: 1 } } };
  const up = await readPart(oneByOne, search, { tries: lastTries });
  if (up.end === "done") return;
  const down = plan.source.sort
    ? await readPart(oneByOne, search, { tries: lastTries, backwards: true })
    : { shown: 0 };
  const count = await countShard(read, part);
  tellLoss(partRead, up.failure, {
    resources: Math.max(1, (count ?? 0) - up.shown - down.shown),
    which: `A page of ${part.type}`,
  });
}

/** @param how `backwards`: from the last resource of the search to its first */
async function readPart(
  read: OpenShardRead,
  search: number,
  { tries, backwards = false }: { tries: number; backwards?: boolean },
): Promise<Exclude<SearchEnd, { end: "expired" }>> {
  const url = shardSearches(read, read.shard)[search]!;
  const first = backwards ? url.replace("_sort=_lastUpdated,_id", "_sort=-_lastUpdated,-_id") : url;
  for (;;) {
    const end = await readSearch(read, { first, from: first, tries });
    // A search that the source has forgotten is asked for from its start; what it has shown is known.
    if (end.end !== "expired") return end;
  }
}

/** @param loss how many resources it stands for at least, and which answers they are on */
function tellLoss(
  { work, shard: { from, till }, writer }: OpenShardRead,
  failure: PageFailure,
  { resources, which }: { resources: number; which: string },
): void {
  const text = `${which} from ${from ?? "the beginning"} till ${till} cannot be read: ${failure.message}.`;
  if (work.task.export.onResourceError === "Fail")
    throw terminal("SourceInconsistent", `${text} (onResourceError: Fail)`);
  writer.error(outcomeLine("error", "exception", text), resources);
}
