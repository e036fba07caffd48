import { terminal } from "../../failure.ts";
import { readCapabilities } from "../../fhir/reads.ts";
import type { PageFailure } from "../../fhir/retries.ts";
import { outcomeLine } from "../operation-outcome.ts";
import { countShard, isWindowed, shardSearches } from "./searches.ts";
import { readSearch, type SearchEnd, type Way } from "./shard.ts";

/** of a page in a window that can be cut further, and of one that cannot */
const [tries, lastTries] = [1, 4];

/** A page of a search cannot be had, so neither can its next link. Halves the search's window until what cannot be had is alone in a millisecond, and
 *  writes the rest; what is left is told as an OperationOutcome (onResourceError: Record), or ends the export.
 *  @throws terminal SourceInconsistent; waiting when the source does not answer at all */
export async function readAround(way: Way, search: number, failure: PageFailure): Promise<void> {
  const { work, plan, shard, writer } = way;
  // or it is not the page
  await readCapabilities(work.source, work.task.source.retrySeconds);
  work.log.warn({ shard: shard.id, failure: failure.message }, "a page cannot be had; reading around it");
  writer.leaveThePages();
  const isCounted = shard.expected !== undefined;
  // windows that hold all of the type hold it in halves, too
  if (!isWindowed(plan, shard) && !isCounted) return tell(way, failure, 1, "and those behind it");
  const from = shard.from === undefined ? 0 : Date.parse(shard.from);
  await halve(way, search, from, Date.parse(shard.till));
}

async function halve(way: Way, search: number, low: number, high: number): Promise<void> {
  const { plan, shard } = way;
  const instant = (ms: number) => new Date(ms).toISOString();
  const { from: _, windows: __, ...rest } = shard;
  const part = { ...rest, till: instant(high), ...(low > 0 && { from: instant(low) }) };
  const at = { ...way, shard: part };
  const alone = high - low <= 1;
  const read = await readWindow(at, search, tries);
  if (read.end === "done") return;
  if (!alone) {
    const middle = low + Math.floor((high - low) / 2);
    await halve(way, search, low, middle);
    return halve(way, search, middle, high);
  }
  // a transaction gives all its resources one millisecond: one by one from both ends
  const single = { ...at, plan: { ...plan, source: { ...plan.source, count: 1 } } };
  const up = await readWindow(single, search, lastTries);
  if (up.end === "done") return;
  const down = plan.source.sort ? await readWindow(single, search, lastTries, true) : { shown: 0 };
  const count = await countShard(way.work.source, plan, part, way.cohort);
  tell(at, up.failure, Math.max(1, (count ?? 0) - up.shown - down.shown), "");
}

/** @param backwards from its last resource to its first */
async function readWindow(
  way: Way,
  search: number,
  times: number,
  backwards = false,
): Promise<Exclude<SearchEnd, { end: "expired" }>> {
  const first = shardSearches(way.plan, way.shard, way.cohort)[search]!;
  const url = backwards ? first.replace("_sort=_lastUpdated,_id", "_sort=-_lastUpdated,-_id") : first;
  for (;;) {
    const read = await readSearch(way, url, url, times);
    // then it is asked from its start; what was shown is known
    if (read.end !== "expired") return read;
  }
}

function tell(
  { work, shard: { type, from, till }, writer }: Way,
  failure: PageFailure,
  resources: number,
  more: string,
): void {
  const what = `A page of ${type}${more && ` ${more}`} from ${from ?? "the beginning"} till ${till} cannot be had: ${failure.message}.`;
  if (work.task.export.onResourceError === "Fail")
    throw terminal("SourceInconsistent", `${what} (onResourceError: Fail)`);
  writer.error(outcomeLine("error", "exception", what), resources);
}
