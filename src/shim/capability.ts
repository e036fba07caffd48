/** The CapabilityStatement. Pure. */
import { outputFormats } from "../api/parameters.ts";
import { parametersAt } from "./parameters.ts";
import type { ShimSettings } from "./settings.ts";

/** What the conformance resources say about the service as a whole. */
export interface PublicService {
  /** The FHIR base as clients see it, without a slash at its end. */
  base: string;
  version: string;
  since: Date;
  compat: ShimSettings["compat"];
  /** Whether SMART Backend Services is on. */
  withTokens: boolean;
}

const operationOfType: Record<string, string> = { Group: "group-export", Patient: "patient-export" };

/** What `/metadata` answers. It lists only what this service does itself: it neither reads nor searches resources, the
 *  FHIR server does.
 *  @param types that can be exported. Clients look for them in `rest.resource`, where the IG says that they SHOULD
 *    be */
export function capabilityStatement(service: PublicService, types: Iterable<string>): unknown {
  const { base, version, since, compat, withTokens } = service;
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
        ...(withTokens && { security: smartSecurity(base) }),
        resource: [...new Set(["Group", "Patient", ...types])].sort().map((type) => ({
          type,
          ...(operationOfType[type] && { operation: exportOperation(base, operationOfType[type]) }),
        })),
        operation: exportOperation(base, "export"),
      },
    ],
  };
}

/** Names the IG's own definition, for which Inferno and other clients look. The service's definition says what is
 *  really supported, and that it is based on the IG's. */
const exportOperation = (base: string, id: string) => [
  {
    name: "export",
    definition: `http://hl7.org/fhir/uv/bulkdata/OperationDefinition/${id}`,
    documentation: `Parameters as in ${base}/OperationDefinition/${id}.`,
  },
];

const smartSecurity = (base: string) => ({
  service: [
    {
      coding: [{ system: "http://terminology.hl7.org/CodeSystem/restful-security-service", code: "SMART-on-FHIR" }],
      text: "SMART Backend Services",
    },
  ],
  description: `Access tokens: see ${base}/.well-known/smart-configuration.`,
});
