import { manifestPath } from "../sink/layout.ts";
import { exportShards } from "./export.ts";
import { isInline, planExport } from "./plan/plan.ts";
import { isReadLast } from "./read/provenance.ts";
import { openRun } from "./run.ts";
import { seal } from "./seal/seal.ts";
import { readPlan } from "./stored.ts";
import type { CommandResult, Work } from "./work.ts";

/** The command `plan`. Of a small export it does the rest, too: one Job each for packages and seal would take longer
 *  than the export. The code is the same, so it can be stopped and resumed anywhere.
 *  @returns for such an export no packages, and the totals of the seal */
export async function planAndSmallExport(work: Work): Promise<CommandResult> {
  const planned = await planExport(work);
  const plan = await readPlan(work.store, work.task.uid);
  if (!plan || !isInline(plan, work.task)) return planned;
  for (const { type, expected } of plan.shards) work.board.expect(type, expected ?? 0);
  // Once there is a manifest, the results of the shards are removed: they must not be made again.
  if (!(await work.store.read(manifestPath)))
    await exportShards(
      await openRun(work, plan),
      plan.shards.filter(({ type }) => !isReadLast(work.task.export, type)),
    );
  return { ...(await seal(work)), packages: 0 };
}
