/** The parameters of a kick-off: which values each takes, which field of the FhirExport it becomes, and how it is
 *  described. This one table serves parsing, the CapabilityStatement and the OperationDefinitions. Pure. */

import type { FhirExportSpec } from "../api/fhirexport.gen.ts";
import { isContainerName } from "../api/names.ts";
import {
  isElementName,
  isID,
  isOutputFormat,
  isTypeName,
  outputFormats,
  parseInstant,
  splitList,
  splitTypeFilters,
} from "../api/parameters.ts";
import { withoutTrailingSlash } from "../url.ts";

export type SpecParts = Pick<
  FhirExportSpec,
  | "level"
  | "groupId"
  | "patients"
  | "types"
  | "typeFilters"
  | "elements"
  | "since"
  | "until"
  | "outputFormat"
  | "container"
>;
export type Level = NonNullable<SpecParts["level"]>;

export interface ParameterRules {
  compat: "ig" | "azure";
  /** Base URLs with which a reference to a Patient may begin. */
  validReferenceBases: readonly string[];
}

/** Takes what is wrong with a parameter, as the rest of a sentence that begins with its name. */
type ReportFault = (text: string) => void;

export interface Parameter {
  /** Its FHIR type in an OperationDefinition. */
  type: "string" | "instant" | "Reference";
  /** The members `value[x]` of a Parameters resource that may hold it. */
  posted: readonly string[];
  max: "1" | "*";
  documentation: string;
  /** Absent: all levels. */
  levels?: readonly Level[];
  /** It cannot be sent by GET (Bulk Data IG 2 and 3). */
  postOnly?: boolean;
  /** The profile that has it; absent: both. */
  compat?: "azure";
  /** Sets its field of the spec.
   *  @param values one for each time the parameter was sent */
  apply(spec: SpecParts, values: string[], fault: ReportFault, rules: ParameterRules): void;
}

const asString = ["valueString", "valueCode", "valueUri", "valueUrl", "valueCanonical", "valueId"];
const asInstant = ["valueInstant", "valueDateTime", "valueDate", "valueString"];

const applyUntil: Parameter["apply"] = (spec, values, fault, { compat }) => {
  const value = readInstant(values, fault, compat);
  if (value && spec.until) fault("is there twice, as _until and as _till; send only one of them");
  else if (value) spec.until = value;
};

export const parameters: Readonly<Record<string, Parameter>> = {
  _outputFormat: {
    type: "string",
    posted: asString,
    max: "1",
    documentation: `Format of the files: ${outputFormats.join(", ")}, all of which mean newline-delimited JSON.`,
    apply(spec, values, fault) {
      // a plus that the client did not encode arrives as a space
      const value = singleValue(values, fault)?.replace(" ", "+");
      if (value === undefined) return;
      if (isOutputFormat(value)) spec.outputFormat = value;
      else fault(`must be one of ${outputFormats.join(", ")}; without it the files are NDJSON, too`);
    },
  },
  _since: {
    type: "instant",
    posted: asInstant,
    max: "1",
    documentation:
      "Only resources whose meta.lastUpdated is this or later. Of a Group's new members, too, only what has changed since; deletions since then are in the manifest's deleted, where the FHIR server keeps a history.",
    apply(spec, values, fault, { compat }) {
      const value = readInstant(values, fault, compat);
      if (value) spec.since = value;
    },
  },
  _until: {
    type: "instant",
    posted: asInstant,
    max: "1",
    documentation: "Only resources whose meta.lastUpdated is before this.",
    apply: applyUntil,
  },
  _till: {
    type: "instant",
    posted: asInstant,
    max: "1",
    documentation: "As _until.",
    compat: "azure",
    apply: applyUntil,
  },
  _type: {
    type: "string",
    posted: asString,
    max: "*",
    documentation:
      "Types of resources, repeated or as a comma list. Without it all that the FHIR server can search, at Patient and Group level those of the Patient compartment.",
    apply(spec, values, fault) {
      const types = splitList(values.join());
      if (types.length > 160) fault("may hold at most 160 types; leave it out to export all types");
      else if (types.length && types.every(isTypeName)) spec.types = types;
      else fault("must be a comma list of resource types, for example Patient,Observation");
    },
  },
  _typeFilter: {
    type: "string",
    posted: asString,
    max: "*",
    documentation:
      "Searches of the form Type?query; of several for one type, resources that match any of them. Types without one are exported whole.",
    apply(spec, values, fault) {
      const filters = [...new Set(values.flatMap(splitTypeFilters))];
      if (filters.length > 32)
        fault("may hold at most 32 searches; join those of one type by commas in a value, or start several exports");
      else if (filters.length) spec.typeFilters = filters;
      else fault("must be searches of the form Type?query, for example Observation?category=laboratory");
    },
  },
  _elements: {
    type: "string",
    posted: asString,
    max: "*",
    documentation:
      "Top-level elements to keep, as element or Type.element; mandatory ones stay, and the resources are tagged SUBSETTED.",
    apply(spec, values, fault) {
      const elements = splitList(values.join());
      if (elements.length > 64) fault("may hold at most 64 elements; leave it out to export whole resources");
      else if (elements.length && elements.every(isElementName)) spec.elements = elements;
      else fault("must be a comma list of top-level elements, for example id,Patient.birthDate");
    },
  },
  patient: {
    type: "Reference",
    posted: ["valueReference", "valueString", "valueUri", "valueId"],
    max: "*",
    documentation: "Only these patients, at most 100; at Group level they must be members. By POST only.",
    levels: ["Patient", "Group"],
    postOnly: true,
    apply(spec, values, fault, { validReferenceBases }) {
      const ids = [...new Set(values.map((value) => patientID(value, validReferenceBases)))];
      if (ids.includes(undefined)) fault("must be references to Patients, for example Patient/p-1");
      else if (ids.length > 100) fault("may name at most 100 patients; make a Group of them and export the Group");
      else spec.patients = ids as string[];
    },
  },
  _container: {
    type: "string",
    posted: asString,
    max: "1",
    documentation: "Container of the storage account to write to, as far as the service's administrator allows it.",
    apply(spec, values, fault) {
      const name = singleValue(values, fault);
      if (name === undefined) return;
      if (isContainerName(name)) spec.container = name;
      else
        fault(
          "must be 3 to 63 lower-case letters, digits and single hyphens, and begin and end with a letter or digit",
        );
    },
  },
  _maxCount: {
    type: "string",
    posted: [...asString, "valueInteger", "valuePositiveInt"],
    max: "1",
    documentation: "Taken and ignored: the service chooses the size of pages and files.",
    compat: "azure",
    apply(_spec, values, fault) {
      const value = singleValue(values, fault);
      if (value !== undefined && !(/^\d{1,5}$/.test(value) && Number(value) >= 1 && Number(value) <= 10_000))
        fault("must be a whole number from 1 to 10000");
    },
  },
  _isParallel: {
    type: "string",
    posted: [...asString, "valueBoolean"],
    max: "1",
    documentation: "Taken and ignored: exports are always parallel.",
    compat: "azure",
    apply(_spec, values, fault) {
      const value = singleValue(values, fault);
      if (value !== undefined && !/^(true|false)$/i.test(value)) fault("must be true or false");
    },
  },
};

