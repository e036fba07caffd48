import { isDeepStrictEqual } from "node:util";
import { terminal } from "../../failure.ts";
import type { SourceClient } from "../../fhir/client.ts";
import { cutResource, elementsToAsk, wantedElements } from "../../fhir/elements.ts";
import { countMatches, probePage, type RefusedPage } from "../../fhir/reads.ts";
import { ignoredParameters, type Search, searchURL } from "../../fhir/search.ts";
import type { Entry } from "../../scan/page.ts";
import { eachParallel } from "../parallel.ts";
import type { Work } from "../work.ts";
import type { Planning } from "./draft.ts";

/** how many resources of each type are compared, as cut by the source and as cut here */
const elementsSample = 50;
/** how many resources of a type may show the precision of its time index, and how many of them are searched for */
const [timesSample, timesAsked] = [50, 3];
/** how many resources of two readings are compared by their order */
const sortSample = 100;
/** after so many types whose pages cannot be read a probe is given up */
const maxFailedTypes = 3;
/** before all data */
const longAgo = "1900-01-01T00:00:00.000Z";

/** Checks that the source applies a typeFilter. A server that does not know a parameter answers 400, ignores it, or
 *  finds nothing. Only the first is safe, so the self link must repeat each parameter.
 *  @throws terminal InvalidFilter, naming the filter by its index and type */
