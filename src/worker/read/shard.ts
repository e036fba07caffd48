import { waiting } from "../../failure.ts";
import { exportEnd } from "../run.ts";
import { readAround } from "./bisect.ts";
import { nextReading } from "./next-reading.ts";
import { PageReader } from "./pages.ts";
import { type OpenShardRead, readSearch, type ShardRead } from "./search.ts";
import { shardSearches, windowOf } from "./searches.ts";

/** How often a shard is read from its start, after a next link that the source forgot, without showing more than
 *  before. */
const maxExpired = 5;

/** How the reading of a shard ended. */
export interface ShardEnd {
  /** how many resources fewer the pages have shown than Bundle.total of their searches says */
  short: number;
  /** resources that were shown and are not of the shard's window */
  outside: number;
  /** Some pages could not be read. What could be read otherwise is written, and the rest is told. */
  bisected: boolean;
}

/** Reads a shard: follows the pages of its searches from where the writer stands, and writes what is selected and was
 *  not shown before.
 *  @throws waiting SourceInconsistent when the source forgets its next links again and again */
export async function readShard(read: ShardRead): Promise<ShardEnd> {
  const { work, plan, shard, writer, select, hooks } = read;
  const end = exportEnd(read);
  const window = windowOf(plan, shard);
  const reader = await PageReader.open(work.source, work.memory(), {
    type: shard.type,
    till: window && window.till < end ? window.till : end,
    ...(window?.from !== undefined && { from: window.from }),
    key: plan.key,
    members: select.members,
    base: work.source.base.href,
  });
  try {
    for (let [seen, tries] = [-1, 0]; ; ) {
      const ended = await readSearches({ ...read, reader });
      if (ended) return ended;
      tries = writer.seen > seen ? 0 : tries + 1;
      seen = writer.seen;
      if (tries === maxExpired)
        throw waiting(
          "SourceInconsistent",
          `the source forgets its next links of ${shard.type} before they can be followed; a smaller paging.count of the FhirSource may help`,
        );
      // A caller that knows what was shown has written other things, too: they must stay.
      const errors = hooks.known ? 0 : writer.errors;
      if (nextReading({ expired: true, errors }) === "anew") await writer.restart();
      else writer.rewind();
    }
  } finally {
    await reader.close();
  }
}

/** @returns undefined when the source does not know a next link any more */
async function readSearches(read: OpenShardRead): Promise<ShardEnd | undefined> {
  const ended: ShardEnd = { short: 0, outside: 0, bisected: false };
  const { page, search } = read.writer.position;
  for (const [index, first] of shardSearches(read, read.shard).entries()) {
    if (index < search) continue;
    read.writer.beginSearch(index);
    const from = index === search ? (page ?? first) : first;
    const end = await readSearch(read, { first, from });
    if (end.end === "expired") return undefined;
    ended.outside += end.outside;
    if (end.end === "stuck") {
      ended.bisected = true;
      await readAround(read, index, end.failure);
      // What an earlier worker has read of a search was not counted by this one.
    } else if (from === first && end.total !== undefined) ended.short += Math.max(0, end.total - end.shown);
  }
  return ended;
}
