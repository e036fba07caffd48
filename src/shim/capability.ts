import { outputFormats } from "../api/parameters.ts";
import { parametersAt } from "./parameters.ts";

const levels: Record<string, string> = { Group: "group-export", Patient: "patient-export" };

/** What `/metadata` answers: only what this service does by itself; reads and searches are the FHIR server's, not ours. Pure.
 *  @param withTokens SMART Backend Services is on
 *  @param types that can be exported: clients look here for what they may ask for (IG: they SHOULD be in rest.resource) */
export function capabilityStatement(
  base: string,
  version: string,
  since: Date,
  compat: "ig" | "azure",
  withTokens: boolean,
  types: Iterable<string>,
): unknown {
  // the IG's canonical (Inferno and others look for it); what is really supported is in ours, which says what it is based on
  const operation = (id: string) => [
    {
      name: "export",
      definition: `http://hl7.org/fhir/uv/bulkdata/OperationDefinition/${id}`,
      documentation: `Parameters as in ${base}/OperationDefinition/${id}.`,
    },
  ];
  const names = parametersAt("Patient", compat).map(([name]) => name);
  return {
    resourceType: "CapabilityStatement",
    status: "active",
    date: since.toISOString(),
    kind: "instance",
    instantiates: ["http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data"],
    software: { name: "fhir-export", version },
    implementation: {
      description: `Bulk export only. Parameters: ${names.join(", ")}. Formats: ${outputFormats.join(", ")}. One type in a file.`,
      url: base,
    },
    fhirVersion: "4.0.1",
    format: ["application/fhir+json"],
    rest: [
      {
        mode: "server",
        documentation:
          "Exports of all resources, of all patients and of a Group's members, as of one moment (transactionTime). Binary, Bundle, Parameters and OperationOutcome are exported only when _type names them.",
        ...(withTokens && {
          security: {
            service: [
              {
                coding: [
                  { system: "http://terminology.hl7.org/CodeSystem/restful-security-service", code: "SMART-on-FHIR" },
                ],
                text: "SMART Backend Services",
              },
            ],
            description: `Access tokens: see ${base}/.well-known/smart-configuration.`,
          },
        }),
        resource: [...new Set(["Group", "Patient", ...types])]
          .sort()
          .map((type) => ({ type, ...(levels[type] && { operation: operation(levels[type]) }) })),
        operation: operation("export"),
      },
    ],
  };
}
