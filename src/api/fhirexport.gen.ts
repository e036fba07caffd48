// Made from crds/fhirexports.yaml by test/tools/generate.ts: edit that.
import type {Condition, ObjectMeta} from "./meta.ts";

/**
 * A FhirExport copies the matching resources of one FHIR server, as they are at one moment, as NDJSON files into object storage or a volume, with a manifest of counts, sizes and SHA-256 sums. It does once what the FHIR operation $export does.
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
 * What to export, from where and to where. Fields that shape the output cannot be changed afterwards. Fields that say how the work is done can be changed: suspend, cancel, retry, priority, parallelism, worker, ttlSecondsAfterFinished, deletionPolicy, onCancel.
 */
export interface FhirExportSpec {
  /**
   * The FhirSource to export from. It is in the same namespace.
   */
  sourceRef: {
    /**
     * Name of the FhirSource. Example: hospital.
     */
    name: string;
  };
  /**
   * The ExportTarget to write to. It is in the same namespace.
   */
  targetRef: {
    /**
     * Name of the ExportTarget. Example: research-account.
     */
    name: string;
  };
  /**
   * What is exported. System: all resources. Patient: all patients and the resources that refer to them (the patient compartment). Group: the same for the members of one Group.
   */
  level?: "System" | "Patient" | "Group";
  /**
   * Id of the FHIR Group to export; required at level Group, and allowed only there. Example: diabetes-2026.
   */
  groupId?: string;
  /**
   * Exports only these patients, by id; allowed at level Patient and Group. Example: [p-1, p-2].
   *
   * @minItems 1
   * @maxItems 100
   */
  patients?: string[];
  /**
   * Exports only these resource types ($export's _type). By default all types that the source can search; at level Patient and Group those of the patient compartment. Example: [Patient, Observation].
   *
   * @minItems 1
   * @maxItems 160
   */
  types?: string[];
  /**
   * Searches in the form Type?query ($export's _typeFilter). Of such a type, only resources that match one of its searches are exported. Result parameters such as _sort, _count or _include are not possible. Example: ["Observation?category=laboratory"].
   *
   * @minItems 1
   * @maxItems 32
   */
  typeFilters?: string[];
  /**
   * Exports only these top-level elements of each resource ($export's _elements), written as element or Type.element. Mandatory elements stay. Resources that were cut get the tag SUBSETTED. Example: [id, Patient.birthDate].
   *
   * @minItems 1
   * @maxItems 64
   */
  elements?: string[];
  /**
   * Exports only resources that were last changed at this instant or later ($export's _since). Example: 2026-01-01T00:00:00Z.
   */
  since?: string;
  /**
   * Exports only resources that were last changed before this instant ($export's _until). Example: 2026-02-01T00:00:00Z.
   */
  until?: string;
  /**
   * Format of the files. All three spellings mean NDJSON: one resource per line.
   */
  outputFormat?: "application/fhir+ndjson" | "application/ndjson" | "ndjson";
  /**
   * Container (on a volume: folder) to write to, instead of the target's own. The target's allowedContainers must allow it. Within it, each export has a folder of its own. Example: export-research.
   */
  container?: string;
  /**
   * How the files are written.
   */
  output?: {
    /**
     * Whether files are compressed. With Gzip their names end in .ndjson.gz.
     */
    compression?: "None" | "Gzip";
    /**
     * A file ends, at the end of a line, before it grows beyond this size (counted before compression). From 64Ki to 1Ti. Example: 512Mi.
     */
    maxFileSize?: string;
  };
  /**
   * What happens when a resource or page cannot be read. Record: the export continues and writes an OperationOutcome about it into the errors folder. Fail: the export ends as failed.
   */
  onResourceError?: "Record" | "Fail";
  /**
   * How many worker pods may run at once, from 1 to 256. The source's limits may allow fewer. A greater number takes effect with the next attempt, a smaller one at once.
   */
  parallelism?: number;
  /**
   * Where worker pods run and how much CPU and memory they may use. A change takes effect with the next attempt.
   */
  worker?: {
    /**
     * CPU and memory of one worker pod. Default: requests 250m and 256Mi, memory limit 512Mi.
     */
    resources?: {
      /**
       * CPU and memory that are reserved for the pod. Example: {cpu: 500m, memory: 256Mi}.
       */
      requests?: {
        [k: string]: string | number;
      };
      /**
       * CPU and memory that the pod cannot exceed. Example: {memory: 512Mi}.
       */
      limits?: {
        [k: string]: string | number;
      };
    };
    /**
     * Labels that a node must have to run worker pods. Example: {pool: batch}.
     */
    nodeSelector?: {
      [k: string]: string;
    };
    /**
     * Taints of nodes that worker pods tolerate, as in a Pod.
     *
     * @maxItems 32
     */
    tolerations?: {
      /**
       * Key of the taint. Empty, with operator Exists, it means all taints.
       */
      key?: string;
      /**
       * How the taint is compared: Exists, or Equal (the default).
       */
      operator?: "Exists" | "Equal";
      /**
       * Value of the taint, for operator Equal.
       */
      value?: string;
      /**
       * Effect of the taint. Empty means all effects.
       */
      effect?: "NoSchedule" | "PreferNoSchedule" | "NoExecute";
      /**
       * For how many seconds a taint with effect NoExecute is tolerated.
       */
      tolerationSeconds?: number;
    }[];
    /**
     * Affinity of the worker pods, as in a Pod (nodeAffinity, podAffinity, podAntiAffinity).
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
   * If true, the export is paused and its pods are freed. If set to false again, it continues where it stopped.
   */
  suspend?: boolean;
  /**
   * If true, the export ends for good: its pods are stopped, and what it wrote is deleted unless onCancel is Keep. A finished export only loses its files. This cannot be undone.
   */
  cancel?: boolean;
  /**
   * Set it to a greater number to continue a failed export where it stopped. Use the number in status.attempt. Example: 1.
   */
  retry?: number;
  /**
   * Exports with a greater number leave the queue first; of equal numbers the older export goes first.
   */
  priority?: number;
  /**
   * The export fails if it was not started within this many seconds after its creation. There is no limit by default.
   */
  startDeadlineSeconds?: number;
  /**
   * The export fails if an attempt takes longer than this many seconds. When a suspended export continues, the time begins anew. There is no limit by default.
   */
  activeDeadlineSeconds?: number;
  /**
   * The FhirExport is deleted this many seconds after its end; deletionPolicy says what happens to its files. By default it is kept.
   */
  ttlSecondsAfterFinished?: number;
  /**
   * What happens to the files when the FhirExport is deleted. Retain keeps them. Delete deletes them first.
   */
  deletionPolicy?: "Retain" | "Delete";
  /**
   * What happens to the files when the export is cancelled. Delete deletes them. Keep keeps them.
   */
  onCancel?: "Delete" | "Keep";
  /**
   * Set by the HTTP service for an export that was started by $export. The HTTP service does not show exports without it.
   */
  origin?: {
    /**
     * The client that started the export, as the HTTP service authenticated it.
     */
    client?: string;
    /**
     * The kick-off URL as the client called it. It is the manifest's request.
     */
    request?: string;
    /**
     * Parts of the request that were dropped, as the client allowed it (Prefer handling=lenient). The manifest reports them as OperationOutcomes.
     *
     * @maxItems 32
     */
    warnings?: string[];
  };
}
/**
 * What the operator has observed and done. Only the operator writes it.
 */
export interface FhirExportStatus {
  /**
   * The generation of the spec that this status describes.
   */
  observedGeneration?: number;
  /**
   * Ready is the summary: it is True when the export is whole, and its reason says what is happening. Reconciling and Stalled mean what they mean in kstatus. Further conditions: Accepted, Suspended, Complete, Failed, Cancelled, Purged, Exact, PartialErrors.
   *
   * @maxItems 32
   */
  conditions?: Condition[];
  /**
   * The moment as of which the data are exported, by the source's clock. The export does not contain later changes.
   */
  transactionTime?: string;
  /**
   * When the first attempt began.
   */
  startTime?: string;
  /**
   * When the export ended, successfully or not.
   */
  completionTime?: string;
  /**
   * When the FhirExport will be deleted, as ttlSecondsAfterFinished says.
   */
  expirationTime?: string;
  /**
   * Place in the queue of the source; 1 is next. Only set while the export is queued.
   */
  queuePosition?: number;
  /**
   * Number of the current or last attempt; the first is 1.
   */
  attempt?: number;
  /**
   * How far the export is. The numbers never go down within an attempt.
   */
  progress?: {
    /**
     * How many percent of the expected resources are stored. At most 99 until the manifest is written.
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
     * Resources stored per second in the last minutes.
     */
    resourcesPerSecond?: number;
    /**
     * When all resources will be stored if the speed stays the same.
     */
    estimatedCompletionTime?: string;
  };
  /**
   * Progress of each resource type.
   *
   * @maxItems 200
   */
  types?: {
    /**
     * Resource type.
     */
    type: string;
    /**
     * State of this type: Pending, Running or Complete.
     */
    state?: "Pending" | "Running" | "Complete";
    /**
     * Resources of this type that the source counted when the export was planned.
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
     * Errors about resources of this type.
     */
    errors?: number;
    /**
     * How it is known that nothing of this type is missing. Set when the export is complete. counted: each search has shown as many resources as the source counts in it. agreed: the source does not count, and further readings have shown nothing else. none: something may be missing; the files that the manifest lists under error say why.
     */
    proof?: "counted" | "agreed" | "none";
  }[];
  /**
   * The same as types[].proof, one line for each type, so that kubectl describe shows it at a glance. Types that are not proven come first. Example: ["Observation: none", "Patient: counted"].
   *
   * @maxItems 200
   */
  proofs?: string[];
  /**
   * Where the files are, and their sums. The list of files is in the manifest.
   */
  output?: {
    /**
     * Container that holds the files. Not set for a volume.
     */
    container?: string;
    /**
     * Folder of the files within the container or volume. No other export has the same.
     */
    prefix?: string;
    /**
     * URL of the manifest without signature, or its path on the volume. The manifest exists if and only if the export is whole.
     */
    manifest?: string;
    /**
     * SHA-256 of the manifest, in hexadecimal digits.
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
     * Number of resources and pages that could not be exported. The errors folder holds an OperationOutcome for each, up to a hundred per shard.
     */
    errors?: number;
  };
  run?: FhirExportRun;
}
/**
 * For the operator: what the current attempt was started with. Later edits of source, target or operator do not change it.
 */
export interface FhirExportRun {
  /**
   * The attempt that this describes.
   */
  attempt: number;
  /**
   * When the attempt was started or last resumed.
   */
  startTime: string;
  /**
   * Image of the worker pods.
   */
  image?: string;
  /**
   * How many worker pods may run at once.
   */
  parallelism: number;
  /**
   * Number of work packages of the plan. Not set until the plan is made.
   */
  packages?: number;
  /**
   * ServiceAccount of the worker pods, if workload identity is used.
   */
  serviceAccountName?: string;
  /**
   * How workers sign in at the source.
   */
  sourceAuth?: string;
  /**
   * Name of the Secret with the source's credentials.
   */
  sourceSecret?: string;
  /**
   * Object that holds the certificate authority of the source.
   */
  sourceCA?: {
    /**
     * Kind of the object: ConfigMap or Secret.
     */
    kind: "ConfigMap" | "Secret";
    /**
     * Name of the object.
     */
    name: string;
  };
  /**
   * Name of the Secret with the client certificate for the source.
   */
  sourceCertificate?: string;
  /**
   * Secrets with what is sent in headers to the source.
   *
   * @maxItems 16
   */
  sourceHeaders?: {
    /**
     * Index of the header in spec.headers of the source.
     */
    index: number;
    /**
     * Name of the Secret.
     */
    name: string;
    /**
     * Key in the Secret.
     */
    key: string;
  }[];
  /**
   * Name of the Secret with the user and password for the proxy to the source.
   */
  sourceProxy?: string;
  /**
   * How workers sign in at the target.
   */
  targetAuth?: string;
  /**
   * Name of the Secret with the target's credentials.
   */
  targetSecret?: string;
  /**
   * PersistentVolumeClaim that the files are written to.
   */
  claimName?: string;
  /**
   * This export's share of the source's limits, per worker pod.
   */
  share?: {
    /**
     * How many requests a worker pod makes at once.
     */
    requests: number;
    /**
     * How many requests a worker pod makes per second.
     */
    perSecond?: number;
  };
  /**
   * Copy of spec.worker, as it was when the attempt began.
   */
  worker?: NonNullable<FhirExportSpec["worker"]>;
  /**
   * Set when a step is repeated, because it has to wait, failed without a reason, or lost its report.
   */
  repeat?: {
    /**
     * Name of the run that is repeated.
     */
    runName: string;
    /**
     * UID of that run. A run with another UID is the repetition.
     */
    runUID: string;
    /**
     * How many times the run was repeated.
     */
    count: number;
    /**
     * How many of these times the run did not say that it has to wait.
     */
    crashes?: number;
    /**
     * When the run is repeated next.
     */
    time: string;
    /**
     * Why it is repeated, in one CamelCase word.
     */
    reason?: string;
    /**
     * Why it is repeated, and what to mend.
     */
    message?: string;
  };
  /**
   * The progress that was last published, to compute the speed from.
   */
  sample?: {
    /**
     * When it was published.
     */
    time: string;
    /**
     * Resources that were stored then.
     */
    resources: number;
  };
}
