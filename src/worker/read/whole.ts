import type { SearchEvidence } from "../../evidence.ts";
import { waiting } from "../../failure.ts";
import { PageFailure } from "../../fhir/retries.ts";
import { tellSearchLoss } from "./bisect.ts";
import { nextReading } from "./next-reading.ts";
import type { ShardRead } from "./search.ts";
import { believed, countSearches, isCountedInWindow, isWindowed, shardSearches } from "./searches.ts";
import { readShard, type ShardEnd } from "./shard.ts";

/** Reads a shard until each of its searches has shown as many resources as the source counts in it, as far as that can
 *  be reached:
 *  1. Read it. Answers that were wrong may not be so again: then it is read anew, once.
 *  2. Compare what each search has shown with what the source counts in it. Where one has shown fewer, read the shard
 *     once more: a page may have lacked entries, or its next link.
 *  3. Where one still shows fewer, or the source never knows its own next link, read it in parts of its window.
 *  What stays after that is reported by the seal, which looks at all shards of the type again when they are there.
 *  @returns the evidence, for the shard's result
 *  @throws terminal SourceInconsistent (onResourceError: Fail) where a part cannot be obtained */
export async function readUntilWhole(read: ShardRead): Promise<SearchEvidence[]> {
  const { work, shard, writer } = read;
  let end = await readShard(read);
  // A shard that was bisected is not read anew: that would bisect it again. So its errors are final.
  if (nextReading({ errors: end.bisected ? 0 : writer.errors }) === "anew") {
    await writer.restart();
    end = await readShard(read);
  }
  let evidence = await countEvidence(read, end);
  let short = shortOf(evidence);
  if (nextReading({ missing: { least: short, most: short } }) === "onward" && !end.cutOff) {
    work.log.warn(
      { shard: shard.id, missing: short },
      "the source counts more resources than it has shown; reading the shard again",
    );
    writer.rewind();
    end = await readShard(read);
    evidence = await countEvidence(read, end);
    short = shortOf(evidence);
  }
  if (short === 0 && !end.cutOff) return evidence;
  if (!read.plan.source.windows) {
    if (!end.cutOff) return evidence;
    tellSearchLoss(read, forgotten(shard.type));
    return shardSearches(read, shard).map(() => ({ shown: writer.seen }));
  }
  work.log.warn(
    { shard: shard.id, missing: short },
    "the source ends its searches early; reading the shard in parts of its window",
  );
  writer.leaveThePages();
  return (await readShard({ ...read, how: "inParts" })).evidence;
}

/** The failure of a search that the source never lets come to its end. */
const forgotten = (type: string): PageFailure => {
  const why = `the source forgets its next links of ${type} before they can be followed; a smaller paging.count of the FhirSource may help`;
  return new PageFailure(waiting("SourceInconsistent", why), 410);
};

const shortOf = (evidence: readonly SearchEvidence[]): number =>
  evidence.reduce((sum, { shown, counted = shown }) => sum + Math.max(0, counted - shown), 0);

/** Finds what the source counts in each search of a shard. A count of the plan, or Bundle.total of the search's first
 *  page, is enough where it is the number that was shown; else the source is asked. */
async function countEvidence(read: ShardRead, { evidence: found }: ShardEnd): Promise<SearchEvidence[]> {
  const { plan, shard, writer } = read;
  // Only what is of the window counts where the searches do not name the window that is counted.
  const isInside = found.length === 1 && isCountedInWindow(plan, shard) && !isWindowed(plan, shard);
  const evidence = found.map(({ shown, counted }, index): SearchEvidence => {
    const inside = isInside ? writer.seen : shown;
    const known = [
      found.length === 1 ? shard.expected : undefined,
      believed(shard, shard.counts?.[index]),
      isInside ? undefined : counted,
    ];
    return {
      shown: inside,
      ...(known.includes(inside) ? { counted: inside } : !isInside && counted !== undefined && { counted }),
    };
  });
  const counts = await countSearches(read, shard, (index) => evidence[index]?.counted !== evidence[index]?.shown);
  return evidence.map((one, index) => (counts[index] === undefined ? one : { ...one, counted: counts[index] }));
}
