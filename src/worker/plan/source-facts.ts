import type { Task } from "../../contracts.ts";
import { terminal } from "../../failure.ts";
import type { SourceClient } from "../../fhir/client.ts";
import { type Capabilities, countMatches, probePage } from "../../fhir/reads.ts";
import { baseOf } from "../../fhir/references.ts";
import { definitionsOf, type FHIRRelease, releaseOf } from "../../fhir/release.ts";
import { searchURL } from "../../fhir/search.ts";
import { eachParallel } from "../parallel.ts";

// What the plan takes from the source's CapabilityStatement.

/** Types that are exported only where spec.types names them. Binary is not bulk data. The others are generated for an
 *  answer. */
const neverByDefault = new Set(["Binary", "OperationOutcome", "Parameters", "Bundle"]);

/** The release of FHIR that the source has.
 *  @param warnings takes what the user should know
 *  @throws terminal SourceNotFHIR, naming fhirVersion; UnsupportedParameter, naming spec.level */
export function chooseRelease(
  { level }: Pick<Task["export"], "level">,
  { fhirVersion }: Pick<Capabilities, "fhirVersion">,
  warnings: string[],
): FHIRRelease {
  if (fhirVersion === undefined) {
    warnings.push("The source's CapabilityStatement names no fhirVersion; it was taken for FHIR R4.");
    return "R4";
  }
  const release = releaseOf(fhirVersion);
  // Anything may stand there, and an error shows no content of the source.
  const shown = /^[\w.-]{1,32}$/.test(fhirVersion) ? fhirVersion : "something else";
  if (release === undefined)
    throw terminal(
      "SourceNotFHIR",
      `the source's CapabilityStatement has the fhirVersion ${shown}; name a server of FHIR R4 (4.0), R4B (4.3), R5 (5.0) or STU3 (3.0) in spec.baseURL of the FhirSource`,
    );
  if (release === "STU3" && level !== "System")
    throw terminal(
      "UnsupportedParameter",
      `spec.level: the source has FHIR STU3 (fhirVersion ${shown}), which is exported at level System only`,
    );
  return release;
}

/** The names of types become parts of paths and URLs. */
const typeName = /^[A-Z][A-Za-z]{0,63}$/;

/** The types that the source can search.
 *  @param warnings takes what the user should know */
export function searchableTypes({ types }: Pick<Capabilities, "types">, warnings: string[]): ReadonlySet<string> {
  const named = new Set([...types].filter((type) => typeName.test(type)));
  const misnamed = types.size - named.size;
  if (misnamed > 0)
    warnings.push(
      `${misnamed} types of the source's CapabilityStatement have names that are no names of FHIR types; they are left out.`,
    );
  return named;
}

/** The types of an export: those that it names, or all that the source can search and that belong to its level. A
 *  source that does not say what it can search is asked for what the export names.
 *  @throws terminal UnknownType, UnsupportedParameter, both naming spec.types */
export function chooseTypes(
  { level, types = [] }: Pick<Task["export"], "level" | "types">,
  searchable: ReadonlySet<string>,
  release: FHIRRelease,
): string[] {
  const { compartment } = definitionsOf(release);
  const inLevel = (type: string) => level === "System" || type in compartment;
  if (types.length === 0) {
    const all = [...searchable].filter((type) => inLevel(type) && !neverByDefault.has(type)).sort();
    if (all.length === 0)
      throw terminal(
        "UnknownType",
        "spec.types: the source's CapabilityStatement lists no type of this level that can be searched (rest.resource.interaction); name the types to export",
      );
    return all;
  }
  const unknown = searchable.size > 0 ? types.filter((type) => !searchable.has(type)) : [];
  if (unknown.length > 0) throw terminal("UnknownType", `spec.types: the source cannot search ${unknown.join(", ")}`);
  const outside = types.filter((type) => !inLevel(type));
  if (outside.length > 0)
    throw terminal(
      "UnsupportedParameter",
      `spec.types: ${outside.join(", ")} is not in the Patient compartment of FHIR ${release}; use level System, or leave it out`,
    );
  return [...new Set(types)].sort();
}

/** The base URLs by which the source calls itself: in its CapabilityStatement, and in the self link of a search. */
export async function readNames(
  source: SourceClient,
  { url }: Pick<Capabilities, "url">,
  type: string,
): Promise<string[]> {
  const answer = await probePage(source, searchURL({ type, summary: true }));
  const self = "page" in answer ? baseOf(answer.page.self, type) : undefined;
  return [...new Set([url, self])].filter((name) => name !== undefined && name !== source.base.href) as string[];
}

/** Patients that one search counts. */
const countedAtATime = 100;

/** How many of these patients the source does not have; 0 where it does not count. */
export async function countMissingPatients(source: SourceClient, patients: readonly string[]): Promise<number> {
  const parts = Array.from({ length: Math.ceil(patients.length / countedAtATime) }, (_, at) =>
    patients.slice(at * countedAtATime, (at + 1) * countedAtATime),
  );
  const missing = await eachParallel(parts, async (values) => {
    const count = await countMatches(source, { type: "Patient", by: { parameter: "_id", values } });
    return count === undefined ? 0 : Math.max(0, values.length - count);
  });
  return missing.reduce((sum, one) => sum + one, 0);
}
