import type { Cohort, Plan, Shard } from "../../contracts.ts";
import type { SourceClient } from "../../fhir/client.ts";
import { compartmentParameters } from "../../fhir/compartment.ts";
import { countMatches } from "../../fhir/reads.ts";
import { type Search, searchURL } from "../../fhir/search.ts";
import { eachParallel } from "../parallel.ts";

/** Whether a shard's searches show its window alone. */
export const isWindowed = ({ source }: Plan, { windows }: Shard): boolean => source.windows && windows !== false;

/** The window that a shard's searches show, where what is outside of it is known to be another's. */
export const windowOf = (plan: Plan, shard: Shard): Pick<Shard, "from" | "till"> | undefined =>
  isWindowed(plan, shard) && !plan.source.seconds ? shard : undefined;

/** The searches that together show what is in a shard, as URLs of their first pages: one per typeFilter, and where it is searched by members of the cohort, per
 *  batch of them and parameter of the compartment. */
export const shardSearches = (plan: Plan, shard: Shard, cohort: Cohort | undefined): string[] =>
  searchesOf(plan, shard, cohort, isWindowed(plan, shard)).map((search) =>
    searchURL({ ...search, count: plan.source.count, sort: plan.source.sort }),
  );

/** What the source counts in a shard now, in all its searches; undefined where a count would say nothing: it does not count, or the shard's filters overlap. */
export async function countShard(
  source: SourceClient,
  plan: Plan,
  shard: Shard,
  cohort: Cohort | undefined,
): Promise<number | undefined> {
  if (shard.expected === undefined) return undefined;
  const searches = searchesOf(plan, shard, cohort, plan.source.windows);
  const counts = await eachParallel(searches, (search) => countMatches(source, { ...search, elements: undefined }));
  return counts.reduce<number | undefined>(
    (sum, count) => (sum === undefined || count === undefined ? undefined : sum + count),
    0,
  );
}

function searchesOf(
  { source }: Plan,
  { type, filters = [], from, till, elements, members }: Shard,
  cohort: Cohort | undefined,
  windowed: boolean,
): Search[] {
  const rest = { type, elements, ...(windowed && { from, till }) };
  const by = members ? batchesOf(type, members, source.batch!, cohort!) : [undefined];
  return by.flatMap((by) => (filters.length > 0 ? filters : [undefined]).map((filter) => ({ ...rest, by, filter })));
}

/** Batches of members, by each parameter that finds what is in their compartments.
 *  @param size ids of a search */
export function batchesOf(
  type: string,
  [from, to]: [number, number],
  size: number,
  { patients, groups }: Cohort,
): NonNullable<Search["by"]>[] {
  // other Groups of a member would tell who else is in them
  if (type === "Group" && groups.length > 0)
    return batches(groups, size).map((values) => ({ parameter: "_id", values }));
  return batches(patients.slice(from, to), size).flatMap((ids) => [
    ...(type === "Patient" ? [{ parameter: "_id", values: ids }] : []),
    ...compartmentParameters(type).map((parameter) => ({ parameter, values: ids.map((id) => `Patient/${id}`) })),
  ]);
}

function batches(ids: readonly string[], size: number): string[][] {
  return Array.from({ length: Math.ceil(ids.length / size) }, (_, at) => ids.slice(at * size, (at + 1) * size));
}