/** Parameters of the specifications that this service does not have, with what to do instead. */
export const unsupported: Readonly<Record<string, string>> = {
  organizeOutputBy: "each file holds one type; leave the parameter out",
  allowPartialManifests: "the manifest comes when the export is whole; leave the parameter out",
  includeAssociatedData: "name the types that you want in _type, for example Provenance",
  _anonymizationConfig: "de-identified export is not available",
  _anonymizationConfigEtag: "de-identified export is not available",
  _anonymizationConfigCollectionReference: "de-identified export is not available",
  _format: "send the header Accept instead, and _outputFormat for the files",
};

/** The parameters of a level in a profile, in the order of the table. */
export const parametersAt = (level: Level, compat: "ig" | "azure"): [string, Parameter][] =>
  Object.entries(parameters).filter(
    ([, one]) => (one.levels?.includes(level) ?? true) && (one.compat ?? compat) === compat,
  );

/** The id in a reference to a Patient of this service or of its FHIR server: `p-1`, `Patient/p-1` or either below
 *  one of the bases. */
function patientID(value: string, bases: readonly string[]): string | undefined {
  const base = bases.find((one) => value.startsWith(`${withoutTrailingSlash(one)}/`));
  const relative = base === undefined ? value : value.slice(withoutTrailingSlash(base).length + 1);
  const id = relative.startsWith("Patient/") ? relative.slice("Patient/".length) : relative;
  return isID(id) ? id : undefined;
}

function readInstant(values: string[], fault: ReportFault, compat: "ig" | "azure"): string | undefined {
  const value = singleValue(values, fault);
  if (value === undefined) return undefined;
  const parsed = parseInstant(compat === "azure" ? completeDate(value) : value);
  if (!parsed)
    fault(
      /^\d{4}(-\d\d){0,2}$/.test(value)
        ? "must be an instant: add time and time zone to the date, for example 2026-01-31T00:00:00Z"
        : "must be an instant: date, time and time zone, for example 2026-01-31T00:00:00Z",
    );
  return parsed;
}

/** Completes a date as Azure API for FHIR does: it takes any precision, and reads a time without a zone as UTC. */
function completeDate(value: string): string {
  const [, year, month = "01", day = "01", time = "00:00", seconds = ":00", zone = "Z"] =
    /^(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d:\d\d)(:\d\d(?:\.\d+)?)?(Z|[+ -]\d\d:\d\d)?)?)?)?$/.exec(value) ?? [];
  return year === undefined ? value : `${year}-${month}-${day}T${time}${seconds}${zone}`;
}

/** The value of a parameter that may be sent once. */
function singleValue(values: string[], fault: ReportFault): string | undefined {
  if (values.length > 1) fault("may be sent only once");
  return values.length > 1 ? undefined : values[0];
}
