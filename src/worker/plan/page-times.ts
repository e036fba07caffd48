import type { Shard } from "../../contracts.ts";
import type { SourceClient } from "../../fhir/client.ts";
import { probePage } from "../../fhir/reads.ts";
import { type Search, searchURL } from "../../fhir/search.ts";

/** Milliseconds until the first byte of the first pages of some searches, and of the pages behind them. */
interface SearchTimes {
  first: number[];
  next: number[];
}

/** How long pages of one type take in windows and without them. */
export interface PageTimes {
  windowed: SearchTimes;
  plain: SearchTimes;
}

/** Times two pages of the type in each of the windows, and two without any window as often. A page that cannot be read
 *  is left out. */
export async function timePages(source: SourceClient, search: Search, windows: readonly Shard[]): Promise<PageTimes> {
  const times: PageTimes = { windowed: { first: [], next: [] }, plain: { first: [], next: [] } };
  const time = async (url: string, into: SearchTimes) => {
    const first = await probePage(source, url);
    if (!("page" in first)) return;
    into.first.push(first.ms);
    const link = source.next(url, first.page);
    if (link === undefined) return;
    const next = await probePage(source, link, { type: search.type });
    if ("page" in next) into.next.push(next.ms);
  };
  // in turn: what slows one kind down slows the other as well
  for (const { from, till } of windows)
    for (const [url, into] of [
      [searchURL(search), times.plain],
      [searchURL({ ...search, from, till }), times.windowed],
    ] as const)
      await time(url, into);
  return times;
}

/** Windows are slow when their pages take more than this many times as long as plain ones. A server whose windowed
 *  pages took 110 to 250 ms instead of 45 gave 6,400 resources a second in windows on four chains, and 20,700
 *  without. */
const slowTimes = 3;
/** Windows are slow only when the quickest windowed page takes this many milliseconds more than the slowest plain one:
 *  on a busy machine a few pages of either kind take long. */
const slowMs = 50;

/** Whether windows cost so much more than plain paging that reading several of them at a time does not pay.
 *  @param pages how many pages a window has: one of them is its first page, which costs more */
export function windowsAreSlow({ windowed, plain }: PageTimes, pages: number): boolean {
  // without windows the type has a single first page, so it does not count
  const usual = plain.next.length > 0 ? plain.next : plain.first;
  const { first } = windowed;
  const next = windowed.next.length > 0 ? windowed.next : first;
  if (usual.length === 0 || first.length === 0) return false;
  const cost = (typical: (values: number[]) => number) => (typical(first) + (pages - 1) * typical(next)) / pages;
  return (
    cost(median) > slowTimes * median(usual) && cost((values) => Math.min(...values)) > Math.max(...usual) + slowMs
  );
}

const median = (values: number[]) => values.toSorted((a, b) => a - b)[Math.floor((values.length - 1) / 2)]!;
