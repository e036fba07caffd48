import r4 from "../../src/fhir/definitions/r4.json" with { type: "json" };
import type { Resource } from "../sources/expected.ts";

const choices = [
  "value",
  "effective",
  "medication",
  "reported",
  "occurrence",
  "deceased",
  "multipleBirth",
  "onset",
  "abatement",
  "performed",
];
const kinds =
  /^(Quantity|CodeableConcept|String|Boolean|Integer|Range|Ratio|SampledData|Time|DateTime|Period|Timing|Instant|Reference|Age)$/;

/** What `elements` leaves of a line, as text that can be compared: elements in the order of their names, and the tag
 *  SUBSETTED once.
 *  @param isCut the line was cut already: nothing is taken away, so what should be gone shows */
export function cutOf(line: string, elements: readonly string[], isCut = false): string {
  const resource = JSON.parse(line) as Resource;
  const type = resource.resourceType as string;
  const own = elements
    .map((name) => name.split("."))
    .filter(([first, second]) => second === undefined || first === type);
  if (own.length === 0) return line;
  const wanted = new Set([
    "resourceType",
    "id",
    "meta",
    ...[...((r4.mandatory as Record<string, string[]>)[type] ?? []), ...own.map((parts) => parts.at(-1)!)].map((name) =>
      name.replace(/\[x\]$/, ""),
    ),
  ]);
  const isWanted = (name: string) => {
    const plain = name.replace(/^_/, "");
    return wanted.has(plain) || [...wanted].some((base) => isChoice(base, plain));
  };
  const kept = Object.entries(resource).filter(([name]) => isCut || isWanted(name));
  const { tag = [], ...meta } = (resource.meta ?? {}) as { tag?: Resource[] };
  const others = tag.filter(({ code }) => code !== "SUBSETTED");
  const marks = tag.length - others.length;
  const cut = { ...Object.fromEntries(kept), meta: { ...meta, tag: others, marks: isCut ? marks : 1 } };
  return JSON.stringify(Object.entries(cut).sort(([a], [b]) => (a < b ? -1 : 1)));
}

const isChoice = (base: string, name: string): boolean =>
  choices.includes(base) && name.startsWith(base) && kinds.test(name.slice(base.length));
