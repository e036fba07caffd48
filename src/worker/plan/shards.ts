import type { Cohort, Shard, Task } from "../../contracts.ts";
import { countMatches } from "../../fhir/reads.ts";
import type { Search } from "../../fhir/search.ts";
import { shardId } from "../../sink/layout.ts";
import type { Work } from "../work.ts";
import { cutMembers } from "./batches.ts";
import type { Planning, Probed } from "./draft.ts";
import { areSlow, timePages } from "./page-times.ts";
import { askElements, type Windows } from "./probes.ts";
import { addsUp, cutWindows } from "./windows.ts";

/** pages of a type from which on it pays to time twelve of them */
const timedFrom = 40;

export interface Bounds {
  from: number | undefined;
  till: number;
}

/** What is searched for, in milliseconds. What it shows beside since and until is kept out by select.ts. */
export function boundsOf({ since, until }: Task["export"], end: number, { seconds }: Windows): Bounds {
  const [from, till] = [since, until].map((instant) => (instant === undefined ? undefined : Date.parse(instant)));
  const step = seconds ? 1000 : 1;
  return {
    from: from === undefined ? undefined : Math.floor(from / step) * step,
    till: Math.min(end, till === undefined ? Number.POSITIVE_INFINITY : Math.ceil(till / step) * step),
  };
}

/** times that a type is cut anew when its counts have changed meanwhile */
const recuts = 3;

/** Cuts a type into shards.
 *  @param batches where it is searched by members of the cohort, so many at a time */
export async function cutType(
  { task, source, log }: Work,
  planning: Planning,
  type: string,
  bounds: Bounds,
  { windows, counts, sort, held = {}, max }: Probed,
  batches?: { cohort: Cohort; size: number },
): Promise<Shard[]> {
  const filters = (task.export.typeFilters ?? [])
    .filter((text) => text.startsWith(`${type}?`))
    .map((text) => text.slice(type.length + 1));
  const elements = await askElements(task, source, type);
  const instant = (ms: number) => new Date(ms).toISOString();
  const shard = (number: number, from: number | undefined, till: number, expected?: number): Shard => ({
    id: shardId(type, number),
    type,
    ...(from !== undefined && { from: instant(from) }),
    till: instant(till),
    // filters that overlap would be counted twice
    ...(expected !== undefined && filters.length < 2 && { expected }),
    ...(filters.length > 0 && { filters }),
    ...(elements !== undefined && { elements }),
  });
  const withoutWindows = (expected?: number) => [
    { ...shard(1, bounds.from, bounds.till, expected), ...(windows && { windows: false as const }) },
  ];
  // a window that leaves nothing out but what is newer could hide resources without a lastUpdated, and spares nothing
  const isWhole = bounds.from === undefined && task.export.until === undefined;
  const uncounted = () => (isWhole ? withoutWindows() : [shard(1, bounds.from, bounds.till)]);
  const count = async (
    from: number | undefined,
    till: number | undefined,
    by?: Search["by"],
  ): Promise<number | undefined> => {
    if (!counts) return undefined;
    let sum = 0;
    for (const filter of filters.length > 0 ? filters : [undefined]) {
      const found = await countMatches(source, {
        type,
        filter,
        by,
        ...(windows && {
          from: from === undefined ? undefined : instant(from),
          till: till === undefined ? undefined : instant(till),
        }),
      });
      if (found === undefined) return undefined;
      sum += found;
    }
    return sum;
  };
  if (batches) {
    const { cohort, size } = batches;
    const isWindowed = windows && (counts ? await addsUp(count, bounds.till) : !isWhole);
    const ranges = await cutMembers(type, cohort, size, max, (by) => count(bounds.from, bounds.till, by));
    // members who have nothing now may have had something a moment ago: the tail is read where there is a shard
    if (ranges.length === 0 && cohort.patients.length > 0 && (await count(undefined, undefined)) !== 0)
      ranges.push({ members: [0, 0], expected: 0 });
    return ranges.map(({ members, expected }, index) => ({
      ...shard(index + 1, bounds.from, bounds.till, isWindowed ? expected : undefined),
      ...(windows && !isWindowed && { windows: false as const }),
      members,
    }));
  }
  if (!windows) return withoutWindows();
  if (!counts) return uncounted();
  const counted = planning.counted(type, count);
  const total = await counted(bounds.from, bounds.till);
  // none in the window, but some outside of it: what was in it a moment ago is found when it is closed
  if (total === 0) return (await count(undefined, undefined)) === 0 ? [] : [shard(1, bounds.from, bounds.till, 0)];
  if (total === undefined) return uncounted();
  const all = filters.length === 0 && bounds.from === undefined ? held[type] : undefined;
  if (!(await addsUp(count, bounds.till, all === undefined ? undefined : { all, below: total })))
    return withoutWindows();
  const recount = () => count(bounds.from, bounds.till);
  let cut = await cutWindows(bounds, total, max, counted, recount);
  // an index that lags moves what was written before transactionTime into windows that were counted; it has caught up sooner or later
  for (let tries = 0; !cut && tries < recuts; tries++)
    cut = await cutWindows(bounds, (await recount()) ?? total, max, count, recount);
  if (!cut) return withoutWindows();
  const shards = cut.map(({ from, till, expected }, index) => shard(index + 1, from, till, expected));
  // two windows cost little
  if (shards.length < 3 || total < timedFrom * task.source.count) return shards;
  const some = [shards[0]!, shards[shards.length >> 1]!, shards.at(-1)!];
  const times = await timePages(source, { type, filter: filters[0], elements, sort, count: task.source.count }, some);
  if (!areSlow(times, max / task.source.count)) return shards;
  log.info({ type, ...times }, "windows cost more than plain paging");
  return withoutWindows(total);
}
