/** Where a search continues when a page of it was too much for the source. */
export interface SmallerPage {
  /** URL of the search's first page, with the smaller `_count` */
  first: string;
  /** the page to ask for: the same one, or the first where a link does not show its `_count` */
  from: string;
  count: number;
}

const countPattern = /([?&]_count=)(\d{1,9})(?=&|$)/;

/** The `_count` of a search or of a next link; undefined where it shows none. */
export function countIn(link: string): number | undefined {
  const count = Number(countPattern.exec(link)?.[2]);
  return count > 0 ? count : undefined;
}

/** The same link with another `_count`. */
export const withCount = (link: string, count: number): string => link.replace(countPattern, `$1${count}`);

/** Halves the page size of a search.
 *  @param link of the page that was too much. A next link that shows its `_count` can be changed: whatever else stands
 *    in it, an offset, a page number or a cursor, a smaller page begins at the same resource or before it. A link that
 *    hides it cannot, so the search is begun again.
 *  @returns undefined where the page has one resource already */
export function smallerPage(link: string, first: string): SmallerPage | undefined {
  const count = Math.floor(Math.min(countIn(link) ?? Number.POSITIVE_INFINITY, countIn(first) ?? 0) / 2);
  if (count < 1) return undefined;
  const begin = withCount(first, count);
  return { first: begin, from: countIn(link) === undefined ? begin : withCount(link, count), count };
}
