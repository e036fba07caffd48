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

/** resources of each type that are compared, cut by the source and by us */
const elementsProbe = 50;
/** resources of a type that are looked at for the precision of the time index, and how many of them are asked for */
const [timesSample, timesProbe] = [50, 3];
/** resources whose order is compared */
const sortProbe = 100;
/** of a page, before it is taken for one that cannot be had */
export const tries = 4;
const longAgo = "1900-01-01T00:00:00.000Z";

/** Servers that do not know a parameter answer 400, ignore it, or find nothing: only the first is safe, so the self link must repeat it.
 *  @throws terminal InvalidFilter */
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
    throw terminal("InvalidFilter", `${name}: the source ignores ${ignored.join(", ")}, so the filter would not hold`);
}

/** What holds of a source's searches by `_lastUpdated`. */
export interface Windows {
  /** they show what is in them, and nothing else */
  windows: boolean;
  /** `_summary=count` is answered by a number */
  counts: boolean;
  /** only where both bounds are whole seconds */
  seconds: boolean;
}

/** Are windows kept, and counted? One that must be empty, one that must hold everything, and one for a resource's own millisecond. */
export async function probeWindows({ source }: Work, types: string[]): Promise<Windows> {
  const none: Windows = { windows: false, counts: true, seconds: false };
  let counts = true;
  const probed = await firstAnswer(types, async (type): Promise<Windows | undefined> => {
    const all = await countMatches(source, { type });
    if (all === undefined) counts = false;
    if (!counts || all === 0) return undefined;
    const before = await countMatches(source, { type, till: longAgo });
    // written to meanwhile: more is fine, fewer is not
    const full = await countMatches(source, { type, from: longAgo });
    if (before !== 0 || full === undefined || full < all!) return none;
    const precision = await precisionOf(source, type, await entriesOf(source, { type, count: timesSample }));
    return { windows: precision !== "other", counts: true, seconds: precision === "seconds" };
  });
  return counts ? (probed ?? { ...none, windows: true }) : { ...(await windowsOfPages(source, types)), counts: false };
}

/** Without counts: a window before all data must give a page without data, one that holds everything one with data, where there are any. */
async function windowsOfPages(source: SourceClient, types: string[]): Promise<Pick<Windows, "windows" | "seconds">> {
  let precision: Precision | undefined;
  const refuted = await firstAnswer(types, async (type) => {
    const all = await entriesOf(source, { type, count: timesSample });
    // databases put what has no time first or last
    const oldest = await entriesOf(source, { type, count: timesSample, sort: true });
    const before = await entriesOf(source, { type, till: longAgo, count: 1 });
    const full = await entriesOf(source, { type, from: longAgo, count: 1 });
    const isUndated = [...(all ?? []), ...(oldest ?? [])].some(({ lastUpdated }) => lastUpdated === undefined);
    if (!before || !full || before.length > 0 || isUndated || (full.length === 0 && all?.length !== 0)) return true;
    precision ??= await precisionOf(source, type, all);
    return undefined;
  });
  return { windows: !refuted && precision !== "other", seconds: precision === "seconds" };
}

/** Asks of one type after the other until one tells. A page that cannot be had, for a resource in it, says nothing.
 *  @throws PageFailure when that is so of all */
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

/** What the bounds of a window are compared with: `meta.lastUpdated` as it is, its whole seconds (an index of dates is often coarser than what it
 *  indexes), or something else. undefined: no resource tells. */
type Precision = "exact" | "seconds" | "other";

async function precisionOf(
  source: SourceClient,
  type: string,
  sample: readonly Entry[] = [],
): Promise<Precision | undefined> {
  const fraction = ({ lastUpdated }: Entry) => (lastUpdated === undefined ? 0 : Date.parse(lastUpdated) % 1000);
  // the largest fractions: rounded to the nearest second they are in the next one
  const telling = sample.filter((entry) => fraction(entry) > 0).sort((a, b) => fraction(b) - fraction(a));
  if (telling.length === 0) return undefined;
  const within = async (ms: number) => {
    const [from, till] = [new Date(ms).toISOString(), new Date(ms + 1).toISOString()];
    return (await entriesOf(source, { type, from, till, count: timesSample })) ?? [];
  };
  let seconds = 0;
  // one of them may be written to just now
  const asked = telling.slice(0, timesProbe);
  for (const entry of asked) {
    const at = Date.parse(entry.lastUpdated!);
    if ((await within(at)).some((found) => Date.parse(found.lastUpdated ?? "") === at)) return "exact";
    if ((await within(at - fraction(entry))).some((found) => fraction(found) > 0)) seconds++;
  }
  return seconds > 0 ? "seconds" : "other";
}

/** The data of a search's first page; undefined where it is refused. @throws PageFailure */
async function entriesOf(source: SourceClient, search: Search): Promise<Entry[] | undefined> {
  const answer = await readPage(source, searchURL(search), [400], tries);
  return "page" in answer
    ? answer.page.entries.filter(({ mode, type }) => mode !== "outcome" && type === search.type)
    : undefined;
}

/** Sorting is used where two readings agree: it makes the files of two runs equal. */
export async function probeSort({ source, task }: Work, types: string[]): Promise<boolean> {
  const agree = await firstAnswer(types, async (type) => {
    const search = { type, sort: true, count: Math.min(task.source.count, sortProbe) };
    const [first, second] = [await entriesOf(source, search), await entriesOf(source, search)];
    if (!first || !second) return false;
    const ids = (entries: Entry[]) => entries.map(({ id }) => id).join();
    return first.length > 1 ? ids(first) === ids(second) : undefined;
  });
  return agree ?? true;
}

/** What to ask the source for, as the value of `_elements`: where it takes the parameter, and what it sends then is what is wanted. What it sends too much
 *  is cut by us. */
export async function askElements(task: Task, source: SourceClient, type: string): Promise<string | undefined> {
  const wanted = wantedElements(type, task.export.elements ?? []);
  if (!wanted) return undefined;
  const elements = elementsToAsk(type, wanted, task.export.level === "System" ? [] : membersOf(type));
  const lines = async (search: Search) => {
    const answer = await readPage(source, searchURL({ ...search, count: elementsProbe }), [400, 404, 422, 501]);
    if (!("page" in answer)) return undefined;
    const { bytes, page } = answer;
    return new Map(
      page.entries.map(({ id, start, end }) => [id, cutResource(bytes.subarray(start, end), wanted).toString()]),
    );
  };
  const [cut, whole] = [await lines({ type, elements }), await lines({ type })];
  if (!cut || !whole) return undefined;
  for (const [id, line] of whole) if (cut.has(id) && !isSame(cut.get(id)!, line)) return undefined;
  return elements;
}

/** as values: a server that cuts may order the members anew */
const isSame = (a: string, b: string) => a === b || isDeepStrictEqual(JSON.parse(a), JSON.parse(b));
