// What is known of the searches of an export: the evidence for Exact (docs/internals/exactness.md, "Evidence").

/** What is known of one search of a shard that was read: the evidence that it was read whole. */
export interface SearchEvidence {
  /** How many different resources its pages have shown, whatever became of them. Of a search that is still being read:
   *  up to the page that the checkpoint names, without those that its fingerprints count. */
  shown: number;
  /** How many the source counts in the search. Absent: it does not count, or its count is not known yet. */
  counted?: number;
  /** how many of them are of the shard's window, and no other shard's, as far as this was counted */
  inside?: number;
  /** It was read in parts of its window, as the source does not show all of it in one reading. */
  inParts?: true;
}

/** How it is known that a search was read whole. `counted`: it has shown as many different resources as the source
 *  counts in it. `agreed`: the source does not count, and further readings, of which one begins at the other end where
 *  the source keeps an order, have shown nothing else. */
export type Proof = "counted" | "agreed";

/** A search when its type is closed. Without a proof something may be missing. */
export interface ClosedSearch extends SearchEvidence {
  proof?: Proof;
}
