import { isDeepStrictEqual } from "node:util";
import type { Task } from "../../contracts.ts";
import { terminal } from "../../failure.ts";
import type { SourceClient } from "../../fhir/client.ts";
import { membersOf } from "../../fhir/compartment.ts";
import { cutResource, elementsToAsk, wantedElements } from "../../fhir/elements.ts";
import { countMatches, readPage } from "../../fhir/reads.ts";
import { PageFailure } from "../../fhir/retries.ts";
import { ignoredParameters, type Search, searchURL } from "../../fhir/search.ts";
import type { Entry } from "../../scan/page.ts";
import type { Work } from "../work.ts";

/** how many resources of each type are compared, as cut by the source and as cut here */
const elementsSample = 50;
/** how many resources of a type may show the precision of its time index, and how many of them are searched for */
const [timesSample, timesAsked] = [50, 3];
/** how many resources of two readings are compared by their order */
const sortSample = 100;
/** how often a page is tried before it counts as one that cannot be read */
export const pageTries = 4;
/** before all data */
const longAgo = "1900-01-01T00:00:00.000Z";

/** Checks that the source applies a typeFilter. A server that does not know a parameter answers 400, ignores it, or
 *  finds nothing. Only the first is safe, so the self link must repeat each parameter.
 *  @throws terminal InvalidFilter, naming the filter by its index and type */
export async function checkFilter({ source }: Work, index: number, text: string): Promise<void> {
  const at = text.indexOf("?");
  const [type, filter] = [text.slice(0, at), text.slice(at + 1)];
  const name = `spec.typeFilters[${index}] (${type})`;
  const answer = await readPage(source, searchURL({ type, filter, count: 1 }), [400, 404, 422]);
  if ("status" in answer) throw terminal("InvalidFilter", `${name}: the source refuses this filter (${answer.status})`);
  const ignored = ignoredParameters(filter, answer.page.self).map((parameter) =>
    /^[\w-]{1,40}(:[\w-]{1,40})?$/.test(parameter) ? parameter : "one of its parameters",
  );
  if (ignored.length > 0)
    throw terminal(
      "InvalidFilter",
      `${name}: the source ignores ${ignored.join(", ")}, so the export would hold more than the filter says; remove what the source ignores`,
    );
}

/** What a source can do with windows, which are searches by `_lastUpdated`. */
export interface WindowSupport {
  /** they show what is in them, and nothing else */
  windows: boolean;
  /** `_summary=count` is answered by a number */
  counts: boolean;
  /** windows are kept only where both bounds are whole seconds */
  seconds: boolean;
}

/** Whether the source keeps windows, and counts them. It is asked for a window that must be empty, one that must hold
 *  everything, and one of a single resource's own millisecond.
 *  @throws PageFailure when no type has a page that can be read */
export async function probeWindows({ source }: Work, types: string[]): Promise<WindowSupport> {
  const none: WindowSupport = { windows: false, counts: true, seconds: false };
  let counts = true;
  const probed = await firstAnswer(types, async (type): Promise<WindowSupport | undefined> => {
    const all = await countMatches(source, { type });
    if (all === undefined) counts = false;
    if (!counts || all === 0) return undefined;
    const before = await countMatches(source, { type, till: longAgo });
    // More are fine, as the source may be written to meanwhile. Fewer are not.
    const full = await countMatches(source, { type, from: longAgo });
    if (before !== 0 || full === undefined || full < all!) return none;
    const precision = await precisionOf(source, type, await firstPageEntries(source, { type, count: timesSample }));
    return { windows: precision !== "other", counts: true, seconds: precision === "seconds" };
  });
  if (counts) return probed ?? { ...none, windows: true };
  return { ...(await probeWindowsByPages(source, types)), counts: false };
}

/** The same for a source that does not count. A window before all data must give a page without data. A window of
 *  everything must give data if there are any. */
async function probeWindowsByPages(
  source: SourceClient,
  types: string[],
): Promise<Pick<WindowSupport, "windows" | "seconds">> {
  let precision: TimePrecision | undefined;
  const refuted = await firstAnswer(types, async (type) => {
    const all = await firstPageEntries(source, { type, count: timesSample });
    // a database puts resources without a time first or last, so both ends are looked at
    const oldest = await firstPageEntries(source, { type, count: timesSample, sort: true });
    const before = await firstPageEntries(source, { type, till: longAgo, count: 1 });
    const full = await firstPageEntries(source, { type, from: longAgo, count: 1 });
    const isUndated = [...(all ?? []), ...(oldest ?? [])].some(({ lastUpdated }) => lastUpdated === undefined);
    if (!before || !full || before.length > 0 || isUndated || (full.length === 0 && all?.length !== 0)) return true;
    precision ??= await precisionOf(source, type, all);
    return undefined;
  });
  return { windows: !refuted && precision !== "other", seconds: precision === "seconds" };
}

