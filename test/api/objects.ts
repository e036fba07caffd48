// Objects that are valid or not, as data. They are given to ajv and src/api/rules.ts, which standalone uses
// (test/api/objects.test.ts), and to a real API server (test/cluster/crds.test.ts).
import type { FhirExportSpec, FhirExportStatus } from "../../src/api/fhirexport.gen.ts";
import { sources, targets } from "./referred-objects.ts";

export type Kind = "FhirExport" | "FhirSource" | "ExportTarget";
export interface Case {
  case: string;
  kind: Kind;
  spec: Record<string, unknown>;
  /** the spec of the object that it updates */
  old?: Record<string, unknown>;
  name?: string;
  /** a part of the refusal; absent = the object is valid */
  refused?: RegExp;
}

const base = { sourceRef: { name: "s" }, targetRef: { name: "t" } } satisfies FhirExportSpec;
const it = (what: string, spec: Record<string, unknown>, refused?: RegExp): Case => ({
  case: what,
  kind: "FhirExport",
  spec: { ...base, ...spec },
  ...(refused ? { refused } : {}),
});

const creates: Case[] = [
  it("the least", {}),
  it("everything at once", {
    level: "Group",
    groupId: "g-1",
    patients: ["p-1", "p-2"],
    types: ["Patient", "Observation"],
    typeFilters: ["Observation?code=a"],
    elements: ["id", "Patient.birthDate"],
    since: "2026-01-01T00:00:00Z",
    until: "2026-02-01T00:00:00.123+02:00",
    outputFormat: "ndjson",
    container: "export-a",
    output: { compression: "Gzip", maxFileSize: "64Ki" },
    onResourceError: "Fail",
    parallelism: 256,
    worker: {
      resources: { requests: { cpu: "250m", memory: 268435456 }, limits: { memory: "512Mi" } },
      nodeSelector: { pool: "batch" },
      tolerations: [{ key: "batch", operator: "Exists", effect: "NoSchedule" }],
      affinity: { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [] } } },
      priorityClassName: "low",
    },
    queueName: "batch",
    suspend: true,
    cancel: false,
    retry: 1,
    priority: -5,
    startDeadlineSeconds: 60,
    activeDeadlineSeconds: 3600,
    ttlSecondsAfterFinished: 0,
    deletionPolicy: "Delete",
    onCancel: "Keep",
    origin: { client: "c", request: "https://h.example/fhir/$export?_type=Patient", warnings: ["_x was ignored"] },
  }),
  { ...it("no source", {}, /sourceRef/), spec: { targetRef: { name: "t" } } },
  { ...it("no target", {}, /targetRef/), spec: { sourceRef: { name: "s" } } },
  it("a namespace in a reference", { sourceRef: { name: "s", namespace: "other" } }, /namespace/),
  it("an empty reference", { sourceRef: { name: "" } }, /sourceRef.name/),
  it("an unknown field", { image: "evil" }, /image/),
  it("an unknown worker field", { worker: { env: [] } }, /env/),
  { ...it("a dot in the name", {}, /DNS label/), name: "a.b" },
  { ...it("a name of 64 characters", {}, /DNS label/), name: "a".repeat(64) },
  { ...it("a name of 63 characters", {}), name: "a".repeat(63) },
  it("an unknown level", { level: "Everything" }, /level/),
  it("level Group without groupId", { level: "Group" }, /groupId must be given when level is Group/),
  it("groupId without level Group", { groupId: "g" }, /groupId must be given when level is Group/),
  it("groupId at level Patient", { level: "Patient", groupId: "g" }, /groupId must be given when level is Group/),
  it("a groupId with a slash", { level: "Group", groupId: "a/b" }, /groupId/),
  it("patients at level Patient", { level: "Patient", patients: ["a"] }),
  it("patients at System level", { patients: ["a"] }, /patients can be given at level Patient or Group only/),
  it("no patients at all in the list", { level: "Patient", patients: [] }, /patients/),
  it("101 patients", { level: "Patient", patients: Array.from({ length: 101 }, (_, i) => `p${i}`) }, /patients/),
  it("a patient twice", { level: "Patient", patients: ["a", "a"] }, /patients/),
  it("a patient with a slash", { level: "Patient", patients: ["Patient/a"] }, /patients/),
  it("a type in lower case", { types: ["patient"] }, /types/),
  it("a type twice", { types: ["Patient", "Patient"] }, /types/),
  it(
    "since = until",
    { since: "2026-01-01T00:00:00Z", until: "2026-01-01T01:00:00+01:00" },
    /since must be before until/,
  ),
  it(
    "since after until",
    { since: "2026-01-02T00:00:00Z", until: "2026-01-01T00:00:00Z" },
    /since must be before until/,
  ),
  it("since is a date", { since: "2026-01-01" }, /since/),
  it("until is no instant", { until: "soon" }, /until/),
  it("a filter without a type", { typeFilters: ["code=a"] }, /typeFilters must have the form Type\?query/),
  it("a filter without a query", { typeFilters: ["Observation?"] }, /typeFilters must have the form Type\?query/),
  it("33 filters", { typeFilters: Array.from({ length: 33 }, (_, i) => `Observation?code=${i}`) }, /typeFilters/),
  it("32 filters of 2,048 characters", {
    typeFilters: Array.from({ length: 32 }, (_, i) => `Observation?code=${i}`.padEnd(2048, "x")),
  }),
  it("a filter of 2,049 characters", { typeFilters: ["Observation?code=".padEnd(2049, "x")] }, /typeFilters/),
  it(
    "a filter for a type that is not asked for",
    { types: ["Patient"], typeFilters: ["Observation?code=a"] },
    /of a type that types lists/,
  ),
  it(
    "a filter for a type whose name begins alike",
    { types: ["Patient"], typeFilters: ["PatientX?a=b"] },
    /of a type that types lists/,
  ),
  it("an element below the top", { elements: ["Patient.name.family"] }, /elements/),
  it("an unknown format", { outputFormat: "csv" }, /outputFormat/),
  it("a container with a capital", { container: "Abc" }, /container must be 3 to 63/),
  it("a container with two hyphens", { container: "a--b" }, /container must be 3 to 63/),
  it("a container that ends with a hyphen", { container: "abc-" }, /container must be 3 to 63/),
  it("a container of two letters", { container: "ab" }, /container/),
  it("a container that climbs", { container: "../x" }, /container must be 3 to 63/),
  it("an unknown compression", { output: { compression: "Zstd" } }, /compression/),
  it("maxFileSize with a unit that is none", { output: { maxFileSize: "1GB" } }, /maxFileSize must be a whole number/),
  it("maxFileSize with a fraction", { output: { maxFileSize: "1.5Gi" } }, /maxFileSize must be a whole number/),
  it("maxFileSize too small", { output: { maxFileSize: "63Ki" } }, /maxFileSize must be a whole number/),
  it("maxFileSize too great", { output: { maxFileSize: "2Ti" } }, /maxFileSize must be a whole number/),
  it("maxFileSize in plain bytes", { output: { maxFileSize: "1000000" } }),
  it("an unknown onResourceError", { onResourceError: "Ignore" }, /onResourceError/),
  it("parallelism 0", { parallelism: 0 }, /parallelism/),
  it("parallelism 257", { parallelism: 257 }, /parallelism/),
  it("a quantity that is none", { worker: { resources: { limits: { memory: "much" } } } }, /memory/),
  it("an unknown toleration operator", { worker: { tolerations: [{ operator: "Like" }] } }, /operator/),
  it("retry below 0", { retry: -1 }, /retry/),
  it("startDeadlineSeconds 0", { startDeadlineSeconds: 0 }, /startDeadlineSeconds/),
  it("ttlSecondsAfterFinished below 0", { ttlSecondsAfterFinished: -1 }, /ttlSecondsAfterFinished/),
  it("an unknown deletionPolicy", { deletionPolicy: "Maybe" }, /deletionPolicy/),
  it("an unknown onCancel", { onCancel: "Maybe" }, /onCancel/),
];

