import type { Cohort, Plan } from "../contracts.ts";
import { readCohort } from "./stored.ts";
import type { Work } from "./work.ts";

/** A planned export that is being carried out. A command makes it once, and all that reads, writes and closes shards
 *  takes it. */
export interface ExportRun {
  work: Work;
  plan: Plan;
  /** the patients of the export; undefined where everybody is in it */
  cohort: Cohort | undefined;
}

/** @throws transient Internal when the cohort, which is stored before the plan, is missing */
export const openRun = async (work: Work, plan: Plan): Promise<ExportRun> => ({
  work,
  plan,
  cohort: await readCohort(work),
});

/** The instant that all resources of an export are older than: `until`, at most the millisecond behind transactionTime.
 *  The window of a shard may end before it. */
export const exportEnd = ({ plan, work }: Pick<ExportRun, "plan"> & { work: Pick<Work, "task"> }): string => {
  const { until } = work.task.export;
  const end = Date.parse(plan.transactionTime) + 1;
  return new Date(until === undefined ? end : Math.min(end, Date.parse(until))).toISOString();
};
