import type { FhirExportSpec } from "../api/fhirexport.gen.ts";
import { isContainerName } from "../api/names.ts";
import {
  checkTypeFilter,
  isElementName,
  isID,
  isOutputFormat,
  isTypeName,
  outputFormats,
  parseInstant,
  splitList,
  splitTypeFilters,
} from "../api/parameters.ts";
import type { Issue } from "./outcome.ts";

/** A kick-off as it came in. Pure data, so that parsing is a table of cases. */
export interface KickOff {
  level: "System" | "Patient" | "Group";
  groupId?: string | undefined;
  accept?: string | undefined;
  /** all Prefer lines, joined by commas */
  prefer?: string | undefined;
  /** raw, without the question mark */
  query: string;
}

export type SpecParts = Pick<
  FhirExportSpec,
  "level" | "groupId" | "types" | "typeFilters" | "elements" | "since" | "until" | "outputFormat" | "container"
>;

export type Parsed = { spec: SpecParts; warnings: string[] } | { issues: Issue[] };

const acceptable = ["*/*", "application/*", "application/json", "application/fhir+json", "application/fhir+ndjson"];

/** Turns a kick-off into parts of a FhirExport's spec, or into everything that is wrong with it. */
export function parseKickOff(request: KickOff, now: Date): Parsed {
  const issues: Issue[] = [];
  const warnings: string[] = [];
  const prefer = preferences(request.prefer);
  const fault = (code: Issue["code"], text: string) => void issues.push({ code, text });

  checkHeaders(request, prefer, fault);
  const lenient = prefer.get("handling") === "lenient";
  const spec: SpecParts = { level: request.level };
  if (request.level === "Group") {
    if (isID(request.groupId ?? "")) spec.groupId = request.groupId!;
    else fault("invalid", "the Group's id in the path must be 1 to 64 letters, digits, hyphens and dots");
  }
  for (const [name, values] of grouped(request.query)) {
    const parameter = Object.hasOwn(parameters, name) ? parameters[name] : undefined;
    if (parameter) parameter(spec, values, (text) => fault("invalid", `${name} ${text}`));
    else if (lenient) warnings.push(`the parameter ${show(name)} is not supported and was ignored`);
    else
      fault(
        "not-supported",
        `the parameter ${show(name)} is not supported; supported are ${Object.keys(parameters).join(", ")} (Prefer: handling=lenient ignores others)`,
      );
  }
  if (spec.since && Date.parse(spec.since) > now.getTime()) fault("invalid", "_since is in the future");
  if (spec.since && spec.until && Date.parse(spec.since) >= Date.parse(spec.until)) fault("invalid", "_since must be before _until");
  for (const why of new Set((spec.typeFilters ?? []).map((filter) => checkTypeFilter(filter, spec.types))))
    if (why) fault("invalid", `_typeFilter: ${why}`);
  if (warnings.length > 32) fault("invalid", "more than 32 parameters are not supported");
  return issues.length ? { issues } : { spec, warnings };
}

function checkHeaders(request: KickOff, prefer: Map<string, string>, fault: (code: Issue["code"], text: string) => void): void {
  if (!request.accept) fault("required", "the header Accept is missing; send Accept: application/fhir+json");
  else if (!request.accept.split(",").some((range) => acceptable.includes(range.split(";")[0]!.trim().toLowerCase())))
    fault("invalid", "the header Accept must allow application/fhir+json");
  if (!prefer.has("respond-async")) fault("required", "the header Prefer is missing respond-async; send Prefer: respond-async");
  const handling = prefer.get("handling");
  if (handling !== undefined && handling !== "strict" && handling !== "lenient")
    fault("invalid", "Prefer: handling must be strict or lenient");
}

/** The tokens of Prefer, in whatever mixture of lines, commas and semicolons, in lower case (RFC 7240). */
function preferences(header: string | undefined): Map<string, string> {
  const tokens = (header ?? "").toLowerCase().split(/[,;]/);
  return new Map(
    tokens.map((token) => {
      const [name = "", value = ""] = token.split("=").map((part) => part.trim().replace(/^"|"$/g, ""));
      return [name, value];
    }),
  );
}

function grouped(query: string): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const [name, value] of new URLSearchParams(query)) found.set(name, [...(found.get(name) ?? []), value]);
  return found;
}

type Fault = (text: string) => void;

/** Each turns its values (repeats of one parameter) into a field of the spec. */
const parameters: Record<string, (spec: SpecParts, values: string[], fault: Fault) => void> = {
  _outputFormat(spec, values, fault) {
    // a plus that was not encoded arrives as a space
    const value = single(values, fault)?.replace(" ", "+");
    if (value === undefined) return;
    if (isOutputFormat(value)) spec.outputFormat = value;
    else fault(`must be one of ${outputFormats.join(", ")}`);
  },
  _since(spec, values, fault) {
    const value = instant(values, fault);
    if (value) spec.since = value;
  },
  _until(spec, values, fault) {
    const value = instant(values, fault);
    if (value) spec.until = value;
  },
  _type(spec, values, fault) {
    const types = splitList(values.join());
    if (types.length > 160) fault("may hold at most 160 types");
    else if (types.length && types.every(isTypeName)) spec.types = types;
    else fault("must be a comma list of resource types, for example Patient,Observation");
  },
  _typeFilter(spec, values, fault) {
    const filters = [...new Set(values.flatMap(splitTypeFilters))];
    if (filters.length > 32) fault("may hold at most 32 searches");
    else if (filters.length) spec.typeFilters = filters;
    else fault("must be searches of the form Type?query, for example Observation?category=laboratory");
  },
  _elements(spec, values, fault) {
    const elements = splitList(values.join());
    if (elements.length > 64) fault("may hold at most 64 elements");
    else if (elements.length && elements.every(isElementName)) spec.elements = elements;
    else fault("must be a comma list of top-level elements, for example id,Patient.birthDate");
  },
  _container(spec, values, fault) {
    const name = single(values, fault);
    if (name === undefined) return;
    if (isContainerName(name)) spec.container = name;
    else fault("must be 3 to 63 lower-case letters, digits and single hyphens, and begin and end with a letter or digit");
  },
};

function instant(values: string[], fault: Fault): string | undefined {
  const value = single(values, fault);
  if (value === undefined) return undefined;
  const parsed = parseInstant(value);
  if (!parsed) fault("must be an instant: date, time and time zone, for example 2026-01-31T00:00:00Z");
  return parsed;
}

function single(values: string[], fault: Fault): string | undefined {
  if (values.length > 1) fault("may be given once only");
  return values.length > 1 ? undefined : values[0];
}

/** a name that a client made up, fit for a sentence */
const show = (name: string) => (/^[\w.:$-]{1,64}$/.test(name) ? name : JSON.stringify(name.slice(0, 64)));
