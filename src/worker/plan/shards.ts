import type { Shard, Task } from "../../contracts.ts";
import { countMatches, probePage } from "../../fhir/reads.ts";
import { type Search, searchURL } from "../../fhir/search.ts";
import { shardId } from "../../sink/layout.ts";
import type { MemberBatches } from "../read/searches.ts";
import { cutMembers } from "./batches.ts";
import type { Planning } from "./draft.ts";
import { timePages, windowsAreSlow } from "./page-times.ts";
import { askElements, firstPageEntries, type WindowSupport } from "./probes.ts";
import { type Bounds, type CountWindow, cutWindows, sidesAddUp, type WholeWindow, type Window } from "./windows.ts";

/** Pages of a type from which on timing twelve of its pages pays. */
const timedFromPages = 40;
/** How often a type is cut again when its counts have changed meanwhile. */
const recuts = 3;

/** The bounds that searches of the export name. Where the source compares whole seconds they are wider than `since` and
 *  `until`; read/verdict.ts keeps out what such a search shows beside them.
 *  @param end the moment that the plan is of, in milliseconds */
export function boundsOf({ since, until }: Task["export"], end: number, { seconds }: WindowSupport): Bounds {
  const [from, till] = [since, until].map((time) => (time === undefined ? undefined : Date.parse(time)));
  const step = seconds ? 1000 : 1;
  return {
    from: from === undefined ? undefined : Math.floor(from / step) * step,
    till: Math.min(end, till === undefined ? Number.POSITIVE_INFINITY : Math.ceil(till / step) * step),
  };
}

/** A type that is being cut: how it is searched and counted. */
interface TypeCut {
  planning: Planning;
  type: string;
  /** the typeFilters of the type, without `Type?` */
  filters: readonly string[];
  /** value of `_elements`, where the source takes it */
  elements: string | undefined;
}

/** Cuts a type into shards: windows of time where the source keeps and counts them, otherwise one shard of all.
 *  @param batches where the type is searched by members of the cohort: its shards are then ranges of members
 *  @throws FailureError of the source */
export async function cutType(planning: Planning, type: string, batches?: MemberBatches): Promise<Shard[]> {
  const { work, probe } = planning;
  const filters = (work.task.export.typeFilters ?? [])
    .filter((text) => text.startsWith(`${type}?`))
    .map((text) => text.slice(type.length + 1));
  const elements = await askElements(planning, type);
  const cut: TypeCut = { planning, type, filters, elements };
  if (batches) return cutByMembers(cut, batches);
  if (!probe.windows) return [shardWithoutWindow(cut)];
  if (!probe.counts || probe.uncounted?.includes(type)) return [await uncountedShard(cut)];
  return cutByWindows(cut);
}

async function cutByWindows(cut: TypeCut): Promise<Shard[]> {
  const { planning, type, filters } = cut;
  const { bounds, probe, draft } = planning;
  const { from, till } = bounds;
  const count = counterOf(cut);
  const countOnce = draft.rememberCounts(type, count);
  const total = await countOnce(from, till);
  if (total === undefined) return [await uncountedShard(cut)];
  // What was in the window a moment ago is found when the type is closed.
  if (total === 0) return [shardOf(cut, 1, { ...bounds, expected: 0 })];
  const all = filters.length === 0 && from === undefined ? probe.held?.[type] : undefined;
  if (!(await sidesAddUp(count, till, all === undefined ? undefined : { all, below: total })))
    return [shardWithoutWindow(cut)];
  const cap = probe.caps?.[type];
  const someTime = () => timeOfSome(cut);
  const windows = await cutUntilStable({ ...bounds, expected: total, cap, someTime }, probe.max, count, countOnce);
  if (!windows) return [shardWithoutWindow(cut)];
  const shards = windows.map((window, index) => shardOf(cut, index + 1, window));
  return (await windowsPay(cut, shards, total)) ? shards : [shardWithoutWindow(cut, total)];
}

/** The `meta.lastUpdated` of some resource of the type. */
async function timeOfSome({ planning, type }: TypeCut): Promise<number | undefined> {
  const [entry] = (await firstPageEntries(planning.work.source, { type, count: 1 })) ?? [];
  const at = Date.parse(entry?.lastUpdated ?? "");
  return Number.isNaN(at) ? undefined : at;
}

/** Cuts again where the counts have changed meanwhile: an index that lags moves what was written before transactionTime
 *  into windows that are already counted, until it has caught up. */
async function cutUntilStable(
  whole: WholeWindow,
  max: number,
  count: CountWindow,
  countOnce: CountWindow,
): Promise<Window[] | undefined> {
  const recount = () => count(whole.from, whole.till);
  let windows = await cutWindows(whole, max, countOnce, recount);
  for (let tries = 0; !windows && tries < recuts; tries++) {
    const expected = (await recount()) ?? whole.expected;
    windows = await cutWindows({ ...whole, expected }, max, count, recount);
  }
  return windows;
}

/** Whether reading a type in windows is worth their cost. One or two windows cost little, and a small type is not worth
 *  the measurement. */
async function windowsPay(
  { planning, type, filters, elements }: TypeCut,
  shards: Shard[],
  total: number,
): Promise<boolean> {
  const { work, probe } = planning;
  const { count } = work.task.source;
  if (shards.length < 3 || total < timedFromPages * count) return true;
  const some = [shards[0]!, shards[shards.length >> 1]!, shards.at(-1)!];
  const times = await timePages(work.source, { type, filter: filters[0], elements, sort: probe.sort, count }, some);
  if (!windowsAreSlow(times, probe.max / count)) return true;
  work.log.info({ type, ...times }, "windows cost more than plain paging");
  return false;
}

