import type { Cohort } from "../cohort.ts";
import type { Plan } from "../contracts.ts";
import { PatientCompartment } from "../fhir/compartment.ts";
import { ServerNames } from "../fhir/references.ts";
import type { ExportedResources } from "./exported.ts";
import { readCohort } from "./stored.ts";
import type { Work } from "./work.ts";

/** A planned export that is being carried out. A command makes it once, and all that reads, writes and closes shards
 *  takes it. */
export interface ExportRun {
  work: Work;
  plan: Plan;
  /** the patients of the export; undefined where everybody is in it */
  cohort: Cohort | undefined;
  /** of the source's release of FHIR, with its names */
  compartment: PatientCompartment;
  /** what the other types have written; known when Provenance is read, which depends on it */
  exported?: ExportedResources;
}

/** @throws transient Internal when the cohort, which is stored before the plan, is missing */
export const openRun = async (work: Work, plan: Plan): Promise<ExportRun> => ({
  work,
  plan,
  cohort: await readCohort(work),
  compartment: compartmentOf(work, plan.source),
});

/** The Patient compartment as the source's release has it. A plan of an earlier release of the exporter says nothing:
 *  it was made for R4 alone. */
export const compartmentOf = (
  { source }: Pick<Work, "source">,
  { release = "R4", names = [] }: Pick<Plan["source"], "release" | "names">,
): PatientCompartment => new PatientCompartment(release, new ServerNames(source.base, names));

/** The instant that all resources of an export are older than: `until`, at most the millisecond behind transactionTime.
 *  The window of a shard may end before it. */
export const exportEnd = ({ plan, work }: Pick<ExportRun, "plan"> & { work: Pick<Work, "task"> }): string => {
  const { until } = work.task.export;
  const end = Date.parse(plan.transactionTime) + 1;
  return new Date(until === undefined ? end : Math.min(end, Date.parse(until))).toISOString();
};
