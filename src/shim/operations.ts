/** The OperationDefinitions of the three exports, made from the same table that reads their requests. Pure. */
import type { PublicService } from "./capability.ts";
import { type Level, parametersAt } from "./parameters.ts";

/** Their ids, in the paths of `/OperationDefinition/{id}` and in the IG's canonical URLs. */
export const operationIds = ["export", "patient-export", "group-export"] as const;

const operations: Record<
  (typeof operationIds)[number],
  { level: Level; on: Record<string, boolean | string[]>; title: string }
> = {
  export: {
    level: "System",
    on: { resource: ["Resource"], system: true, type: false, instance: false },
    title: "All resources",
  },
  "patient-export": {
    level: "Patient",
    on: { resource: ["Patient"], system: false, type: true, instance: false },
    title: "All patients: the resources of the Patient compartment",
  },
  "group-export": {
    level: "Group",
    on: { resource: ["Group"], system: false, type: false, instance: true },
    title: "The members of a Group: the resources of their compartments",
  },
};

/** The definitions by their id. */
export function operationDefinitions({ base, version, since, compat }: PublicService): Record<string, object> {
  return Object.fromEntries(
    Object.entries(operations).map(([id, { level, on, title }]) => [
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
        date: since.toISOString(),
        description: `${title}, as newline-delimited JSON. Asynchronous: Prefer: respond-async; by GET, or by POST of a Parameters resource.`,
        affectsState: false,
        code: "export",
        base: `http://hl7.org/fhir/uv/bulkdata/OperationDefinition/${id}`,
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
