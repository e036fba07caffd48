/** What a kick-off may export: by its token, by the settings, and by what is known of the source and the target.
 *  Pure. */
import { checkContainer } from "../api/parameters.ts";
import { compartmentTypes } from "../fhir/release.ts";
import { type Access, anonymous, mayExport } from "./auth/scopes.ts";
import type { Known } from "./catalog.ts";
import type { Issue } from "./outcome.ts";
import type { SpecParts } from "./parameters.ts";
import type { ShimSettings } from "./settings.ts";

type Permitted = { kind: "permitted"; spec: SpecParts } | { kind: "refused"; issue: Issue };

/** Checks Group and types against the client's access and the administrator's `allow`. Where types are limited and the
 *  kick-off names none, all that are allowed are named.
 *  @param known types that the FHIR server has; undefined: it does not tell */
export function permitTypes(
  access: Access,
  allow: ShimSettings["allow"],
  spec: SpecParts,
  known: ReadonlySet<string> | undefined,
): Permitted {
  const { level = "System", groupId } = spec;
  let { types } = spec;
  for (const limits of [access, { ...anonymous, ...allow }]) {
    const allowed = mayExport(limits, { level, groupId, types });
    if (allowed.kind === "refused") return allowed;
    if (types === undefined && allowed.types) types = exportableTypes(allowed.types, level, known);
  }
  if (types?.length === 0) return { kind: "refused", issue: noTypeLeft };
  return { kind: "permitted", spec: types === undefined ? spec : { ...spec, types } };
}

const noTypeLeft: Issue = {
  code: "forbidden",
  text: "the FHIR server has none of the types that this client may export at this level; start the export at another level, or ask this service's administrator",
};

/** Those of the allowed types that the FHIR server has and that the level can hold. */
export function exportableTypes(
  allowed: readonly string[],
  level: SpecParts["level"],
  types: ReadonlySet<string> | undefined,
): string[] {
  return allowed.filter((type) => (types?.has(type) ?? true) && (level === "System" || compartmentTypes.has(type)));
}

/** At most this many types are named in one answer. */
const maxNamedTypes = 16;

/** Checks types and container against the source and the target, as far as they are known.
 *  @param lenient types that cannot be exported are dropped with a warning, as long as one type is left
 *  @returns the spec without what was dropped */
export function checkAgainstCatalog(
  { source, target, types }: Known,
  spec: SpecParts,
  lenient: boolean,
): { spec: SpecParts; issues: Issue[]; warnings: string[] } {
  const issues: Issue[] = [];
  if (!source) return { spec, issues, warnings: [] };
  const faults = new Map<string, { problem: string; advice: string }>();
  for (const type of spec.types ?? [])
    if (types && !types.has(type))
      faults.set(type, { problem: `the FHIR server cannot search ${type}`, advice: "remove it from _type" });
    else if (spec.level !== "System" && !compartmentTypes.has(type))
      faults.set(type, { problem: `${type} is not in the Patient compartment`, advice: "export it at system level" });
  const named = [...faults.values()].slice(0, maxNamedTypes);
  const left = (spec.types ?? []).filter((type) => !faults.has(type));
  const isDropped = lenient && left.length > 0 && faults.size > 0;
  if (!isDropped)
    for (const { problem, advice } of named)
      issues.push({ code: "not-supported", text: `_type: ${problem}; ${advice}` });
  const container = spec.container !== undefined && target ? checkContainer(spec.container, target.spec) : undefined;
  if (container) issues.push({ code: "invalid", text: `_container: ${container}` });
  if (!isDropped) return { spec, issues, warnings: [] };
  return {
    spec: withTypes(spec, left),
    issues,
    warnings: named.map(({ problem }) => `_type: ${problem}; it was ignored`),
  };
}

/** The spec with fewer types, and without the filters of those that are gone. */
function withTypes({ typeFilters, ...rest }: SpecParts, types: string[]): SpecParts {
  const kept = typeFilters?.filter((filter) => types.includes(filter.slice(0, filter.indexOf("?"))));
  return { ...rest, types, ...(kept?.length && { typeFilters: kept }) };
}
