import type { Report } from "../contracts.ts";
import type { Proof } from "../evidence.ts";
import { listNames, withNoun } from "./words.ts";

/** How each type is proven, by its name. */
type TypeProofs = ReadonlyMap<string, Proof | "none">;

const order = ["none", "agreed", "counted"] as const;
/** the most items of status.proofs */
const maxLines = 200;

/** What the seal reported of its types. Types without resources are not among them, unless they may lack some. */
export function proofsOf({ types = [], others = {} }: Report): TypeProofs {
  const counted = types.flatMap(({ type, proof }) => (proof ? [[type, proof] as const] : []));
  const named = order.flatMap((proof) => (others[proof] ?? []).map((type) => [type, proof] as const));
  return new Map([...counted, ...named]);
}

/** A line for each type, as `kubectl describe` prints each text of a list on a line of its own. Types that are not
 *  proven come first. */
export const proofLines = (proofs: TypeProofs): string[] =>
  order.flatMap((proof) => namesOf(proofs, proof).map((type) => `${type}: ${proof}`)).slice(0, maxLines);

/** How many types are proven how, and which are not, for the message of a condition; empty where no type is known. */
export function proofSummary(proofs: TypeProofs): string {
  const [none, agreed, counted] = order.map((proof) => namesOf(proofs, proof)) as [string[], string[], string[]];
  return [
    none.length > 0 ? `not proven: ${listNames(none)}` : "",
    counted.length > 0 ? `${withNoun(counted.length, "type")} proven by the counts of the source` : "",
    agreed.length > 0 ? `${withNoun(agreed.length, "type")} by readings that agree (${listNames(agreed)})` : "",
  ]
    .filter(Boolean)
    .join("; ");
}

const namesOf = (proofs: TypeProofs, wanted: Proof | "none") =>
  [...proofs].flatMap(([type, proof]) => (proof === wanted ? [type] : [])).sort();
