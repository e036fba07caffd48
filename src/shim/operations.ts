/** OperationDefinitions of the three exports, from the same table that reads their requests. Pure. */
import { type Level, parametersAt } from "./parameters.ts";

const operations: Record<string, { level: Level; canonical: string; on: Record<string, unknown>; title: string }> = {
  export: {
    level: "System",
    canonical: "export",
    on: { resource: ["Resource"], system: true, type: false, instance: false },
    title: "All resources",
  },
  "patient-export": {
    level: "Patient",
    canonical: "patient-export",
    on: { resource: ["Patient"], system: false, type: true, instance: false },
    title: "All patients: the resources of the Patient compartment",
  },
  "group-export": {
    level: "Group",
    canonical: "group-export",
    on: { resource: ["Group"], system: false, type: false, instance: true },
    title: "The members of a Group: the resources of their compartments",
  },
};

/** By id, as `/OperationDefinition/{id}` answers them. */
export function operationDefinitions(
  base: string,
  version: string,
  date: Date,
  compat: "ig" | "azure",
): Record<string, object> {
  return Object.fromEntries(
    Object.entries(operations).map(([id, { level, canonical, on, title }]) => [
      id,
      {
        resourceType: "OperationDefinition",
        id,
        url: `${base}/OperationDefinition/${id}`,
        version,
        name: `FhirExport${level}`,
        title,
        status: "active",
        kind: "operation",
        date: date.toISOString(),
        description: `${title}, as newline-delimited JSON. Asynchronous: Prefer: respond-async; by GET, or by POST of a Parameters resource.`,
        affectsState: false,
        code: "export",
        base: `http://hl7.org/fhir/uv/bulkdata/OperationDefinition/${canonical}`,
        ...on,
        parameter: parametersAt(level, compat).map(([name, { type, max, documentation }]) => ({
          name,
          use: "in",
          min: 0,
          max,
          documentation,
          type,
          ...(type === "Reference" && { targetProfile: ["http://hl7.org/fhir/StructureDefinition/Patient"] }),
        })),
      },
    ]),
  );
}
