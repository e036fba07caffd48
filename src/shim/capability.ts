/** What `/metadata` answers: only what this service does by itself; reads and searches are the FHIR server's, not ours. Pure. */
export function capabilityStatement(publicURL: string, version: string, since: Date): unknown {
  const operation = (name: string) => [{ name: "export", definition: `http://hl7.org/fhir/uv/bulkdata/OperationDefinition/${name}` }];
  return {
    resourceType: "CapabilityStatement",
    status: "active",
    date: since.toISOString(),
    kind: "instance",
    software: { name: "fhir-export", version },
    implementation: {
      description:
        "Bulk export only, by GET with Prefer: respond-async. Parameters: _outputFormat, _since, _until, _type, _typeFilter, _elements, _container.",
      url: publicURL,
    },
    fhirVersion: "4.0.1",
    format: ["application/fhir+json"],
    rest: [
      {
        mode: "server",
        resource: [
          { type: "Group", operation: operation("group-export") },
          { type: "Patient", operation: operation("patient-export") },
        ],
        operation: operation("export"),
      },
    ],
  };
}
