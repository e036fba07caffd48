// Made from crds/fhirexports.yaml by test/tools/generate.ts: edit that.
import type {Condition, ObjectMeta} from "./meta.ts";

/**
 * A FhirExport copies the matching resources of one FHIR R4 server, as of one moment, as NDJSON files into object storage or a volume, with a manifest of counts, sizes and SHA-256 sums. It does what the FHIR operation $export does, once.
 */
export interface FhirExport {
  /**
   * The version of this API: fhirexport.dev/v1alpha1.
   */
  apiVersion?: "fhirexport.dev/v1alpha1";
  /**
   * FhirExport.
   */
  kind?: "FhirExport";
  metadata: ObjectMeta;
  spec: FhirExportSpec;
  status?: FhirExportStatus;
}
/**
 * What to export, from where and to where. What shapes the output cannot be changed afterwards; how the work is done (suspend, cancel, retry, priority, parallelism, worker, ttlSecondsAfterFinished, deletionPolicy, onCancel) can.
 */
export interface FhirExportSpec {
  /**
   * The FhirSource to read from, in the same namespace.
   */
  sourceRef: {
    /**
     * Name of the FhirSource. Example: hospital.
     */
    name: string;
  };
  /**
   * The ExportTarget to write to, in the same namespace.
   */
  targetRef: {
    /**
     * Name of the ExportTarget. Example: research-account.
     */
    name: string;
  };
  /**
   * What is exported: System = all resources; Patient = the Patients and what refers to them (the patient compartment); Group = the same for the members of one Group.
   */
  level?: "System" | "Patient" | "Group";
  /**
   * Id of the FHIR Group at level Group. Example: diabetes-2026.
   */
  groupId?: string;
  /**
   * At level Patient or Group: only these patients, by id. Example: [p-1, p-2].
   *
   * @minItems 1
   * @maxItems 100
   */
  patients?: string[];
  /**
   * Only these resource types ($export's _type). Without it all types that the source can search, at level Patient and Group those of the patient compartment. Example: [Patient, Observation].
   *
   * @minItems 1
   * @maxItems 160
   */
  types?: string[];
  /**
   * Of a type, only resources that match one of its searches ($export's _typeFilter), each as Type?query. Result parameters such as _sort, _count or _include are not possible. Example: ["Observation?category=laboratory"].
   *
   * @minItems 1
   * @maxItems 32
   */
  typeFilters?: string[];
  /**
   * Only these top-level elements of each resource ($export's _elements), as element or Type.element; mandatory elements stay. Resources that were cut carry the tag SUBSETTED. Example: [id, Patient.birthDate].
   *
   * @minItems 1
   * @maxItems 64
   */
  elements?: string[];
  /**
   * Only resources last changed at this instant or later. Example: 2026-01-01T00:00:00Z.
   */
  since?: string;
  /**
   * Only resources last changed before this instant. Example: 2026-02-01T00:00:00Z.
   */
  until?: string;
  /**
   * Format of the files. All three spellings mean NDJSON, one resource a line.
   */
  outputFormat?: "application/fhir+ndjson" | "application/ndjson" | "ndjson";
  /**
   * Container (on a volume: folder) to write to, when it shall not be the target's own; the target's allowedContainers must allow it. Within it, each export has a folder of its own. Example: export-research.
   */
  container?: string;
  /**
   * How files are written.
   */
  output?: {
    /**
     * None, or Gzip: files end in .ndjson.gz.
     */
    compression?: "None" | "Gzip";
    /**
     * A file is ended, at the end of a line, before it grows beyond so many bytes (counted before compression). From 64Ki to 1Ti. Example: 512Mi.
     */
    maxFileSize?: string;
  };
  /**
   * When a resource or page cannot be read: Record = go on and write an OperationOutcome about it into the errors folder; Fail = end the export as failed.
   */
  onResourceError?: "Record" | "Fail";
  /**
   * How many worker pods may run at once, 1 to 256. The source's limits may allow fewer. A greater number counts from the next attempt, a smaller one at once.
   */
  parallelism?: number;
  /**
   * Where worker pods run and what they may use. A change counts from the next attempt.
   */
  worker?: {
    /**
     * CPU and memory of one worker pod. Default: requests 250m and 256Mi, memory limit 512Mi.
     */
    resources?: {
      /**
       * What is reserved. Example: {cpu: 500m, memory: 256Mi}.
       */
      requests?: {
        [k: string]: string | number;
      };
      /**
       * What cannot be exceeded. Example: {memory: 512Mi}.
       */
      limits?: {
        [k: string]: string | number;
      };
    };
    /**
     * Labels that a node must have. Example: {pool: batch}.
     */
    nodeSelector?: {
      [k: string]: string;
    };
    /**
     * Taints of nodes that workers put up with, as in a Pod.
     *
     * @maxItems 32
     */
    tolerations?: {
      /**
       * Taint key; empty with operator Exists means all taints.
       */
      key?: string;
      /**
       * Exists, or Equal (the default).
       */
      operator?: "Exists" | "Equal";
      /**
       * Taint value, with operator Equal.
       */
      value?: string;
      /**
       * Taint effect; empty means all effects.
       */
      effect?: "NoSchedule" | "PreferNoSchedule" | "NoExecute";
      /**
       * For NoExecute, how many seconds it is put up with.
       */
      tolerationSeconds?: number;
    }[];
    /**
     * Affinity as in a Pod (nodeAffinity, podAffinity, podAntiAffinity).
     */
    affinity?: Record<string, unknown>;
    /**
     * PriorityClass of the worker pods.
     */
    priorityClassName?: string;
  };
  /**
   * Kueue LocalQueue that admits the worker pods. Example: batch.
   */
  queueName?: string;
  /**
   * true pauses the export and frees its pods; false goes on where it stopped.
   */
  suspend?: boolean;
  /**
   * true ends the export for good: its pods are stopped and, as onCancel says, what it wrote is deleted. Of a finished export only the data goes. Cannot be taken back.
   */
  cancel?: boolean;
  /**
   * Give it a greater number to try a failed export again, from where it stopped. Example: 1.
   */
  retry?: number;
  /**
   * Exports of a greater number leave the queue first, then older ones.
   */
  priority?: number;
  /**
   * The export fails when it was not started so many seconds after its creation. No limit by default.
   */
  startDeadlineSeconds?: number;
  /**
   * The export fails when an attempt takes longer than so many seconds, time spent suspended not counted. No limit by default.
   */
  activeDeadlineSeconds?: number;
  /**
   * The FhirExport is deleted so many seconds after it ended; deletionPolicy says what becomes of its files. Kept by default.
   */
  ttlSecondsAfterFinished?: number;
  /**
   * What becomes of the files when the FhirExport is deleted: Retain keeps them, Delete deletes them first.
   */
  deletionPolicy?: "Retain" | "Delete";
  /**
   * What becomes of the files when the export is cancelled: Delete or Keep.
   */
  onCancel?: "Delete" | "Keep";
  /**
   * Set by the HTTP service when an export was started by $export; objects without it are not shown there.
   */
  origin?: {
    /**
     * Who asked, as the HTTP service authenticated it.
     */
    client?: string;
    /**
     * The kick-off URL as it was called; it stands in the manifest.
     */
    request?: string;
    /**
     * Parts of the request that were dropped at the client's wish (Prefer handling=lenient); they become OperationOutcomes.
     *
     * @maxItems 32
     */
    warnings?: string[];
  };
}
/**
 * What the operator has seen and done. Written by the operator only.
 */
