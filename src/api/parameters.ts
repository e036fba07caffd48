// The rules for the parameters of an export, used for the HTTP request (src/shim) and for the object (src/operator).
// Their texts are read by people and go into status and logs, so none of them quotes a value.
import type { ExportTarget } from "./exporttarget.gen.ts";
import { allowedContainers, isContainerName, matchesContainer } from "./names.ts";

/** The three spellings of NDJSON. */
export const outputFormats = ["application/fhir+ndjson", "application/ndjson", "ndjson"] as const;
type OutputFormat = (typeof outputFormats)[number];
export const isOutputFormat = (value: string): value is OutputFormat =>
  (outputFormats as readonly string[]).includes(value);

/** Whether the value has the form of a FHIR type name. Whether the source knows the type is seen when it is asked. */
export const isTypeName = (value: string) => value.length <= 64 && /^[A-Z][A-Za-z]+$/.test(value);

/** Whether the value may be the id of a Patient or a Group. FHIR allows 64 letters, digits, hyphens and dots; servers
 *  have others. */
export const isID = (value: string) => /^[A-Za-z0-9._:=-]{1,128}$/.test(value);

/** Whether the value is `element` or `Type.element`, where the element is one of the resource's own level. */
export const isElementName = (value: string) =>
  value.length <= 128 && /^([A-Z][A-Za-z]+[.])?[a-z][A-Za-z]*$/.test(value);

/** The values of a list that is separated by commas, trimmed, without empty and repeated ones. */
export const splitList = (value: string): string[] => [
  ...new Set(
    value
      .split(",")
      .map((part) => part.trim())
      .filter(Boolean),
  ),
];

const instantPattern = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$/;

/** A FHIR instant as RFC 3339 with milliseconds and Z; undefined where the value is no instant. A `+` that became a
 *  space in a query is repaired. */
export function parseInstant(value: string): string | undefined {
  const text = value.replace(/ (?=\d\d:\d\d$)/, "+");
  if (!instantPattern.test(text)) return undefined;
  const time = Date.parse(text);
  // Date.parse reads 30 February as 2 March.
  const day = Number(text.slice(8, 10));
  const lastDay = new Date(Date.UTC(Number(text.slice(0, 4)), Number(text.slice(5, 7)), 0)).getUTCDate();
  return Number.isNaN(time) || day > lastDay ? undefined : new Date(time).toISOString();
}

/** The single filters of one `_typeFilter` value. Searches contain commas, too, so only a comma before `Type?`
 *  separates two filters, and `\,` never does. A second percent-encoding is undone, since several clients encode
 *  twice. */
export function splitTypeFilters(value: string): string[] {
  return value
    .split(/(?<!\\),(?=[A-Z][A-Za-z]+\?)/)
    .map((piece) => piece.trim())
    .filter(Boolean)
    .map((piece) => {
      if (!/%2C|%3D/i.test(piece)) return piece;
      try {
        return decodeURIComponent(piece);
      } catch {
        return piece;
      }
    });
}

/** Parameters that shape a result instead of choosing resources. In a filter they would break paging or exactness. */
const resultParameters = new Set([
  "_sort",
  "_count",
  "_include",
  "_revinclude",
  "_summary",
  "_elements",
  "_total",
  "_contained",
  "_containedType",
  "_format",
  "_pretty",
  "_score",
  "_page",
  "_offset",
  "_getpages",
]);

/** Why a filter cannot be used; undefined: it can.
 *  @param types the types of the export; absent = all */
export function checkTypeFilter(filter: string, types?: readonly string[]): string | undefined {
  const mark = filter.indexOf("?");
  const type = filter.slice(0, Math.max(mark, 0));
  if (!isTypeName(type) || mark === filter.length - 1 || filter.length > 2048)
    return "a type filter must have the form Type?query, for example Observation?category=laboratory, and at most 2,048 characters";
  if (types && !types.includes(type)) return `a type filter is for ${type}, which is not among the types of the export`;
  for (const pair of filter.slice(mark + 1).split("&")) {
    const [name = ""] = pair.split("=", 1);
    const base = name.split(":", 1)[0]!;
    if (!pair.includes("=") || !/^[A-Za-z_][A-Za-z0-9_.:-]*$/.test(name))
      return `the type filter for ${type} cannot be parsed: each part must have the form parameter=value`;
    if (resultParameters.has(base))
      return `the type filter for ${type} has the result parameter ${base}; a filter can only choose resources`;
  }
  return undefined;
}

/** Why an export cannot write to the container that it names; undefined: it can. */
export function checkContainer(name: string, target: ExportTarget["spec"]): string | undefined {
  if (!isContainerName(name))
    return "the container's name must be 3 to 63 lower-case letters, digits and single hyphens, and begin and end with a letter or digit";
  const patterns = allowedContainers(target);
  return matchesContainer(name, patterns)
    ? undefined
    : `the target allows only these containers: ${patterns.join(", ") || "none"}`;
}
