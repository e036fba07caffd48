/** From a request to what an export is to hold. Pure, so that its tests are a table of cases. */
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
import { type HeaderRules, type ReportIssue, readHeaders } from "./prefer.ts";

/** A kick-off as it came in. */
export interface KickOff {
  level: Level;
  method: "GET" | "POST";
  groupId?: string | undefined;
  accept?: string | undefined;
  /** All Prefer lines, joined by commas. */
  prefer?: string | undefined;
  /** As it was sent, without the question mark. */
  query: string;
  contentType?: string;
  body?: Buffer;
}

export type ParseRules = HeaderRules & ParameterRules;

type ParsedKickOff =
  | { kind: "accepted"; spec: SpecParts; warnings: string[]; separateStatus: boolean; lenient: boolean }
  | { kind: "refused"; status: 400 | 415; issues: Issue[] };

/** `spec.origin.warnings` of a FhirExport holds no more. */
const maxWarnings = 32;

/** Turns a kick-off into parts of a FhirExport's spec, or into a list of everything that is wrong with it. */
export function parseKickOff(request: KickOff, now: Date, rules: ParseRules): ParsedKickOff {
  const { level, method } = request;
  const issues: Issue[] = [];
  const warnings: string[] = [];
  const fault: ReportIssue = (code, text) => void issues.push({ code, text });
  const { lenient, separateStatus } = readHeaders(request.accept, request.prefer, rules, fault);
  const known = Object.fromEntries(parametersAt(level, rules.compat));
  const refuseOrDrop = (what: string, advice: string) => {
    if (lenient) warnings.push(`${what} is not supported and was ignored`);
    else fault("not-supported", `${what} is not supported; ${advice}`);
  };

  const spec: SpecParts = { level };
  if (level === "Group") {
    if (isID(request.groupId ?? "")) spec.groupId = request.groupId!;
    else
      fault(
        "invalid",
        "the Group's id in the path must be 1 to 128 letters, digits, hyphens, dots, underscores, colons and equals signs",
      );
  }
  const body =
    method === "POST"
      ? readBody(request.contentType, request.body, known)
      : { kind: "values" as const, values: [] as [string, string][] };
  if (body.kind === "refused") return { kind: "refused", status: body.status, issues: [...issues, body.issue] };

  const posted = new Set(body.values.map(([name]) => name));
  for (const [name, values] of groupByName([...new URLSearchParams(request.query), ...body.values])) {
    const parameter: Parameter | undefined = Object.hasOwn(known, name) ? known[name] : undefined;
    if (parameter?.postOnly && !posted.has(name))
      refuseOrDrop(`the parameter ${name} in a URL`, "send it by POST, in a Parameters resource");
    else if (parameter) parameter.apply(spec, values, (text) => fault("invalid", `${name} ${text}`), rules);
    else refuseOrDrop(`the parameter ${printableName(name)}`, adviceFor(name, level, Object.keys(known)));
  }

  checkTimes(spec, now, rules, fault);
  if (rules.compat === "azure" && spec.typeFilters && !spec.types)
    fault("required", "_typeFilter needs _type; send the types to export, for example _type=Observation");
  warnings.push(...checkFilters(spec, lenient, fault));
  if (warnings.length > maxWarnings)
    fault(
      "invalid",
      `the request has more than ${maxWarnings} parameters and filters that are not supported; remove them`,
    );
  return issues.length > 0
    ? { kind: "refused", status: 400, issues }
    : { kind: "accepted", spec, warnings, separateStatus, lenient };
}

/** The clock of the source counts, and not this one. A source that takes its local time for UTC is up to 14 hours
 *  ahead; the transactionTime of its last export must be taken as the next `_since`. */
const mostAheadMs = 15 * 3_600_000;

function checkTimes({ since, until }: SpecParts, now: Date, { compat }: ParseRules, fault: ReportIssue): void {
  // Azure API for FHIR took such a kick-off and gave an empty export
  if (since && Date.parse(since) > now.getTime() + mostAheadMs && compat === "ig")
    fault(
      "invalid",
      "_since is in the future; send a time that has passed, such as the transactionTime of the last export",
    );
  if (since && until && Date.parse(since) >= Date.parse(until))
    fault("invalid", "_since must be before _until; send an earlier _since or a later _until");
}

/** Checks the filters and removes those from the spec that are dropped. A filter of a type that is not exported has no
 *  effect (Bulk Data IG 3, processing model): a lenient client gets a warning, for a strict one it is a mistake.
 *  @returns the warnings */
function checkFilters(spec: SpecParts, lenient: boolean, fault: ReportIssue): string[] {
  const faults = new Set<string>();
  const warnings: string[] = [];
  const kept = (spec.typeFilters ?? []).filter((filter) => {
    const malformed = checkTypeFilter(filter);
    const problem = malformed ?? checkTypeFilter(filter, spec.types);
    if (malformed !== undefined || !lenient) {
      if (problem !== undefined) faults.add(`_typeFilter: ${problem}`);
      return true;
    }
    if (problem !== undefined) warnings.push(`_typeFilter: ${problem}, and was ignored`);
    return problem === undefined;
  });
  for (const text of faults) fault("invalid", text);
  if (kept.length > 0) spec.typeFilters = kept;
  else delete spec.typeFilters;
  return warnings;
}

/** What a client can do that sent a parameter which is not supported. */
function adviceFor(name: string, level: Level, supported: string[]): string {
  const hint = Object.hasOwn(unsupported, name) ? unsupported[name] : undefined;
  if (hint) return `${hint} (Prefer: handling=lenient ignores it)`;
  const levels = Object.hasOwn(parameters, name) ? parameters[name]!.levels : undefined;
  if (levels && !levels.includes(level)) return `it is for the levels ${levels.join(" and ")}`;
  return `supported are ${supported.join(", ")} (Prefer: handling=lenient ignores others)`;
}

function groupByName(pairs: [name: string, value: string][]): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const [name, value] of pairs) found.set(name, [...(found.get(name) ?? []), value]);
  return found;
}

/** The name of a parameter that a client made up, cut and escaped so that it can stand in a sentence. */
const printableName = (name: string) => (/^[\w.:$-]{1,64}$/.test(name) ? name : JSON.stringify(name.slice(0, 64)));
