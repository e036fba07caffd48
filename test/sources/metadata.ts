import { parametersOf, readable, searchable } from "./parameters.ts";

/** What the server's CapabilityStatement is like. */
interface StatementOptions {
  typeHistory: boolean;
  instanceHistory: boolean;
  interactions: boolean;
  /** members in place of those that it has */
  changed: Record<string, unknown>;
}

/** The CapabilityStatement, as text. */
export function capabilities(base: string, options: StatementOptions): string {
  const interactions = (codes: (string | false)[]) =>
    options.interactions ? codes.filter((code) => code !== false).map((code) => ({ code })) : undefined;
  return JSON.stringify({
    resourceType: "CapabilityStatement",
    status: "active",
    date: "2025-01-01",
    kind: "instance",
    software: { name: "fhir-export sample source" },
    implementation: { description: "A sample of synthetic data", url: base },
    fhirVersion: "4.0.1",
    format: ["application/fhir+json", "json"],
    rest: [
      {
        mode: "server",
        resource: [
          ...searchable.map((type) => ({
            type,
            interaction: interactions([
              "read",
              "vread",
              "update",
              "delete",
              "search-type",
              options.typeHistory && "history-type",
              options.instanceHistory && "history-instance",
            ]),
            versioning: "versioned",
            searchParam: [
              { name: "_id", type: "token" },
              { name: "_lastUpdated", type: "date" },
              ...Object.entries(parametersOf(type)).map(([name, { kind }]) => ({ name, type: kind })),
            ],
          })),
          ...readable.map((type) => ({ type, interaction: interactions(["read"]) })),
        ].sort((a, b) => (a.type < b.type ? -1 : 1)),
      },
    ],
    ...options.changed,
  });
}
