import r4 from "./definitions/r4.json" with { type: "json" };
import r4b from "./definitions/r4b.json" with { type: "json" };
import r5 from "./definitions/r5.json" with { type: "json" };
import stu3 from "./definitions/stu3.json" with { type: "json" };

/** The releases of FHIR whose servers can be exported; STU3 at System level only. */
export type FHIRRelease = "STU3" | "R4" | "R4B" | "R5";

/** What is taken from a release's specification; test/tools/spec.ts makes it. */
export interface Definitions {
  /** of CompartmentDefinition/patient and the expressions of the search parameters that it names: type -> search
   *  parameter -> elements. A resource is in the compartment of a patient when one of these elements refers to the
   *  patient. Empty for STU3. */
  compartment: Record<string, Record<string, string[]>>;
  /** type -> the elements of its own level without which a resource is not valid, or means something else
   *  (StructureDefinition: min > 0, isModifier) */
  mandatory: Record<string, string[]>;
  /** type -> choice element of its own level (`value`) -> its names in JSON (`valueQuantity`, …) */
  choices: Record<string, Record<string, string[]>>;
}

const definitions: Record<FHIRRelease, Definitions> = {
  STU3: stu3 as unknown as Definitions,
  R4: r4 as unknown as Definitions,
  R4B: r4b as unknown as Definitions,
  R5: r5 as unknown as Definitions,
};

export const definitionsOf = (release: FHIRRelease): Definitions => definitions[release];

const releasesByVersion: Record<string, FHIRRelease> = { "3.0": "STU3", "4.0": "R4", "4.3": "R4B", "5.0": "R5" };

/** The release of a CapabilityStatement's `fhirVersion`, such as `4.0.1`; undefined where it is none that can be
 *  exported. */
export const releaseOf = (fhirVersion: string): FHIRRelease | undefined =>
  releasesByVersion[/^(\d+\.\d+)(?:[.-]|$)/.exec(fhirVersion)?.[1] ?? ""];

/** The types that are in the Patient compartment of some release: what a request may name before its source was
 *  asked. */
export const compartmentTypes: ReadonlySet<string> = new Set(
  Object.values(definitions).flatMap(({ compartment }) => Object.keys(compartment)),
);
