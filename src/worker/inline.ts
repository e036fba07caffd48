import type { Task } from "../contracts.ts";
import type { RequestShare } from "../fhir/request-limiter.ts";
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
  const { limiter } = work.source;
  limiter.setShare(wholeShare(work.task));
  const planned = await planExport(work);
  limiter.setShare(work.task.source.share);
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

/** What the pod of a plan may ask of the source while it plans: as much as all pods of the export will together, as it
 *  is the only one. A plan asks little, but of each type. */
const wholeShare = ({ source: { share }, plan: { parallelism } }: Task): RequestShare => ({
  requests: share.requests * parallelism,
  perSecond: share.perSecond && share.perSecond * parallelism,
});
