/** The values with which tests render the chart, by name: all values at their defaults, and each choice at least
 *  once. */
const source = { baseURL: "https://fhir.example.org/r4" };
const blob = { accountURL: "https://account.blob.core.windows.net", container: "fhir" };
const target = { azureBlob: blob, secret: { "connection-string": "UseDevelopmentStorage=true" } };
const auth = {
  clients: [{ id: "research", jwksURL: "https://research.example.org/jwks.json", scopes: "system/*.rs" }],
};

export const variants: Record<string, object> = {
  defaults: {},
  usual: { source, target },
  "with everything": {
    fullnameOverride: "exports",
    commonLabels: { team: "data" },
    image: { digest: `sha256:${"0".repeat(64)}` },
    imagePullSecrets: ["registry", { name: "mirror" }],
    imageCredentials: { registry: "registry.example.org", username: "u", password: "p", namespaces: ["default"] },
    scope: { namespaces: ["default", "research"] },
    operator: {
      replicas: 2,
      maxExports: 5,
      podLabels: { a: "b" },
      podAnnotations: { c: "d" },
      nodeSelector: { "kubernetes.io/os": "linux" },
      tolerations: [{ key: "data", operator: "Exists" }],
      affinity: { nodeAffinity: {} },
      topologySpreadConstraints: [
        {
          maxSkew: 1,
          topologyKey: "zone",
          whenUnsatisfiable: "ScheduleAnyway",
          labelSelector: { matchLabels: { a: "b" } },
        },
      ],
      priorityClassName: "high",
      podMonitor: { enabled: true, labels: { release: "prometheus" } },
      serviceAccount: { annotations: { a: "b" } },
    },
    shim: {
      replicas: 3,
      config: { compat: "azure", auth },
      tls: { secretName: "shim-tls" },
      ingress: {
        enabled: true,
        className: "nginx",
        host: "fhir.example.org",
        path: "/export",
        tlsSecretName: "fhir-tls",
        annotations: { a: "b" },
      },
      httpRoute: { enabled: true, parentRefs: [{ name: "gateway" }], hostnames: ["fhir.example.org"], path: "/export" },
      service: { annotations: { a: "b" } },
      nodeSelector: { "kubernetes.io/os": "linux" },
      tolerations: [{ key: "data", operator: "Exists" }],
      affinity: { nodeAffinity: {} },
      topologySpreadConstraints: [
        {
          maxSkew: 1,
          topologyKey: "zone",
          whenUnsatisfiable: "ScheduleAnyway",
          labelSelector: { matchLabels: { a: "b" } },
        },
      ],
      priorityClassName: "high",
    },
    worker: {
      serviceAccount: {
        create: true,
        annotations: { "azure.workload.identity/client-id": "00000000-0000-0000-0000-000000000000" },
      },
    },
    source: {
      ...source,
      auth: { smart: { clientID: "bulk" } },
      secret: { "private-key.jwk": '{"kty":"EC"}' },
      caBundle: "-----BEGIN CERTIFICATE-----\nMAo=\n-----END CERTIFICATE-----\n",
      paging: { count: 500 },
      limits: { maxConcurrentExports: 1 },
      settleSeconds: 5,
      history: "None",
    },
    target: { azureBlob: { ...blob, prefix: "exports", allowedContainers: ["fhir"] }, secret: { "sas-token": "sv=1" } },
    rbac: { aggregateToView: true, aggregateToEdit: true },
    networkPolicy: {
      egress: { enabled: true },
      metricsFrom: [{ namespaceSelector: { matchLabels: { a: "b" } } }],
      clientsFrom: [{ podSelector: {} }],
    },
    extraObjects: [
      { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "extra" }, data: { release: "{{ .Release.Name }}" } },
      "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: extra-text\ndata:\n  namespace: {{ .Release.Namespace }}\n",
    ],
  },
  "workload identity": {
    source: {
      ...source,
      auth: {
        workloadIdentity: { serviceAccountName: "fhir-export-worker", scope: "https://fhir.example.org/.default" },
      },
    },
    target: { azureBlob: { ...blob, auth: { workloadIdentity: { serviceAccountName: "fhir-export-worker" } } } },
    worker: { serviceAccount: { create: true } },
  },
  "a volume and basic authentication": {
    source: { ...source, secret: { username: "u", password: "p" } },
    target: { volume: { path: "fhir" }, persistentVolumeClaim: { create: true, storageClassName: "nfs" } },
  },
  "existing objects": {
    operator: { serviceAccount: { create: false, name: "own" } },
    shim: {
      source: "hospital",
      target: "research",
      targetSecret: "research",
      targetClaim: "exports",
      serviceAccount: { create: false, name: "own" },
      config: { auth },
      signingKey: { existingSecret: "signing" },
    },
    rbac: { create: false },
  },
  "an issuer's tokens, anonymous": {
    source,
    target,
    shim: {
      config: { auth: { issuer: { url: "https://login.example.org", audience: "fhir" } } },
      ingress: { enabled: true, host: "fhir.example.org" },
    },
  },
  namespaced: { scope: { namespaced: true }, source, target },
  "namespaced, several": {
    scope: { namespaced: true, namespaces: ["default", "research"] },
    source,
    target,
    admissionPolicy: { enabled: true },
  },
  bare: {
    crds: { upgrade: false },
    operator: { leaderElection: { enabled: false } },
    shim: { enabled: false },
    source,
    target,
    admissionPolicy: { enabled: false },
    networkPolicy: { enabled: false },
  },
};

/** Values that the chart refuses, and its message. */
export const refused: [name: string, values: object, says: RegExp][] = [
  ["a value that does not exist", { operator: { replica: 2 } }, /replica/],
  ["a value of another type", { operator: { replicas: "two" } }, /replicas/],
  [
    "more operators than one without leader election",
    { operator: { replicas: 2, leaderElection: { enabled: false } } },
    /operator\.replicas: more than one need operator\.leaderElection\.enabled/,
  ],
  [
    "an Ingress for everybody",
    { source, target, shim: { ingress: { enabled: true, host: "a.example" } } },
    /shim\.config\.auth/,
  ],
  [
    "an Ingress without host",
    { source, target, shim: { ingress: { enabled: true }, allowAnonymous: true } },
    /shim\.ingress\.host is required/,
  ],
  [
    "an HTTPRoute without gateway",
    { source, target, shim: { httpRoute: { enabled: true }, allowAnonymous: true } },
    /shim\.httpRoute\.parentRefs is required/,
  ],
  [
    "two targets",
    { source, target: { azureBlob: blob, volume: { claimName: "c" } } },
    /only one of azureBlob and volume/,
  ],
  ["a volume without claim", { source, target: { volume: { path: "x" } } }, /target\.volume\.claimName/],
  ["a FHIR server that is no URL", { source: { baseURL: "fhir.example.org" } }, /baseURL/],
  ["a field that a FhirSource has not", { source: { ...source, limits: { max: 1 } } }, /max/],
];
