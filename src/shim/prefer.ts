/** The headers of a kick-off. Pure. */
import type { Issue } from "./outcome.ts";

export interface Preferences {
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

type ReportIssue = (code: Issue["code"], text: string) => void;

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
  } else if (
    isAzure
      ? accept.trim().toLowerCase() !== "application/fhir+json"
      : !ranges(accept).some((range) => acceptable.includes(range))
  )
    fault(
      "invalid",
      isAzure
        ? "the header Accept must be application/fhir+json"
        : "the header Accept must allow application/fhir+json",
    );

  const preferences = tokens(prefer);
  if (!preferences.has("respond-async") && rules.requirePrefer)
    fault("required", "the header Prefer is missing respond-async; send Prefer: respond-async");
  const handling = preferences.get("handling");
  if (handling !== undefined && handling !== "strict" && handling !== "lenient")
    fault("invalid", "Prefer: handling must be strict or lenient");
  if (isAzure && [...preferences.keys()].some((name) => name !== "respond-async" && name !== "handling"))
    fault("invalid", "the header Prefer may hold respond-async and handling only");
  return { lenient: handling === "lenient", separateStatus: preferences.has("separate-export-status") };
}

/** what an Accept takes; q=0 is a refusal */
const ranges = (accept: string): string[] =>
  accept
    .toLowerCase()
    .split(",")
    .map((range) => range.split(";").map((part) => part.trim()))
    .filter(([, ...parameters]) => !parameters.some((one) => /^q=0(\.0*)?$/.test(one)))
    .map(([range = ""]) => range);

/** The tokens of Prefer, in whatever mixture of lines, commas and semicolons, in lower case (RFC 7240: of several the first counts). */
function tokens(header: string | undefined): Map<string, string> {
  const found = new Map<string, string>();
  for (const token of (header ?? "").toLowerCase().split(/[,;]/)) {
    const [name = "", value = ""] = token.split("=").map((part) => part.trim().replace(/^"|"$/g, ""));
    if (name && !found.has(name)) found.set(name, value);
  }
  return found;
}
