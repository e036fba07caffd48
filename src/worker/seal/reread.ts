import type { SearchEvidence } from "../../evidence.ts";
import { eachFingerprint, ShownResources } from "../../sink/fingerprints.ts";
import { eachParallel } from "../parallel.ts";
import type { FingerprintHooks } from "../read/row-writer.ts";
import type { ShardRead } from "../read/search.ts";
import { readShard } from "../read/shard.ts";
import { rowSelector, withoutErrors } from "../read/verdict.ts";
import { lateMs } from "./touched.ts";
import type { ShardClosing, TypeClosing } from "./type-closing.ts";

/** Takes rows of a shard that are not its own. */
export type OtherRows = Omit<FingerprintHooks, "known">;

/** A search that is read again. */
interface Rereading {
  one: ShardClosing;
  /** of the search in its shard */
  index: number;
  /** see ShardRead.how */
  how?: NonNullable<ShardRead["how"]>;
}

/** Reads a search of a shard again and writes what no reading of the shard has shown before.
 *  @returns what this reading has shown; a search whose next links were always forgotten has shown nothing */
export async function rereadSearch(
  closing: TypeClosing,
  { one, index, how }: Rereading,
  hooks: OtherRows,
): Promise<SearchEvidence> {
  const { work, writer } = closing;
  const { shard, result, extra, moved } = one;
  const select = withoutErrors(rowSelector(closing, shard));
  const known = new ShownResources(work.store, shard.id);
  await known.restore(result.fingerprints);
  const isNew = (print: string) => !known.has(print) && !writer.has(print) && !moved.has(print);
  const read = async (isKnown: (print: string) => boolean): Promise<SearchEvidence> => {
    writer.rewind();
    const all: ShardRead = { ...closing, shard, select, hooks: { ...hooks, known: isKnown }, only: index };
    const { evidence } = await readShard(how ? { ...all, how } : all);
    return evidence[index] ?? { shown: 0 };
  };
  try {
    if (endsLate(closing, one)) {
      // An update that was searchable late: another window may have shown the version before it, and nothing may come
      // out twice. So this reading only collects what is new, and looks for it in the other windows.
      const fresh = new Set<string>();
      const found = await read((print) => {
        if (isNew(print)) fresh.add(print);
        return true;
      });
      await noteMoved(closing, one, fresh);
      if (fresh.size === 0) return found;
    }
    return await read((print) => {
      if (!isNew(print)) return true;
      extra.add(print);
      return false;
    });
  } finally {
    known.close();
  }
}

/** Whether the window ends in the last minute before D, so that it may show late writes. */
const endsLate = ({ plan }: TypeClosing, { shard }: ShardClosing): boolean =>
  Date.parse(shard.till) > Date.parse(plan.transactionTime) - lateMs;

/** Takes from `fresh` what another shard has exported, and notes it as moved. */
async function noteMoved({ work, shards }: TypeClosing, one: ShardClosing, fresh: Set<string>): Promise<void> {
  const others = fresh.size > 0 ? shards.filter((other) => other !== one) : [];
  await eachParallel(others, ({ result }) =>
    eachFingerprint(work.store, result.fingerprints, (print) => {
      if (fresh.delete(print)) one.moved.add(print);
    }),
  );
}
