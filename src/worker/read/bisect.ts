import { terminal, waiting } from "../../failure.ts";
import { PageFailure } from "../../fhir/retries.ts";
import { outcomeLine } from "../operation-outcome.ts";
import type { SearchLedger } from "./ledger.ts";
import { readOnePart, shardPart } from "./parts.ts";
import type { OpenShardRead, SearchEnd, ShardRead } from "./search.ts";
import { countSearches, isWindowed } from "./searches.ts";

/** How often a page is tried: where it will be asked for again, and for the last time. */
const [tries, lastTries] = [1, 4];
/** After so many milliseconds that cannot be read, with nothing readable between them, what fails is halved no more: it
 *  is not a resource, it is all of the search. */
const maxDry = 20;

/** Reads around a page that cannot be read; without it, its next link is not known either.
 *  1. The failure is the page's own: the source has answered others of the type (SourceClient.get).
 *  2. The window of the search is halved until the fault is alone in one millisecond. All other parts are read.
 *  3. That millisecond, which a transaction may have given to many resources, is read one resource at a time, from both
 *     ends if the source keeps an order.
 *  4. What cannot be read is asked for once more when all else is read: the source may have been ill for a while.
 *  5. What is left is told as an OperationOutcome (onResourceError: Record), or ends the export.
 *  Where the windows of the type do not hold all of it, halves could hide more than the page: all behind it is told.
 *  @param search index of the shard's search
 *  @throws terminal SourceInconsistent (onResourceError: Fail); waiting when the source does not answer at all */
export async function readAround(read: OpenShardRead, search: number, failure: PageFailure): Promise<void> {
  const { work, plan, shard, writer } = read;
  if (!failure.isOfOnePage) return tellSearchLoss(read, failure);
  work.log.warn({ shard: shard.id, failure: failure.message }, "a page cannot be read; reading around it");
  writer.leaveThePages();
  const isCounted = shard.expected !== undefined;
  // A type whose windows add up to its count has all of it in halves, too, even if it is read without them.
  if (!isWindowed(plan, shard) && !isCounted) return readBehind(read, search, failure);
  const from = shard.from === undefined ? 0 : Date.parse(shard.from);
  const halving: Halving = { read, search, lost: [], dry: 0 };
  await readHalves(halving, [from, Date.parse(shard.till)]);
  for (const part of halving.lost) {
    const left = await readOneByOne(part, search, lastTries);
    if (left) tellLoss(part, left.failure, { resources: left.resources, which: `A page of ${shard.type}` });
  }
}

/** Without windows the search is read from its start once more before all behind the page is told. */
async function readBehind(read: OpenShardRead, search: number, failure: PageFailure): Promise<void> {
  const again = await readPart(read, search, { tries: lastTries });
  if (again.end === "stuck")
    tellLoss(read, failure, { resources: 1, which: `A page of ${read.shard.type} and those behind it` });
}

/** A search that is read around a page. */
interface Halving {
  read: OpenShardRead;
  search: number;
  /** the parts that cannot be read: milliseconds, as a rule */
  lost: OpenShardRead[];
  /** how many of them were met since a part has shown something */
  dry: number;
}

/** @param window [from, till) in milliseconds */
async function readHalves(halving: Halving, [from, till]: [number, number]): Promise<void> {
  const { read, search, lost } = halving;
  const part = shardPart(read, [from, till]);
  const whole = await readPart(part, search, { tries });
  if (whole.shown > 0) halving.dry = 0;
  if (whole.end === "done") return;
  if (till - from > 1 && halving.dry < maxDry) {
    const middle = from + Math.floor((till - from) / 2);
    await readHalves(halving, [from, middle]);
    return readHalves(halving, [middle, till]);
  }
  if (!(await readOneByOne(part, search, tries))) return;
  lost.push(part);
  halving.dry++;
}

/** Reads the part one resource at a time, from both ends if the source keeps an order.
 *  @returns what is left; undefined: nothing */
async function readOneByOne(
  read: OpenShardRead,
  search: number,
  tries: number,
): Promise<{ failure: PageFailure; resources: number } | undefined> {
  const { plan, shard } = read;
  const oneByOne = { ...read, plan: { ...plan, source: { ...plan.source, count: 1 } } };
  const up = await readPart(oneByOne, search, { tries });
  if (up.end === "done") return undefined;
  const down = plan.source.sort ? await readPart(oneByOne, search, { tries, backwards: true }) : { shown: 0 };
  const count = (await countSearches(read, shard, (index) => index === search))[search];
  return { failure: up.failure, resources: Math.max(1, (count ?? 0) - up.shown - down.shown) };
}

/** Reads a part, again and again from its start as long as the source forgets its next links: what it has shown is
 *  known. */
async function readPart(
  read: OpenShardRead,
  search: number,
  how: { tries: number; backwards?: boolean },
): Promise<Exclude<SearchEnd, { end: "expired" | "refused" | "tooMuch" }>> {
  for (;;) {
    const end = await readOnePart(read, search, how);
    if (end.end === "refused") return { end: "stuck", failure: refusedSearch(end.status), shown: 0 };
    if (end.end !== "expired" && end.end !== "tooMuch") return end;
  }
}

export const refusedSearch = (status: number) =>
  new PageFailure(waiting("SourceInconsistent", `the source refuses the search (${status})`), status);

/** A reading that reports what is lost; with the ledger of the search where one is being read. */
type Reporting = ShardRead & { ledger?: SearchLedger };

/** Tells of what a search has not shown, and will not show.
 *  @throws terminal SourceInconsistent (onResourceError: Fail) */
export function tellSearchLoss(read: Reporting, failure: PageFailure): void {
  const { type, expected = 1 } = read.shard;
  const resources = Math.max(1, expected - read.writer.seen);
  tellLoss(read, failure, { resources, which: `A search of ${type}` });
}

/** @param loss how many resources it stands for at least, and which answers they are on */
function tellLoss(
  { work, shard: { from, till }, writer, ledger }: Reporting,
  failure: PageFailure,
  { resources, which }: { resources: number; which: string },
): void {
  const text = `${which} from ${from ?? "the beginning"} till ${till} cannot be read: ${failure.message}.`;
  if (work.task.export.onResourceError === "Fail")
    throw terminal("SourceInconsistent", `${text} (onResourceError: Fail)`);
  ledger?.fault(resources);
  writer.error(outcomeLine("error", "exception", text), resources);
}
