import type { Shard, ShardResult } from "../../contracts.ts";
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
  /** A reading has proven that nothing is missing (read/next-reading.ts). */
  proven: boolean;
  /** how many readings in a row have shown nothing new */
  silent: number;
}

export const beginClosing = (shard: Shard, result: ShardResult): ShardClosing => ({
  shard,
  result,
  extra: new Set(),
  moved: new Set(),
  proven: false,
  silent: 0,
});

/** How many distinct resources are known of a shard. */
export const knownOf = ({ result, extra, moved }: ShardClosing): number => result.seen + extra.size + moved.size;
