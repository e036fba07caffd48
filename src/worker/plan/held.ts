import { countMatches } from "../../fhir/reads.ts";
import { eachParallel } from "../parallel.ts";
import type { Work } from "../work.ts";
import { isCapped, looksCapped } from "./caps.ts";
import { firstPageEntries, type TypesSeen, type WindowSupport } from "./probes.ts";

/** Holds what the source counts of its types against what it shows. A page is what proves that a type is empty: servers
 *  that do not count answer 0, too.
 *  @param held what the source counts, by type
 *  @returns the types of which a page has shown no resource, and what is counted of the others; nothing is counted
 *    where the counts are refuted */
export async function checkCounts(
  { source }: Work,
  types: readonly string[],
  held: TypesSeen["held"],
): Promise<{ empty: string[]; held: TypesSeen["held"] }> {
  const empty: string[] = [];
  const zeros = types.filter((type) => held[type] === 0);
  const created: TypesSeen["held"] = {};
  const isWrong = await eachParallel(zeros, async (type) => {
    const entries = await firstPageEntries(source, { type, count: 1 });
    if (entries?.length === 0) empty.push(type);
    if (!entries || entries.length === 0) return false;
    // The first of them may have been created since the count.
    created[type] = (await countMatches(source, { type })) ?? 0;
    return created[type] === 0;
  });
  empty.sort();
  const counted = Object.fromEntries(Object.entries({ ...held, ...created }).filter(([type]) => !empty.includes(type)));
  return { empty, held: isWrong.includes(true) ? {} : counted };
}

/** Whether the source counts something in a search that finds nothing: its counts are estimates then. Sources that keep
 *  windows were asked for one that finds nothing already (probes.ts). */
export async function isEstimating(
  { source, random }: Work,
  held: TypesSeen["held"],
  { windows }: WindowSupport,
): Promise<boolean> {
  const [type] = Object.keys(held);
  if (windows || type === undefined) return false;
  const count = await countMatches(source, { type, filter: `_id=${random(16).toString("hex")}` });
  return count !== undefined && count !== 0;
}

/** Finds the types that the source counts no further than some number (caps.ts).
 *  @returns that number for each, and the types whose count may be such a number, and nobody can tell */
export async function findCaps(
  { source }: Work,
  held: TypesSeen["held"],
  { windows }: WindowSupport,
): Promise<{ caps: Record<string, number>; uncounted: string[] }> {
  const caps: Record<string, number> = {};
  const uncounted: string[] = [];
  const suspects = Object.entries(held).filter(([, count]) => looksCapped(count));
  const time = (ms: number | undefined) => (ms === undefined ? undefined : new Date(ms).toISOString());
  await eachParallel(suspects, async ([type, all]) => {
    const count = (from: number | undefined, till: number | undefined) =>
      countMatches(source, { type, from: time(from), till: time(till) });
    const [entry] = (windows && (await firstPageEntries(source, { type, count: 1 }))) || [];
    const at = Date.parse(entry?.lastUpdated ?? "");
    const isLimit = Number.isNaN(at) ? undefined : await isCapped(all, at, count);
    if (isLimit === undefined) uncounted.push(type);
    else if (isLimit) caps[type] = all;
  });
  return { caps, uncounted: uncounted.sort() };
}
