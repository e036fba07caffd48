import type { ShardResult } from "../../contracts.ts";
import type { ClosedSearch, Proof } from "../../evidence.ts";

/** The evidence of one type. */
interface TypeEvidence {
  type: string;
  /** all searches of the type, as they were closed */
  searches: readonly ClosedSearch[];
  /** sentences for OperationOutcomes, of the type's closing */
  doubts: readonly string[];
}

/** What the evidence of an export says. */
export interface Judgement {
  exact: boolean;
  /** how each type is proven, by its name; "none": something may be missing, or may be other than it was */
  proofs: Record<string, Proof | "none">;
  /** why the export may not be exact */
  doubts: string[];
}

/** Decides whether an export is exact. This is the only place that does. It is exact when each search of each type has
 *  a proof that it was read whole, no closing has left a doubt, and nothing that the source has answered was left out.
 *  @param errors how many answers of the source could not be exported
 *  @param ofPlan doubts that hold whatever the types say */
export function judgeExport(types: readonly TypeEvidence[], errors: number, ofPlan: readonly string[] = []): Judgement {
  const proofs: Judgement["proofs"] = {};
  const doubts = [...ofPlan];
  for (const evidence of types) {
    const proof = proofOf(evidence.searches);
    proofs[evidence.type] = evidence.doubts.length > 0 ? "none" : proof;
    doubts.push(...evidence.doubts);
    if (proof === "none" && evidence.doubts.length === 0)
      doubts.push(`That all resources of ${evidence.type} were shown is not proven; some may be missing.`);
  }
  if (errors > 0)
    doubts.push(`${errors} answers of the source could not be exported; the error files of the shards say which.`);
  return { exact: doubts.length === 0, proofs, doubts };
}

/** A type is proven as its weakest search is. */
function proofOf(searches: readonly ClosedSearch[]): Proof | "none" {
  if (searches.some(({ proof }) => proof === undefined)) return "none";
  return searches.some(({ proof }) => proof === "agreed") ? "agreed" : "counted";
}

/** The evidence of each type, from the results of all shards: that of the shard that closes the type, which a type does
 *  not have that the source refuses.
 *  @param empty types that have no shard, because the source has shown no resource of them */
export function evidenceOf(results: readonly ShardResult[], empty: readonly string[]): TypeEvidence[] {
  const closed = new Map(results.filter((result) => result.closed).map((result) => [result.type, result]));
  const types = [...new Set(results.map(({ type }) => type))];
  return [
    ...types.map((type) => {
      const { closed: shards, doubts = [] } = closed.get(type) ?? {};
      return { type, searches: shards ? Object.values(shards).flat() : [{ shown: 0 }], doubts };
    }),
    ...empty.map((type) => ({ type, searches: [], doubts: [] })),
  ];
}
