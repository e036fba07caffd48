import type { Shard } from "../../contracts.ts";
import type { ShardWriterOptions } from "../../sink/writer.ts";
import { blockBytesOf, maxFileBytesOf } from "../page-memory.ts";
import type { Work } from "../work.ts";

/** How a shard of this export is written. */
export function writerOptions({ task, store, memory, clock, random }: Work, shard: Shard): ShardWriterOptions {
  return {
    store,
    slabs: memory().slabs,
    uid: task.uid,
    shard,
    gzip: task.export.gzip,
    maxFileBytes: maxFileBytesOf(task),
    blockBytes: blockBytesOf(task),
    nonce: () => random(4).toString("hex"),
    clock,
  };
}
