import type { Totals, TypeCount } from "./contracts.ts";

export const zeroTotals: Totals = { files: 0, resources: 0, bytes: 0, errors: 0 };

/** The sum of two counts; neither is changed. */
export const addTotals = (a: Totals, b: Totals): Totals => ({
  files: a.files + b.files,
  resources: a.resources + b.resources,
  bytes: a.bytes + b.bytes,
  errors: a.errors + b.errors,
});

/** Sums counts by their type, in the order in which the types appear first. What is `expected` is not summed. */
export function sumByType(counts: Iterable<Totals & { type: string }>): { totals: Totals; types: TypeCount[] } {
  const types = new Map<string, TypeCount>();
  let totals = zeroTotals;
  for (const count of counts) {
    const sum = addTotals(types.get(count.type) ?? zeroTotals, count);
    types.set(count.type, { type: count.type, ...sum });
    totals = addTotals(totals, count);
  }
  return { totals, types: [...types.values()] };
}