/** Two values for each field of spec. Exported, so that a test can check that no field is missing. */
export const values: {
  [Field in keyof Required<FhirExportSpec>]: [NonNullable<FhirExportSpec[Field]>, NonNullable<FhirExportSpec[Field]>];
} = {
  sourceRef: [{ name: "s" }, { name: "s2" }],
  targetRef: [{ name: "t" }, { name: "t2" }],
  level: ["Patient", "System"],
  groupId: ["a", "b"],
  patients: [["a"], ["a", "b"]],
  types: [["Patient"], ["Patient", "Observation"]],
  typeFilters: [["Patient?active=true"], ["Patient?active=false"]],
  elements: [["id"], ["id", "meta"]],
  since: ["2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"],
  until: ["2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"],
  outputFormat: ["ndjson", "application/ndjson"],
  container: ["export-a", "export-b"],
  output: [{ compression: "Gzip" }, { compression: "None" }],
  onResourceError: ["Fail", "Record"],
  parallelism: [2, 3],
  worker: [{ priorityClassName: "a" }, { priorityClassName: "b" }],
  queueName: ["a", "b"],
  suspend: [true, false],
  cancel: [false, true],
  retry: [1, 2],
  priority: [1, 2],
  startDeadlineSeconds: [60, 61],
  activeDeadlineSeconds: [60, 61],
  ttlSecondsAfterFinished: [60, 61],
  deletionPolicy: ["Delete", "Retain"],
  onCancel: ["Keep", "Delete"],
  origin: [{ client: "a" }, { client: "b" }],
};
const mutable = [
  "suspend",
  "cancel",
  "retry",
  "priority",
  "parallelism",
  "worker",
  "ttlSecondsAfterFinished",
  "deletionPolicy",
  "onCancel",
];
/** Fields whose default equals the second value, so that adding this value changes nothing. */
const defaulted: Record<string, unknown> = {
  level: "System",
  outputFormat: "application/fhir+ndjson",
  onResourceError: "Record",
};

