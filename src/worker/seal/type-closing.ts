import type { Shard, ShardResult } from "../../contracts.ts";
import type { ClosedSearch } from "../../evidence.ts";
import type { ShardWriter } from "../../sink/writer.ts";
import type { ExportRun } from "../run.ts";

/** The closing of one type, when all its shards have their results. */
export interface TypeClosing extends ExportRun {
  type: string;
  /** all of the type, as one shard: `{Type}-0000`. What is found missing is written to it. */
  whole: Shard;
  writer: ShardWriter;
  shards: readonly ShardClosing[];
}

/** A shard at the closing of its type. */
export interface ShardClosing {
  shard: Shard;
  result: ShardResult;
  /** fingerprints of the resources that this closing has found missing, and written */
  extra: Set<string>;
  /** fingerprints of resources that this shard shows now, and that another shard has exported as they were before */
  moved: Set<string>;
  /** in their order */
  searches: SearchClosing[];
}

/** A search at the closing of its type. `shown` and `counted` are of its last reading. */
export interface SearchClosing extends ClosedSearch {
  /** how many readings in a row have shown nothing new */
  silent: number;
  /** The source has counted less in it than there is: its counts are no evidence. */
  refuted?: true;
  /** The source does not show all of it in one reading. */
  cutOff?: true;
  /** A reading in parts has shown nothing new, and yet not all. */
  isSpent?: true;
}

export const beginClosing = (shard: Shard, result: ShardResult): ShardClosing => ({
  shard,
  result,
  extra: new Set(),
  moved: new Set(),
  searches: result.evidence.map((evidence) => ({ ...evidence, silent: 0, ...(evidence.inParts && { cutOff: true }) })),
});

/** How many distinct resources are known of a shard. */
export const knownOf = ({ result, extra, moved }: ShardClosing): number => result.seen + extra.size + moved.size;

/** What is stored of a closing. */
export const closedSearches = (shards: readonly ShardClosing[]): Record<string, ClosedSearch[]> =>
  Object.fromEntries(
    shards.map(({ shard, searches }) => [
      shard.id,
      searches.map(({ shown, counted, proof }) => ({
        shown,
        ...(counted !== undefined && { counted }),
        ...(proof && { proof }),
      })),
    ]),
  );