export async function checkFilter({ source }: Work, index: number, text: string): Promise<void> {
  const at = text.indexOf("?");
  const [type, filter] = [text.slice(0, at), text.slice(at + 1)];
  const name = `spec.typeFilters[${index}] (${type})`;
  const answer = await probePage(source, searchURL({ type, filter, count: 1 }));
  if (!("page" in answer))
    throw terminal("InvalidFilter", `${name}: the source refuses this filter (${answer.status ?? "a broken answer"})`);
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

/** What one look at each type has found. */
export interface TypesSeen {
  /** how many resources each type has, where the source counts them */
  held: Record<string, number>;
  /** types that cannot be searched in any way, with the status that the source answers; 0: none */
  refused: Record<string, number>;
}

/** Counts each type. Of a type that is not counted one page must be readable: as a whole, in a window or by its
 *  filters.
 *  Searches by members of a cohort are tried when they are made. */
export async function lookAtTypes(work: Work, types: readonly string[], byMembers: boolean): Promise<TypesSeen> {
  const seen: TypesSeen = { held: {}, refused: {} };
  let isIgnored = false;
  await eachParallel(types, async (type) => {
    const answer = await probePage(work.source, searchURL({ type, summary: true }), { isPage: false });
    if (!("page" in answer)) {
      const status = byMembers ? undefined : await wholeRefusal(work, type);
      if (status !== undefined) seen.refused[type] = status;
    } else if (answer.page.total === undefined) isIgnored = true;
    else seen.held[type] = answer.page.total;
  });
  // A source that ignores `_summary=count` may give a total all the same where one page holds all.
  return isIgnored ? { ...seen, held: {} } : seen;
}

/** @returns the status by which all searches of a type are refused, 0 where there is none; undefined: one is
 *    answered */
async function wholeRefusal({ source, task }: Work, type: string): Promise<number | undefined> {
  const filters = (task.export.typeFilters ?? []).filter((text) => text.startsWith(`${type}?`));
  const searches: Search[] = [
    { type },
    { type, from: longAgo },
    ...filters.map((text) => ({ type, filter: text.slice(type.length + 1) })),
  ];
  let first: RefusedPage | undefined;
  for (const search of searches) {
    const answer = await probePage(source, searchURL({ ...search, count: 1 }));
    if ("page" in answer) return undefined;
    first ??= answer;
  }
  return first!.status ?? 0;
}

/** The first page of each type, which several probes look at. It is asked for once. */
export class TypeSamples {
  readonly #source: SourceClient;
  readonly #asked = new Map<string, Promise<Entry[] | undefined>>();

  constructor(source: SourceClient) {
    this.#source = source;
  }

  /** As firstPageEntries. */
  of(type: string): Promise<Entry[] | undefined> {
    const asked = this.#asked.get(type) ?? firstPageEntries(this.#source, { type, count: timesSample });
    this.#asked.set(type, asked);
    return asked;
  }
}

/** Whether the source keeps windows, and counts them. It is asked for a window that must be empty, one that must hold
 *  everything, and one of a single resource's own millisecond.
 *  @param held what the source counts, by type */
export async function probeWindows(
  { source }: Work,
  types: readonly string[],
  held: TypesSeen["held"],
  samples: TypeSamples,
): Promise<WindowSupport> {
  const none: WindowSupport = { windows: false, counts: true, seconds: false };
  if (types.length > 0 && Object.keys(held).length === 0)
    return { ...(await probeWindowsByPages(source, types, samples)), counts: false };
  const full = types.filter((type) => (held[type] ?? 0) > 0);
  const probed = await firstAnswer(full, async (type): Promise<WindowSupport | undefined | "failed"> => {
    const [before, all, sample] = await Promise.all([
      countMatches(source, { type, till: longAgo }),
      countMatches(source, { type, from: longAgo }),
      samples.of(type),
    ]);
    // More are fine, as the source may be written to meanwhile. Fewer are not.
    if (before !== 0 || all === undefined || all < held[type]!) return none;
    if (!sample) return "failed";
    const precision = await precisionOf(source, type, sample);
    return { windows: precision !== "other", counts: true, seconds: precision === "seconds" };
  });
  return probed.answer ?? { ...none, windows: !probed.failed };
}

/** The same for a source that does not count. A window before all data must give a page without data. A window of
 *  everything must give data if there are any. */
async function probeWindowsByPages(
  source: SourceClient,
  types: readonly string[],
  samples: TypeSamples,
): Promise<Pick<WindowSupport, "windows" | "seconds">> {
  let precision: TimePrecision | undefined;
  const refuted = await firstAnswer(types, async (type) => {
    const [all, oldest, before, full] = await Promise.all([
      samples.of(type),
      // a database puts resources without a time first or last, so both ends are looked at
      firstPageEntries(source, { type, count: timesSample, sort: true }),
      firstPageEntries(source, { type, till: longAgo, count: 1 }),
      firstPageEntries(source, { type, from: longAgo, count: 1 }),
    ]);
    const isUndated = [...(all ?? []), ...(oldest ?? [])].some(({ lastUpdated }) => lastUpdated === undefined);
    if (!before || !full || before.length > 0 || isUndated || (full.length === 0 && all?.length !== 0)) return true;
    precision ??= await precisionOf(source, type, all);
    return undefined;
  });
  return { windows: !refuted.answer && !refuted.failed && precision !== "other", seconds: precision === "seconds" };
}

/** Asks about the first type, then about two more at a time, then about four, and so on, until one gives an answer.
 *  Most often the first does; where none does, many types cost little more time than a few. A page that cannot be
 *  read, because of a resource in it, gives none.
 *  @returns the answer of the first type that gives one; `failed`: there is none, as such pages were all that could be
 *    had */
async function firstAnswer<T>(
  types: readonly string[],
  ask: (type: string) => Promise<T | undefined | "failed">,
): Promise<{ answer?: T; failed: boolean }> {
  let failed = 0;
  for (let [at, size] = [0, 1]; at < types.length && failed < maxFailedTypes; at += size, size = 2 * size)
    for (const answer of await eachParallel(types.slice(at, at + size), ask)) {
      if (answer === "failed") failed++;
      else if (answer !== undefined) return { answer, failed: false };
    }
  return { failed: failed > 0 };
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

/** How many pages without a resource may come before the first one that has some. */
const mostEmptyPages = 10;

/** The resources on a search's first page that has any; none where the search ends without any. undefined where the
 *  source refuses the search, where a page cannot be read, or where one empty page follows the other. */
export async function firstPageEntries(source: SourceClient, search: Search): Promise<Entry[] | undefined> {
  let link: string | undefined = searchURL(search);
  for (let pages = 0; pages < mostEmptyPages; pages++) {
    const answer = await probePage(source, link);
    if (!("page" in answer)) return undefined;
    const { page } = answer;
    const found = page.entries.filter(({ mode, type }) => mode !== "outcome" && type === search.type);
    link = source.next(link, page);
    if (found.length > 0 || link === undefined) return found;
  }
  return undefined;
}

/** Whether the source keeps an order: two sorted readings show the same resources in the same order. Sorting is used
 *  where they do, because it makes the files of two runs equal. */
export async function probeSort({ source, task }: Work, types: readonly string[]): Promise<boolean> {
  const { answer, failed } = await firstAnswer(types, async (type) => {
    const link = searchURL({ type, sort: true, count: Math.min(task.source.count, sortSample) });
    const readings: string[] = [];
    for (let reading = 0; reading < 2; reading++) {
      const page = await probePage(source, link);
      // A page may hold a resource that cannot be rendered; then another type may tell.
      if (!("page" in page)) return page.isPerhapsPage ? "failed" : false;
      const entries = page.page.entries.filter(({ mode, type: found }) => mode !== "outcome" && found === type);
      if (entries.length < 2) return undefined;
      readings.push(entries.map(({ id }) => id).join());
    }
    return readings[0] === readings[1];
  });
  return answer ?? !failed;
}

/** Whether the source stamps resources when it is asked for them: two more readings show all resources that they have
 *  in common with other times than the reading before. */
export async function probeStamps({ source }: Work, types: string[], samples: TypeSamples): Promise<boolean> {
  const moves = await firstAnswer(types, async (type) => {
    let before = await samples.of(type);
    // One reading more, as all of a few resources may have been written to meanwhile.
    for (let readings = 0; readings < 2; readings++) {
      const next = await firstPageEntries(source, { type, count: timesSample });
      const isMoved = before && next && haveMoved(before, next);
      if (!isMoved) return isMoved;
      before = next;
    }
    return true;
  });
  return moves.answer ?? false;
}

/** undefined: the readings have no resource with a time in common */
function haveMoved(before: readonly Entry[], after: readonly Entry[]): boolean | undefined {
  const times = new Map(before.map(({ id, lastUpdated }) => [id, lastUpdated]));
  const common = after.filter(({ id, lastUpdated }) => lastUpdated !== undefined && times.get(id) !== undefined);
  return common.length === 0 ? undefined : common.every(({ id, lastUpdated }) => times.get(id) !== lastUpdated);
}

/** The value of `_elements` to ask the source for. Undefined where the export wants all elements, and where the source
 *  refuses the parameter or leaves out what is wanted. What the source sends beyond it is cut here. */
export async function askElements(
  { work: { task, source }, compartment }: Pick<Planning, "work" | "compartment">,
  type: string,
): Promise<string | undefined> {
  const wanted = wantedElements(type, task.export.elements ?? [], compartment.release);
  if (!wanted) return undefined;
  const looked = task.export.level === "System" ? [] : compartment.membersOf(type);
  const elements = elementsToAsk(type, wanted, looked, compartment.release);
  const lines = async (search: Search) => {
    const answer = await probePage(source, searchURL({ ...search, count: elementsSample }));
    if (!("page" in answer)) return undefined;
    const { bytes, page } = answer;
    return new Map(
      page.entries.map(({ id, start, end }) => [id, cutResource(bytes.subarray(start, end), wanted).toString()]),
    );
  };
  const [cut, whole] = await Promise.all([lines({ type, elements }), lines({ type })]);
  if (!cut || !whole) return undefined;
  for (const [id, line] of whole) if (cut.has(id) && !isSameJSON(cut.get(id)!, line)) return undefined;
  return elements;
}

/** A server that cuts elements may write the members in another order, so texts that differ are compared as values. */
const isSameJSON = (a: string, b: string) => a === b || isDeepStrictEqual(JSON.parse(a), JSON.parse(b));
