import type { Cohort } from "../../cohort.ts";
import type { Plan, Shard } from "../../contracts.ts";
import type { PatientCompartment } from "../../fhir/compartment.ts";
import { countMatches } from "../../fhir/reads.ts";
import { type Search, searchURL } from "../../fhir/search.ts";
import { eachParallel } from "../parallel.ts";
import type { ExportRun } from "../run.ts";

/** What the searches of a shard follow from. */
type Planned = Pick<ExportRun, "plan" | "cohort" | "compartment">;

/** Whether a shard's searches name its window, so that the source shows nothing else. */
export const isWindowed = ({ source }: Plan, { windows }: Shard): boolean => source.windows && windows !== false;

/** The window that a shard's searches show, if what lies outside of it is known to be another shard's. */
export const windowOf = (plan: Plan, shard: Shard): Pick<Shard, "from" | "till"> | undefined =>
  isWindowed(plan, shard) && !plan.source.seconds ? shard : undefined;

/** The searches that together show what is in a shard, as URLs of their first pages: one per typeFilter, and where the
 *  shard is searched by members of the cohort, one per batch of them and parameter of the compartment. */
export function shardSearches(planned: Planned, shard: Shard): string[] {
  const { plan } = planned;
  return searchesOf(planned, shard, isWindowed(plan, shard)).map((search) =>
    searchURL({ ...search, count: plan.source.count, sort: plan.source.sort }),
  );
}

/** Whether a shard is counted in its window: its searches name it, or the plan has counted the window all the same. */
export const isCountedInWindow = (plan: Plan, shard: Shard): boolean =>
  isWindowed(plan, shard) || (plan.source.windows && shard.expected !== undefined);

/** What the source counts in some of a shard's searches now.
 *  @param wanted whether the search with this index is counted
 *  @returns undefined for each that is not wanted or not counted */
export async function countSearches(
  run: ExportRun,
  shard: Shard,
  wanted: (index: number) => boolean = () => true,
): Promise<(number | undefined)[]> {
  const { work, plan } = run;
  const searches = searchesOf(run, shard, isCountedInWindow(plan, shard));
  return eachParallel(searches, async (search, index) =>
    plan.source.counts && wanted(index)
      ? believed(shard, await countMatches(work.source, { ...search, elements: undefined }))
      : undefined,
  );
}

/** A count of one of a shard's searches, if it says something. */
export const believed = ({ uncounted, cap = Number.POSITIVE_INFINITY }: Shard, count: number | undefined) =>
  uncounted || count === undefined || count >= cap ? undefined : count;

function searchesOf(
  { plan, cohort, compartment }: Planned,
  { type, filters = [], from, till, elements, members }: Shard,
  windowed: boolean,
): Search[] {
  const rest = { type, elements, ...(windowed && { from, till }) };
  const batches = members
    ? batchesOf(type, members, { cohort: cohort!, size: plan.source.batch!, compartment })
    : [undefined];
  return batches.flatMap((by) =>
    (filters.length > 0 ? filters : [undefined]).map((filter) => ({ ...rest, by, filter })),
  );
}

/** The members of a cohort, and how many of their ids one search takes. */
export interface MemberBatches {
  cohort: Cohort;
  size: number;
  compartment: PatientCompartment;
}

/** The searches of a range of members: a batch of them by each parameter that finds what is in their compartments. */
export function batchesOf(
  type: string,
  [from, to]: [number, number],
  { cohort: { patients, groups }, size, compartment }: MemberBatches,
): NonNullable<Search["by"]>[] {
  // Other Groups of a member would tell who else is in them.
  if (type === "Group" && groups.length > 0)
    return slicesOf(groups, size).map((values) => ({ parameter: "_id", values }));
  return slicesOf(patients.slice(from, to), size).flatMap((ids) => [
    ...(type === "Patient" ? [{ parameter: "_id", values: ids }] : []),
    ...compartment.parameters(type).map((parameter) => ({ parameter, values: ids.map((id) => `Patient/${id}`) })),
  ]);
}

function slicesOf(ids: readonly string[], size: number): string[][] {
  return Array.from({ length: Math.ceil(ids.length / size) }, (_, at) => ids.slice(at * size, (at + 1) * size));
}
