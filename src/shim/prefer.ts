/** The headers Accept and Prefer of a kick-off. Pure. */
import type { Issue } from "./outcome.ts";

interface Preferences {
  /** Prefer: handling=lenient */
  lenient: boolean;
  /** Prefer: separate-export-status */
  separateStatus: boolean;
}

export interface HeaderRules {
  compat: "ig" | "azure";
  requireAccept: boolean;
  requirePrefer: boolean;
}

/** Takes one thing that is wrong with a request. */
export type ReportIssue = (code: Issue["code"], text: string) => void;

const acceptable = ["*/*", "application/*", "application/json", "application/fhir+json", "application/fhir+ndjson"];

/** @param prefer all Prefer lines, joined by commas */
export function readHeaders(
  accept: string | undefined,
  prefer: string | undefined,
  rules: HeaderRules,
  fault: ReportIssue,
): Preferences {
  const isAzure = rules.compat === "azure";
  if (!accept) {
    if (rules.requireAccept) fault("required", "the header Accept is missing; send Accept: application/fhir+json");
  } else if (isAzure) {
    if (accept.trim().toLowerCase() !== "application/fhir+json")
      fault("invalid", "the header Accept must be application/fhir+json");
  } else if (!acceptedTypes(accept).some((type) => acceptable.includes(type)))
    fault("invalid", "the header Accept must allow application/fhir+json");

  const preferences = readPrefer(prefer);
  if (!preferences.has("respond-async") && rules.requirePrefer)
    fault("required", "the header Prefer is missing respond-async; send Prefer: respond-async");
  const handling = preferences.get("handling");
  if (handling !== undefined && handling !== "strict" && handling !== "lenient")
    fault("invalid", "Prefer: handling must be strict or lenient");
  if (isAzure && [...preferences.keys()].some((name) => name !== "respond-async" && name !== "handling"))
    fault("invalid", "the header Prefer may hold respond-async and handling only; remove the others");
  return { lenient: handling === "lenient", separateStatus: preferences.has("separate-export-status") };
}

/** The media types of an Accept header, in lower case, without those that are refused by q=0. */
const acceptedTypes = (accept: string): string[] =>
  accept
    .toLowerCase()
    .split(",")
    .map((range) => range.split(";").map((part) => part.trim()))
    .filter(([, ...parameters]) => !parameters.some((one) => /^q=0(\.0*)?$/.test(one)))
    .map(([type = ""]) => type);

/** The preferences by their name, in lower case. Clients separate them by lines, commas and semicolons. Of a
 *  repeated one the first counts (RFC 7240). */
function readPrefer(header: string | undefined): Map<string, string> {
  const found = new Map<string, string>();
  for (const preference of (header ?? "").toLowerCase().split(/[,;]/)) {
    const [name = "", value = ""] = preference.split("=").map((part) => part.trim().replace(/^"|"$/g, ""));
    if (name && !found.has(name)) found.set(name, value);
  }
  return found;
}
