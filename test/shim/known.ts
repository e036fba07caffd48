// A source and a target as the catalog may know them.
export const source = {
  metadata: { name: "hospital" },
  spec: { baseURL: "https://fhir.example/r4", auth: { none: {} } },
};
export const target = {
  metadata: { name: "research" },
  spec: {
    azureBlob: {
      accountURL: "https://a.blob.core.windows.net",
      auth: { workloadIdentity: { serviceAccountName: "x" } },
    },
  },
};
export const types = new Set(["Patient", "Observation", "Organization"]);
