import type { Shard } from "../../contracts.ts";
import { eachFingerprint } from "../../sink/fingerprints.ts";
import { eachParallel } from "../parallel.ts";
import { instantOf } from "../read/instants.ts";
import { readShard } from "../read/shard.ts";
import { isPast, isWithin, type RowSelector, rowSelector, withoutErrors } from "../read/verdict.ts";
import type { TypeClosing } from "./type-closing.ts";

/** Writes foreign resources that no shard has written: the source's index finds a resource by one of its references
 *  only, only the source understands a reference, or a window shows a resource of another one.
 *  @param foreign fingerprints of all foreign rows that the readings of the seal have met. Those that a shard has
 *  written are removed from it. */
export async function writeForeign(closing: TypeClosing, foreign: Set<string>): Promise<void> {
  const { work, writer, shards } = closing;
  await eachParallel(foreign.size > 0 ? shards : [], async ({ result, extra }) => {
    for (const print of extra) foreign.delete(print);
    await eachFingerprint(work.store, result.fingerprints, (print) => void foreign.delete(print));
  });
  if (foreign.size === 0) return;
  for (const { shard, result, extra } of shards) {
    if (!result.foreign) continue;
    writer.rewind();
    await readShard({
      ...closing,
      shard,
      select: foreignSelector(closing, shard),
      hooks: {
        known(print) {
          if (!foreign.has(print) || writer.has(print)) return true;
          extra.add(print);
          return false;
        },
      },
    });
  }
}

/** Takes what is foreign to a shard for a line, whatever window it is of. */
function foreignSelector(closing: TypeClosing, shard: Shard): RowSelector {
  const [{ from }, { till }] = [closing.shards[0]!.shard, closing.shards.at(-1)!.shard];
  const { from: _, ...rest } = shard;
  const wide: Shard = { ...rest, ...(from !== undefined && { from }), till };
  const select = withoutErrors(rowSelector(closing, wide));
  const take: RowSelector["any"] = (table, row) => {
    const verdict = select.any(table, row);
    if (verdict !== "foreign") return verdict;
    const lastUpdated = table.lastUpdated(row);
    // What says nothing of when it was written is exported.
    const isTimed = lastUpdated !== undefined && isPast(closing, instantOf(lastUpdated));
    return !isTimed || isWithin(wide, lastUpdated) ? "line" : "skip";
  };
  return { ...select, plain: take, any: take };
}