export interface FhirExportStatus {
  /**
   * The generation of the spec that this status is about.
   */
  observedGeneration?: number;
  /**
   * Ready sums it up: True when the export is whole, its reason says what goes on. Reconciling and Stalled as in kstatus. Further: Accepted, Suspended, Complete, Failed, Cancelled, Purged, Exact, PartialErrors.
   *
   * @maxItems 32
   */
  conditions?: Condition[];
  /**
   * The moment that the export shows, by the source's clock. Changes after it are not in it.
   */
  transactionTime?: string;
  /**
   * When the first attempt was started.
   */
  startTime?: string;
  /**
   * When the export ended, well or not.
   */
  completionTime?: string;
  /**
   * When the FhirExport will be deleted, by ttlSecondsAfterFinished.
   */
  expirationTime?: string;
  /**
   * Place in the source's queue, 1 is next. Only while queued.
   */
  queuePosition?: number;
  /**
   * Number of the current or last attempt, 1 is the first.
   */
  attempt?: number;
  /**
   * How far it is. Numbers never go down within an attempt.
   */
  progress?: {
    /**
     * Share of the expected resources that is stored, at most 99 until the manifest is written.
     */
    percent?: number;
    /**
     * Resources stored so far.
     */
    resources?: number;
    /**
     * Resources that the source counted when the export was planned.
     */
    expectedResources?: number;
    /**
     * Bytes stored so far.
     */
    bytes?: number;
    /**
     * Speed of the last minutes.
     */
    resourcesPerSecond?: number;
    /**
     * When all resources will be stored at this speed.
     */
    estimatedCompletionTime?: string;
  };
  /**
   * The same by resource type.
   *
   * @maxItems 200
   */
  types?: {
    /**
     * Resource type.
     */
    type: string;
    /**
     * Pending, Running or Complete.
     */
    state?: "Pending" | "Running" | "Complete";
    /**
     * Resources that the source counted.
     */
    expected?: number;
    /**
     * Resources stored so far.
     */
    exported?: number;
    /**
     * Files stored so far.
     */
    files?: number;
    /**
     * OperationOutcomes stored about this type.
     */
    errors?: number;
  }[];
  /**
   * Where the files are. The list of files is in the manifest.
   */
  output?: {
    /**
     * Container of the files; on a volume there is none.
     */
    container?: string;
    /**
     * Folder within the container or volume; empty when the container is the export's own.
     */
    prefix?: string;
    /**
     * Bare URL of the manifest, or its path on the volume; it exists when the export is whole.
     */
    manifest?: string;
    /**
     * SHA-256 of the manifest, hexadecimal.
     */
    manifestSHA256?: string;
    /**
     * Number of files.
     */
    files?: number;
    /**
     * Number of resources.
     */
    resources?: number;
    /**
     * Bytes of all files.
     */
    bytes?: number;
    /**
     * Number of OperationOutcomes in the errors folder.
     */
    errors?: number;
  };
  run?: FhirExportRun;
}
/**
 * For the operator: what the current attempt was started with, so that later edits of source, target or operator do not change it.
 */