const changes: Case[] = Object.entries(values).flatMap(([field, [one, another]]): Case[] => {
  const fixed = !mutable.includes(field);
  const refused = fixed ? { refused: new RegExp(`${field} cannot be changed`) } : {};
  const around = field === "groupId" ? { level: "Group" } : field === "patients" ? { level: "Patient" } : {};
  const spec = { ...base, ...around };
  const made: Case[] = [
    {
      case: `${field} is changed`,
      kind: "FhirExport",
      old: { ...spec, [field]: one },
      spec: { ...spec, [field]: another },
      ...refused,
    },
    { case: `${field} is kept`, kind: "FhirExport", old: { ...spec, [field]: one }, spec: { ...spec, [field]: one } },
  ];
  if (field === "sourceRef" || field === "targetRef" || field === "groupId") return made;
  const { [field]: _, ...without } = spec as Record<string, unknown>;
  made.push({
    case: `${field} is added`,
    kind: "FhirExport",
    old: without,
    spec: { ...spec, [field]: one },
    ...refused,
  });
  const grows = field === "retry" ? { refused: /retry can only grow/ } : {};
  made.push({
    case: `${field} is removed`,
    kind: "FhirExport",
    old: { ...spec, [field]: one },
    spec: without,
    ...refused,
    ...grows,
  });
  if (field in defaulted)
    made.push({
      case: `${field} is added with its default`,
      kind: "FhirExport",
      old: without,
      spec: { ...spec, [field]: defaulted[field] },
    });
  return made;
});

const oneWay: Case[] = [
  { case: "cancel is set", kind: "FhirExport", old: { ...base }, spec: { ...base, cancel: true } },
  {
    case: "cancel is unset",
    kind: "FhirExport",
    old: { ...base, cancel: true },
    spec: { ...base, cancel: false },
    refused: /cancel cannot be taken back/,
  },
  {
    case: "cancel is removed",
    kind: "FhirExport",
    old: { ...base, cancel: true },
    spec: { ...base },
    refused: /cancel cannot be taken back/,
  },
  {
    case: "cancel stays",
    kind: "FhirExport",
    old: { ...base, cancel: true },
    spec: { ...base, cancel: true, priority: 9 },
  },
  {
    case: "retry shrinks",
    kind: "FhirExport",
    old: { ...base, retry: 2 },
    spec: { ...base, retry: 1 },
    refused: /retry can only grow/,
  },
  { case: "retry stays", kind: "FhirExport", old: { ...base, retry: 2 }, spec: { ...base, retry: 2 } },
];

export const cases: Case[] = [...creates, ...changes, ...oneWay, ...sources, ...targets];

const condition = (type: string, status = "True") => ({
  type,
  status,
  reason: type,
  message: "",
  lastTransitionTime: "2026-01-01T00:00:00Z",
});
export interface StatusCase {
  case: string;
  old: FhirExportStatus;
  status: FhirExportStatus | undefined;
  refused?: RegExp;
}
/** Updates of the status of a FhirExport. */
export const statusCases = [
  {
    case: "Complete stays",
    old: { conditions: [condition("Complete")] },
    status: { conditions: [condition("Complete"), condition("Purged")] },
  },
  {
    case: "Complete goes",
    old: { conditions: [condition("Complete")] },
    status: { conditions: [] },
    refused: /a complete export stays complete/,
  },
  {
    case: "Complete becomes False",
    old: { conditions: [condition("Complete")] },
    status: { conditions: [condition("Complete", "False")] },
    refused: /a complete export stays complete/,
  },
  {
    case: "Cancelled goes",
    old: { conditions: [condition("Cancelled")] },
    status: { conditions: [] },
    refused: /a cancelled export stays cancelled/,
  },
  {
    case: "conditions go with Cancelled",
    old: { conditions: [condition("Cancelled")] },
    status: {},
    refused: /a cancelled export stays cancelled/,
  },
  {
    case: "the status goes with Complete",
    old: { conditions: [condition("Complete")] },
    status: undefined,
    refused: /a complete export stays complete/,
  },
  {
    case: "Failed goes in the same attempt",
    old: { attempt: 1, conditions: [condition("Failed")] },
    status: { attempt: 1, conditions: [] },
    refused: /a failed export stays failed until its next attempt/,
  },
  {
    case: "Failed goes with the next attempt",
    old: { attempt: 1, conditions: [condition("Failed")] },
    status: { attempt: 2, conditions: [] },
  },
  {
    case: "Failed before any attempt goes with the first",
    old: { conditions: [condition("Failed")] },
    status: { attempt: 1, conditions: [] },
  },
  { case: "Ready goes", old: { conditions: [condition("Ready")] }, status: { conditions: [] } },
] as StatusCase[];
