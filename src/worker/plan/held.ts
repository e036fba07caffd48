import type { SourceClient } from "../../fhir/client.ts";
import { countMatches } from "../../fhir/reads.ts";
import type { Random } from "../../surroundings.ts";
import { eachParallel } from "../parallel.ts";
import type { Work } from "../work.ts";
import { isCapped, looksCapped } from "./caps.ts";
import { firstPageEntries, type TypeSamples, type TypesSeen, type WindowSupport } from "./probes.ts";

/** Holds what the source counts of its types against what it shows. A page is what proves that a type is empty, whether
 *  it is counted or not: servers that do not count answer 0, too. Nothing may be counted in a search that finds
 *  nothing, either.
 *  @param held what the source counts, by type
 *  @returns the types of which a page has shown no resource, and what is counted of the others; nothing is counted
 *    where the counts are refuted */
export async function checkCounts(
  { source, random }: Work,
  types: readonly string[],
  held: TypesSeen["held"],
  samples: TypeSamples,
): Promise<{ empty: string[]; held: TypesSeen["held"] }> {
  const empty: string[] = [];
  const looked = types.filter((type) => !held[type]);
  const some = Object.keys(held).find((type) => held[type]! > 0);
  const [isShown, estimates] = await Promise.all([
    eachParallel(looked, async (type) => {
      // Other probes look at the pages of types that are not counted.
      const entries = await (held[type] === 0 ? firstPageEntries(source, { type, count: 1 }) : samples.of(type));
      if (entries?.length === 0) empty.push(type);
      return held[type] === 0 && entries !== undefined && entries.length > 0;
    }),
    some !== undefined && isEstimating(source, some, random),
  ]);
  empty.sort();
  const counted = Object.fromEntries(Object.entries(held).filter(([type]) => !empty.includes(type)));
  return { empty, held: isShown.includes(true) || estimates ? {} : counted };
}

/** Whether the source counts something in a search that finds nothing: its counts are estimates then. */
async function isEstimating(source: SourceClient, type: string, random: Random): Promise<boolean> {
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