/** Whether the first pages of the type's searches show no resource. */
async function showsNothing({ planning, type, filters }: TypeCut, by?: Search["by"]): Promise<boolean> {
  for (const filter of filters.length > 0 ? filters : [undefined]) {
    const entries = await firstPageEntries(planning.work.source, { type, filter, by, count: 1 });
    if (entries?.length !== 0) return false;
  }
  return true;
}

async function cutByMembers(cut: TypeCut, batches: MemberBatches): Promise<Shard[]> {
  const { bounds, probe, work } = cut.planning;
  const { from, till } = bounds;
  const count = counterOf(cut);
  const isWindowed = probe.windows && (probe.counts ? await sidesAddUp(count, till) : !isUnbounded(work.task, bounds));
  const ranges = await cutMembers(cut.type, batches, probe.max, {
    count: (by) => countFilters(cut, { from, till, by }),
    showsNothing: (by) => showsNothing(cut, by),
  });
  // Members who have nothing now may have had something a moment ago. The tail of a type is read only if it has a
  // shard, so this one has no members and no search.
  if (ranges.length === 0 && batches.cohort.patients.length > 0) ranges.push({ members: [0, 0], expected: 0 });
  const isCountedAsRead = isWindowed || !probe.windows;
  return ranges.map(({ members, expected, counts }, index) => ({
    ...shardOf(cut, index + 1, { ...bounds, expected: isWindowed ? expected : undefined }),
    ...(probe.windows && !isWindowed && { windows: false as const }),
    members,
    ...(isCountedAsRead && counts && { counts }),
  }));
}

/** What the source counts in a window of the type, over its filters. */
function counterOf(cut: TypeCut): CountWindow {
  return async (from, till) => (await countFilters(cut, { from, till }))?.reduce((sum, count) => sum + count, 0);
}

/** What the source counts in a window by each filter of the type, in their order, and, with `by`, for some members.
 *  Undefined where it does not count. Where windows are not kept, it counts without them. */
async function countFilters(
  { planning, type, filters }: TypeCut,
  { from, till, by }: { from: number | undefined; till: number | undefined; by?: Search["by"] },
): Promise<number[] | undefined> {
  const { work, probe } = planning;
  if (!probe.counts || probe.uncounted?.includes(type)) return undefined;
  const window = probe.windows ? { from: timeOf(from), till: timeOf(till) } : {};
  const counts: number[] = [];
  for (const filter of filters.length > 0 ? filters : [undefined]) {
    const found = await countMatches(work.source, { type, filter, by, ...window });
    if (found === undefined) return undefined;
    counts.push(found);
  }
  return counts;
}

/** Stands for a type that the source refuses to search. It is not read, and told.
 *  @param status of the answer; 0: there is none */
export const refusedShard = ({ from, till }: Bounds, type: string, status: number): Shard => ({
  id: shardId(type, 1),
  type,
  ...(from !== undefined && { from: timeOf(from)! }),
  till: timeOf(till)!,
  refused: status,
});

/** @param number from 1, in the shard's id */
function shardOf(
  { planning, type, filters, elements }: TypeCut,
  number: number,
  { from, till, expected }: Bounds & { expected?: number | undefined },
): Shard {
  const { caps = {}, uncounted = [] } = planning.probe;
  const cap = caps[type];
  const isKnown = expected !== undefined && expected < (cap ?? Number.POSITIVE_INFINITY) && !uncounted.includes(type);
  return {
    id: shardId(type, number),
    type,
    ...(from !== undefined && { from: timeOf(from)! }),
    till: timeOf(till)!,
    // a resource that several filters find would be counted more than once
    ...(isKnown && filters.length < 2 && { expected }),
    ...(filters.length > 0 && { filters: [...filters] }),
    ...(elements !== undefined && { elements }),
    ...(uncounted.includes(type) && { uncounted: true as const }),
    ...(cap !== undefined && { cap }),
  };
}

/** All of the type in one shard, whose searches name no window. */
function shardWithoutWindow(cut: TypeCut, expected?: number): Shard {
  const { bounds, probe } = cut.planning;
  return { ...shardOf(cut, 1, { ...bounds, expected }), ...(probe.windows && { windows: false as const }) };
}

/** All of the type in one shard, where the source does not count it. A window that leaves out only what is newer would
 *  save nothing, and could hide resources without a lastUpdated. The source may refuse the window of this type
 *  alone. */
async function uncountedShard(cut: TypeCut): Promise<Shard> {
  const { work, bounds } = cut.planning;
  if (isUnbounded(work.task, bounds)) return shardWithoutWindow(cut);
  const window = { type: cut.type, from: timeOf(bounds.from), till: timeOf(bounds.till), count: 1 };
  return "page" in (await probePage(work.source, searchURL(window)))
    ? shardOf(cut, 1, bounds)
    : shardWithoutWindow(cut);
}

/** Whether the export asks for neither `since` nor `until`. */
const isUnbounded = (task: Task, { from }: Bounds): boolean => from === undefined && task.export.until === undefined;

const timeOf = (ms: number | undefined) => (ms === undefined ? undefined : new Date(ms).toISOString());