export interface FhirExportRun {
  /**
   * The attempt it belongs to.
   */
  attempt: number;
  /**
   * When it was started or last resumed.
   */
  startTime: string;
  /**
   * Image of the worker pods.
   */
  image?: string;
  /**
   * Worker pods that may run at once.
   */
  parallelism: number;
  /**
   * Number of work packages of the plan; absent until it is made.
   */
  packages?: number;
  /**
   * ServiceAccount of the worker pods, where workload identity is used.
   */
  serviceAccountName?: string;
  /**
   * How the worker signs in at the source.
   */
  sourceAuth?: string;
  /**
   * Name of the Secret with the source's credentials.
   */
  sourceSecret?: string;
  /**
   * Where the source's certificate authority is.
   */
  sourceCA?: {
    /**
     * ConfigMap or Secret.
     */
    kind: "ConfigMap" | "Secret";
    /**
     * Its name.
     */
    name: string;
  };
  /**
   * Name of the Secret with the client certificate for the source.
   */
  sourceCertificate?: string;
  /**
   * How the worker signs in at the target.
   */
  targetAuth?: string;
  /**
   * Name of the Secret with the target's credentials.
   */
  targetSecret?: string;
  /**
   * PersistentVolumeClaim to write to.
   */
  claimName?: string;
  /**
   * This export's share of the source's limits, per worker pod.
   */
  share?: {
    /**
     * Requests at once.
     */
    requests: number;
    /**
     * Requests per second.
     */
    perSecond?: number;
  };
  /**
   * Copy of spec.worker.
   */
  worker?: NonNullable<FhirExportSpec["worker"]>;
  /**
   * A step that has to wait or lost its report is repeated.
   */
  repeat?: {
    /**
     * The run that is to be repeated.
     */
    runName: string;
    /**
     * Its UID; another UID is the repetition.
     */
    runUID: string;
    /**
     * How many times it was repeated.
     */
    count: number;
    /**
     * How many times of these it gave no reason.
     */
    crashes?: number;
    /**
     * When it is repeated.
     */
    time: string;
  };
  /**
   * Last published progress.
   */
  sample?: {
    /**
     * When it was seen.
     */
    time: string;
    /**
     * Resources stored then.
     */
    resources: number;
  };
}