/** Asks about one type after the other until one gives an answer. A page that cannot be read, because of a resource in
 *  it, gives none.
 *  @throws PageFailure when every type has such a page */
async function firstAnswer<T>(types: string[], ask: (type: string) => Promise<T | undefined>): Promise<T | undefined> {
  let failure: PageFailure | undefined;
  let failed = 0;
  for (const type of types)
    try {
      const answer = await ask(type);
      if (answer !== undefined) return answer;
    } catch (error) {
      if (!(error instanceof PageFailure)) throw error;
      failure = error;
      failed++;
    }
  if (failure && failed === types.length) throw failure;
  return undefined;
}

/** What the source compares the bounds of a window with: `meta.lastUpdated` itself, its whole seconds (an index of
 *  dates is often coarser than what it indexes), or something else. */
type TimePrecision = "exact" | "seconds" | "other";

/** Searches for some resources of the sample by the millisecond and by the second of their `lastUpdated`.
 *  @returns undefined when every resource has whole seconds, which do not show the difference */
async function precisionOf(
  source: SourceClient,
  type: string,
  sample: readonly Entry[] = [],
): Promise<TimePrecision | undefined> {
  const fraction = ({ lastUpdated }: Entry) => (lastUpdated === undefined ? 0 : Date.parse(lastUpdated) % 1000);
  // the largest fractions first: an index that rounds to the nearest second has these in the next second
  const telling = sample.filter((entry) => fraction(entry) > 0).sort((a, b) => fraction(b) - fraction(a));
  if (telling.length === 0) return undefined;
  const within = async (ms: number) => {
    const [from, till] = [new Date(ms).toISOString(), new Date(ms + 1).toISOString()];
    return (await firstPageEntries(source, { type, from, till, count: timesSample })) ?? [];
  };
  let seconds = 0;
  // several, because one may have been updated a moment ago
  const asked = telling.slice(0, timesAsked);
  for (const entry of asked) {
    const at = Date.parse(entry.lastUpdated!);
    if ((await within(at)).some((found) => Date.parse(found.lastUpdated ?? "") === at)) return "exact";
    if ((await within(at - fraction(entry))).some((found) => fraction(found) > 0)) seconds++;
  }
  return seconds > 0 ? "seconds" : "other";
}

/** The resources on a search's first page; undefined where the source refuses the search.
 *  @throws PageFailure */
async function firstPageEntries(source: SourceClient, search: Search): Promise<Entry[] | undefined> {
  const answer = await readPage(source, searchURL(search), [400], pageTries);
  return "page" in answer
    ? answer.page.entries.filter(({ mode, type }) => mode !== "outcome" && type === search.type)
    : undefined;
}

/** Whether the source keeps an order: two sorted readings show the same resources in the same order. Sorting is used
 *  where they do, because it makes the files of two runs equal.
 *  @throws PageFailure when no type has a page that can be read */
export async function probeSort({ source, task }: Work, types: string[]): Promise<boolean> {
  const agree = await firstAnswer(types, async (type) => {
    const search = { type, sort: true, count: Math.min(task.source.count, sortSample) };
    const [first, second] = [await firstPageEntries(source, search), await firstPageEntries(source, search)];
    if (!first || !second) return false;
    const ids = (entries: Entry[]) => entries.map(({ id }) => id).join();
    return first.length > 1 ? ids(first) === ids(second) : undefined;
  });
  return agree ?? true;
}

/** The value of `_elements` to ask the source for. Undefined where the export wants all elements, and where the source
 *  refuses the parameter or leaves out what is wanted. What the source sends beyond it is cut here. */
export async function askElements(task: Task, source: SourceClient, type: string): Promise<string | undefined> {
  const wanted = wantedElements(type, task.export.elements ?? []);
  if (!wanted) return undefined;
  const elements = elementsToAsk(type, wanted, task.export.level === "System" ? [] : membersOf(type));
  const lines = async (search: Search) => {
    const answer = await readPage(source, searchURL({ ...search, count: elementsSample }), [400, 404, 422, 501]);
    if (!("page" in answer)) return undefined;
    const { bytes, page } = answer;
    return new Map(
      page.entries.map(({ id, start, end }) => [id, cutResource(bytes.subarray(start, end), wanted).toString()]),
    );
  };
  const [cut, whole] = [await lines({ type, elements }), await lines({ type })];
  if (!cut || !whole) return undefined;
  for (const [id, line] of whole) if (cut.has(id) && !isSameJSON(cut.get(id)!, line)) return undefined;
  return elements;
}

/** A server that cuts elements may write the members in another order, so texts that differ are compared as values. */
const isSameJSON = (a: string, b: string) => a === b || isDeepStrictEqual(JSON.parse(a), JSON.parse(b));
