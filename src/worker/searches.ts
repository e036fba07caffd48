import type { Plan, Shard } from "../contracts.ts";
import type { SourceClient } from "../fhir/client.ts";
import { countMatches } from "../fhir/reads.ts";
import { searchURL } from "../fhir/search.ts";

/** The searches that together show what is in a shard, as URLs of their first pages: one per typeFilter. */
export function shardSearches({ source }: Plan, { type, filters = [], from, till, elements }: Shard): string[] {
  const window = source.windows ? { from, till } : {};
  return (filters.length > 0 ? filters : [undefined]).map((filter) =>
    searchURL({ type, filter, elements, ...window, count: source.count, sort: source.sort }),
  );
}

/** What the source counts in a shard now; undefined where a count would say nothing: it does not count, or the shard's filters overlap. */
export async function countShard(source: SourceClient, { type, filters, from, till, expected }: Shard): Promise<number | undefined> {
  return expected === undefined ? undefined : countMatches(source, { type, filter: filters?.[0], from, till });
}
