import { checkTypeFilter, isID } from "../api/parameters.ts";
import { readBody } from "./body.ts";
import type { Issue } from "./outcome.ts";
import {
  type Level,
  type Parameter,
  type ParameterRules,
  parameters,
  parametersAt,
  type SpecParts,
  unsupported,
} from "./parameters.ts";
import { type HeaderRules, readHeaders } from "./prefer.ts";

export type { SpecParts } from "./parameters.ts";

/** A kick-off as it came in. Pure data, so that parsing is a table of cases. */
export interface KickOff {
  level: Level;
  method: "GET" | "POST";
  groupId?: string | undefined;
  accept?: string | undefined;
  /** all Prefer lines, joined by commas */
  prefer?: string | undefined;
  /** raw, without the question mark */
  query: string;
  contentType?: string;
  body?: Buffer;
}

export type ParseRules = HeaderRules & ParameterRules;

export type Parsed =
  | { spec: SpecParts; warnings: string[]; separateStatus: boolean; lenient: boolean }
  | {
      /** of the answer: 400, or 415 */
      status: number;
      issues: Issue[];
    };

/** spec.origin.warnings holds as many */
const maxWarnings = 32;

/** Turns a kick-off into parts of a FhirExport's spec, or into everything that is wrong with it. */
export function parseKickOff(request: KickOff, now: Date, rules: ParseRules): Parsed {
  const { level, method } = request;
  const issues: Issue[] = [];
  const warnings: string[] = [];
  const fault = (code: Issue["code"], text: string) => void issues.push({ code, text });
  const { lenient, separateStatus } = readHeaders(request.accept, request.prefer, rules, fault);
  const known = Object.fromEntries(parametersAt(level, rules.compat));
  const drop = (what: string, ifStrict: string) => {
    if (lenient) warnings.push(`${what} is not supported and was ignored`);
    else fault("not-supported", `${what} is not supported; ${ifStrict}`);
  };

  const spec: SpecParts = { level };
  if (level === "Group") {
    if (isID(request.groupId ?? "")) spec.groupId = request.groupId!;
    else fault("invalid", "the Group's id in the path must be 1 to 64 letters, digits, hyphens and dots");
  }
  const body = method === "POST" ? readBody(request.contentType, request.body, known) : { values: [] };
  if ("issue" in body) return { status: body.status, issues: [...issues, body.issue] };

  const posted = new Set(body.values.map(([name]) => name));
  for (const [name, values] of grouped([...new URLSearchParams(request.query), ...body.values])) {
    const parameter: Parameter | undefined = Object.hasOwn(known, name) ? known[name] : undefined;
    if (parameter?.postOnly && !posted.has(name))
      drop(`the parameter ${name} in a URL`, "send it by POST, in a Parameters resource");
    else if (parameter) parameter.apply(spec, values, (text) => fault("invalid", `${name} ${text}`), rules);
    else drop(`the parameter ${quotedName(name)}`, instead(name, level, Object.keys(known)));
  }

  // Azure's clients get an empty export for it
  if (spec.since && Date.parse(spec.since) > now.getTime() && rules.compat === "ig")
    fault("invalid", "_since is in the future");
  if (spec.since && spec.until && Date.parse(spec.since) >= Date.parse(spec.until))
    fault("invalid", "_since must be before _until");
  if (rules.compat === "azure" && spec.typeFilters && !spec.types) fault("required", "_typeFilter needs _type");
  checkFilters(spec, lenient, warnings, fault);
  if (warnings.length > maxWarnings)
    fault("invalid", `more than ${maxWarnings} things of the request are not supported`);
  return issues.length ? { status: 400, issues } : { spec, warnings, separateStatus, lenient };
}

/** A filter of a type that is not exported has no effect (Bulk Data IG 3, processing model): lenient says so, strict takes it for a mistake. */
function checkFilters(
  spec: SpecParts,
  lenient: boolean,
  warnings: string[],
  fault: (code: Issue["code"], text: string) => void,
): void {
  const why = new Set<string>();
  const kept = (spec.typeFilters ?? []).filter((filter) => {
    const wrong = checkTypeFilter(filter);
    const outside = wrong ?? checkTypeFilter(filter, spec.types);
    if (wrong !== undefined || !lenient) {
      if (outside !== undefined) why.add(`_typeFilter: ${outside}`);
      return true;
    }
    if (outside !== undefined) warnings.push(`_typeFilter: ${outside}, and was ignored`);
    return outside === undefined;
  });
  for (const text of why) fault("invalid", text);
  if (kept.length > 0) spec.typeFilters = kept;
  else delete spec.typeFilters;
}

/** What to do about a parameter that is not there. */
function instead(name: string, level: Level, supported: string[]): string {
  const hint = Object.hasOwn(unsupported, name) ? unsupported[name] : undefined;
  if (hint) return `${hint} (Prefer: handling=lenient ignores it)`;
  const levels = Object.hasOwn(parameters, name) ? parameters[name]!.levels : undefined;
  if (levels && !levels.includes(level)) return `it is for the levels ${levels.join(" and ")}`;
  return `supported are ${supported.join(", ")} (Prefer: handling=lenient ignores others)`;
}

function grouped(all: [string, string][]): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const [name, value] of all) found.set(name, [...(found.get(name) ?? []), value]);
  return found;
}

/** a name that a client made up, fit for a sentence */
const quotedName = (name: string) => (/^[\w.:$-]{1,64}$/.test(name) ? name : JSON.stringify(name.slice(0, 64)));
