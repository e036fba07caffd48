import type { Plan, Shard } from "../contracts.ts";
import { terminal } from "../failure.ts";
import { readPage } from "../fhir/reads.ts";
import type { Page } from "../scan/page.ts";
import { fingerprint } from "../sink/fingerprints.ts";
import type { ShardWriter } from "../sink/writer.ts";
import { shardSearches } from "./searches.ts";
import type { Select } from "./select.ts";
import type { Work } from "./task.ts";

/** Follows the pages of the shard's searches and writes what is selected and not known yet. */
export async function readShard(
  work: Work,
  plan: Plan,
  shard: Shard,
  writer: ShardWriter,
  select: Select,
  known: (print: string) => boolean = (print) => writer.has(print),
): Promise<void> {
  const { source, board } = work;
  for (const [index, first] of shardSearches(plan, shard).entries()) {
    let link: string | undefined = index === 0 ? (writer.position.page ?? first) : first;
    const visited = new Set<string>();
    while (link !== undefined) {
      work.signal.throwIfAborted();
      if (visited.has(link)) throw terminal("SourceInconsistent", `the source's next link repeats in a search of ${shard.type}`);
      visited.add(link);
      const answer: Awaited<ReturnType<typeof readPage>> | { status: number } = await readPage(source, link, [400, 404, 410]);
      if ("status" in answer) {
        if (link === first) throw terminal("SourceInconsistent", `the source refuses a search of ${shard.type} (${answer.status})`);
        // a next link does not live for ever; the shard does
        work.log.warn(
          { shard: shard.id, status: answer.status },
          "the source does not know the next link any more; reading the shard again",
        );
        await writer.restart();
        return readShard(work, plan, shard, writer, select, known);
      }
      writer.begin(link);
      const { bytes, page }: { bytes: Buffer; page: Page } = answer;
      for (let at = writer.position.taken; at < page.entries.length; at++) {
        const entry = page.entries[at]!;
        const verdict = select(bytes, entry);
        if (verdict === "skip") writer.skip();
        else if (typeof verdict === "object") writer.error(verdict.outcome);
        else {
          const print = fingerprint(plan.key, entry.id);
          // filters overlap, and rows move under offset paging: what is known is not written twice
          if (known(print)) writer.skip();
          else if (verdict === "pass") writer.pass(print);
          else if (writer.line(bytes, entry, print)) await writer.drain();
        }
      }
      link = page.next === undefined ? undefined : source.resolve(page.next).href;
      await writer.pageDone(link);
      const { checkpointAt, ...counts } = writer.durable;
      board.set(shard.id, shard.type, counts, checkpointAt);
    }
  }
}
