/** What is known of a search when it is counted again. Numbers of resources. */
export interface SearchCount {
  /** what the source counts in the search now */
  count: number;
  /** The count is of a window that ends before D, so what was written since is not in it. */
  isInWindow: boolean;
  /** how many different ones its last reading has shown */
  shown: number;
  /** How many different ones are known of the shard; only where this is its only search, and no resource belongs to
   *  another shard. */
  known?: number;
  /** what was written to since D, as far as that is seen */
  touched: number;
  /** those of them that exist: what is newer than D. Undefined without a history. */
  alive: number | undefined;
  /** what was written shortly before D: it may have left the window that it was shown in */
  late: number;
  /** The search has a filter, so what was written since D may be in its count or not. */
  isFiltered: boolean;
}

/** How many resources of a search nobody may have seen, between two numbers. Each of the known ones may have left since
 *  it was shown, if it was written to. Nothing else leaves, except what is deleted on a source that has no history,
 *  which is reported by itself (doubts.ts). */
export function missingOf(search: SearchCount): { least: number; most: number } {
  const { count, isInWindow, shown, known, touched, alive, late } = search;
  if (isInWindow) {
    const least = count - Math.max(known ?? 0, shown);
    // A window that is counted empty has nothing to show.
    return { least, most: count > 0 ? least + touched + late : least };
  }
  // Without windows and history nothing tells what came or left, unless a reading has shown just what is counted.
  if (alive === undefined)
    return { least: count - shown - touched, most: count === shown ? 0 : Number.POSITIVE_INFINITY };
  if (known === undefined) return { least: count - shown - touched, most: count - shown + touched };
  return { least: count - alive - known, most: count - (search.isFiltered ? 0 : alive) - known + touched };
}

/** Whether the source counts fewer resources in a search than it must hold. It then counts wrongly. Without a history
 *  some may have been deleted, so nobody can tell. */
export function isRefuted({ count, isInWindow, shown, known = 0, touched, alive, late }: SearchCount): boolean {
  return alive !== undefined && count + touched + (isInWindow ? late : 0) < Math.max(known, shown);
}
