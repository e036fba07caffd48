import { eachFingerprint, ShownResources, wordsOf } from "../../sink/fingerprints.ts";
import { eachParallel } from "../parallel.ts";
import type { FingerprintHooks } from "../read/row-writer.ts";
import { readShard } from "../read/shard.ts";
import { rowSelector, withoutErrors } from "../read/verdict.ts";
import { lateMs } from "./touched.ts";
import type { ShardClosing, TypeClosing } from "./type-closing.ts";

/** Takes rows of a shard that are not its own. */
export type OtherRows = Omit<FingerprintHooks, "known">;

/** Reads a shard again and writes what no reading of it has shown before.
 *  @returns how many distinct resources this reading has shown */
export async function readOnceMore(closing: TypeClosing, one: ShardClosing, hooks: OtherRows): Promise<number> {
  const { work, writer } = closing;
  const { shard, result, extra, moved } = one;
  const select = withoutErrors(rowSelector(closing, shard));
  const known = new ShownResources(work.store, shard.id);
  await known.restore(result.fingerprints);
  const isNew = (print: string) => !known.has(print) && !writer.has(print) && !moved.has(print);
  let shown = new ShownResources(work.store, shard.id);
  const read = (isKnown: (print: string) => boolean) => {
    writer.rewind();
    shown = new ShownResources(work.store, shard.id);
    return readShard({
      ...closing,
      shard,
      select,
      hooks: {
        ...hooks,
        known(print) {
          shown.add(wordsOf(print), 0);
          return isKnown(print);
        },
      },
    });
  };
  if (endsLate(closing, one)) {
    // An update that was searchable late: another window may have shown the version before it, and nothing may come out
    // twice. So this reading only collects what is new, and looks for it in the other windows.
    const fresh = new Set<string>();
    await read((print) => {
      if (isNew(print)) fresh.add(print);
      return true;
    });
    await noteMoved(closing, one, fresh);
    if (fresh.size === 0) return shown.count;
  }
  await read((print) => {
    if (!isNew(print)) return true;
    extra.add(print);
    return false;
  });
  return shown.count;
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
