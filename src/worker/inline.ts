import { manifestPath } from "../sink/layout.ts";
import { exportShards } from "./export.ts";
import { isInline, planExport } from "./plan/plan.ts";
import { seal } from "./seal/seal.ts";
import { readPlan } from "./stored.ts";
import type { CommandResult, Work } from "./work.ts";

/** The plan command: plans, and of a small export does the rest, too, by the same code and as resumable (DESIGN section 5): a Job each for the packages and
 *  the seal would take longer than the export. Then it reports no packages, and the seal's totals. */
export async function planAndSmallExport(work: Work): Promise<CommandResult> {
  const planned = await planExport(work);
  const made = await readPlan(work.store, work.task.uid);
  if (!made || !isInline(made, work.task)) return planned;
  for (const { type, expected } of made.shards) work.board.expect(type, expected ?? 0);
  // sealed before: what the packages left in the working folder is gone
  if (!(await work.store.read(manifestPath))) await exportShards(work, made, made.shards);
  return { ...(await seal(work)), packages: 0 };
}
