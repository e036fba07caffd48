import type { Report, TypeCount } from "../contracts.ts";

/** Kubernetes cuts a pod's termination message at 4,096 bytes, and a report that is cut is not JSON. */
const maxReportBytes = 3500;

/** The report as JSON of at most `maxReportBytes`. Types that are not proven come first, then the largest ones. Where
 *  not all of them fit, the names of the others stand in `others`, as the proof of each type is what must not get lost;
 *  where even these do not fit, none do. */
export function renderReport({ types = [], ...report }: Report): string {
  const sorted = [...types].sort(
    (a, b) => rankOf(a) - rankOf(b) || resourcesOf(b) - resourcesOf(a) || (a.type < b.type ? -1 : 1),
  );
  const render = (count: number, others: readonly TypeCount[]) => {
    const byProof = Object.groupBy(others, ({ proof }) => proof!);
    const names = Object.fromEntries(
      Object.entries(byProof).map(([proof, ofProof]) => [proof, ofProof.map(({ type }) => type)]),
    );
    return JSON.stringify({
      ...report,
      ...(count > 0 && { types: sorted.slice(0, count) }),
      ...(others.length > 0 && { others: names }),
    });
  };
  const othersFrom = [(count: number) => sorted.slice(count).filter(({ proof }) => proof !== undefined), () => []];
  for (const others of othersFrom)
    for (let count = sorted.length; count >= 0; count--) {
      const text = render(count, others(count));
      if (Buffer.byteLength(text) <= maxReportBytes) return text;
    }
  return render(0, []);
}

const rankOf = ({ proof = "counted" }: TypeCount) => ["none", "agreed", "counted"].indexOf(proof);
const resourcesOf = ({ expected, resources }: TypeCount) => expected ?? resources;
