import type { Shard } from "../../contracts.ts";
import type { SourceClient } from "../../fhir/client.ts";
import { readPage } from "../../fhir/reads.ts";
import { PageFailure } from "../../fhir/retries.ts";
import { type Search, searchURL } from "../../fhir/search.ts";
import { tries } from "./probes.ts";

/** Milliseconds of a page, until its first byte: of a search's first one and the one behind it, over its windows and without them. */
export interface PageTimes {
  windowed: { first: number[]; next: number[] };
  plain: { first: number[]; next: number[] };
}

/** How long pages of a type take, in some of its windows and without any. A page that cannot be had is left out. */
export async function timePages(source: SourceClient, search: Search, windows: readonly Shard[]): Promise<PageTimes> {
  const times: PageTimes = { windowed: { first: [], next: [] }, plain: { first: [], next: [] } };
  const time = async (url: string, into: { first: number[]; next: number[] }) => {
    const first = await readPage(source, url, [400], tries);
    if (!("page" in first)) return;
    into.first.push(first.ms);
    if (first.page.next === undefined) return;
    const next = await readPage(source, source.resolve(first.page.next).href, [400, 404, 410], tries);
    if ("page" in next) into.next.push(next.ms);
  };
  // by turns: what slows one down slows the other
  for (const { from, till } of windows)
    for (const [url, into] of [
      [searchURL(search), times.plain],
      [searchURL({ ...search, from, till }), times.windowed],
    ] as const)
      await time(url, into).catch((error) => {
        if (!(error instanceof PageFailure)) throw error;
      });
  return times;
}

/** A server whose windowed pages took 110 to 250 ms instead of 45 gave 6,400 resources a second in windows on four chains, and 20,700 without. */
const slowTimes = 3;
/** the quickest one behind the slowest plain one: on a busy machine some take that long */
const slowMs = 50;

/** Whether windows cost so much more than plain paging that reading several at a time does not pay (DESIGN section 7).
 *  @param pages of a window: its first page comes once in so many */
export function areSlow({ windowed, plain }: PageTimes, pages: number): boolean {
  // a chain has one first page in all
  const usual = plain.next.length > 0 ? plain.next : plain.first;
  const { first } = windowed;
  const next = windowed.next.length > 0 ? windowed.next : first;
  if (usual.length === 0 || first.length === 0) return false;
  const cost = (of: (values: number[]) => number) => (of(first) + (pages - 1) * of(next)) / pages;
  return (
    cost(median) > slowTimes * median(usual) && cost((values) => Math.min(...values)) > Math.max(...usual) + slowMs
  );
}

const median = (values: number[]) => values.toSorted((a, b) => a - b)[Math.floor((values.length - 1) / 2)]!;
