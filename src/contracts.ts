// Contracts between the parts, to be taken into src/ as they are or better (and then changed everywhere at once).
// Instants: RFC 3339 with milliseconds and Z. An unknown `v` is a terminal error; readers accept v and v-1.

export type Command = "plan" | "export" | "seal" | "purge" | "verify" | "probe";

/** What one run of a worker has to do. The operator writes it once per attempt into an immutable Secret that the run's pods mount
 *  (it may hold patient ids and filters); standalone writes the same file. No credentials in it: those are files under source/ and target/. */
export interface Task {
  v: 1;
  uid: string;
  name: string;
  createdAt: string;
  attempt: number;
  image?: string;
  export: {
    level: "System" | "Patient" | "Group";
    groupId?: string;
    patients?: string[];
    types?: string[];
    typeFilters?: string[];
    elements?: string[];
    since?: string;
    until?: string;
    gzip: boolean;
    maxFileBytes: number;
    onResourceError: "Record" | "Fail";
    request?: string;
    warnings?: string[];
  };
  source: {
    baseURL: string;
    auth: {
      kind: "none" | "basic" | "bearer" | "oauth2" | "smart" | "workloadIdentity";
      tokenURL?: string;
      clientID?: string;
      scope?: string;
    };
    count: number;
    settleSeconds: number;
    history: boolean;
    /** false: never ask for an order */ sort?: boolean;
    retrySeconds: number;
    /** this run's share of the source's limits */ share: { requests: number; perSecond?: number };
  };
  target: { folder: string } & (
    | {
        azureBlob: {
          accountURL: string;
          container: string;
          createContainer: boolean;
          blockBytes: number;
          auth: "workloadIdentity" | "sas" | "connectionString";
        };
      }
    | { volume: { path: string } }
  );
  plan: { shardResources: number; inlineResources: number; parallelism: number };
}
// argv: worker COMMAND. env: FHIR_EXPORT_TASK (path of task.json), FHIR_EXPORT_UID, JOB_COMPLETION_INDEX, FHIR_EXPORT_TERMINATION (path of the termination message),
// FHIR_EXPORT_PROGRESS host:port (Kubernetes $(POD_IP):9464, container port "progress"; standalone 127.0.0.1:0, the chosen port is sent by IPC).
// NODE_OPTIONS: workerNodeOptions.
// Files: one projected volume /run/fhir-export (no subPath): task.json, source/{username,password,token,client-secret,private-key.jwk,ca.crt,tls.crt,tls.key}, target/{connection-string,sas-token};
// Secret keys equal the file names; paths are relative to the Task's folder.
// FhirSource.auth: none{} | basic{secretRef} | bearer{secretRef} | oauth2{tokenURL,clientID,scope,secretRef} | smart{tokenURL?,clientID,scope,secretRef} | workloadIdentity{serviceAccountName,clientID?,scope}

/** Pages come in pieces that V8 does not count as garbage of the young generation: with a small one it is collected before they force a full collection,
 *  for a tenth of a worker's time and 15 MiB. It is read at the start of a process only. */
export const workerNodeOptions = "--max-semi-space-size=1";

/** V8 begins with a small heap and collects all of it some forty times, a fifth of a worker's first seconds, before it has learnt better; a heap of 48 MB at the
 *  start ends that for no more memory than is used anyhow. node takes it as an argument only: it stands in the image's ENTRYPOINT. */
export const nodeFlags: readonly string[] = ["--initial-heap-size=48"];

/** plan.json: written once (If-None-Match: *); another uid in it is the terminal error ForeignOutput. */
export interface Plan {
  v: 1;
  uid: string;
  transactionTime: string;
  source: {
    windows: boolean;
    /** its windows are of whole seconds: one may show what is of a part of a second beside it */ seconds?: true;
    counts: boolean;
    sort: boolean;
    typeHistory: boolean;
    instanceHistory: boolean;
    count: number;
    /** ids of the cohort in one search, where types are searched by its members */ batch?: number;
  };
  shards: Shard[];
  /** all types of the export, where deletions are told (`since`) */
  types?: string[];
  /** of the fingerprints; random, so that ids cannot be guessed from them */
  key: string;
  /** what the user should know, e.g. of the clock; becomes OperationOutcome lines */
  warnings?: string[];
  /** shard ids per completion index; at most 10,000 */ packages: string[][];
}
export interface Shard {
  id: string;
  type: string;
  from?: string;
  till: string;
  expected?: number;
  /** its searches do not name `from` and `till`, which are kept here: windows do not hold all of the type, or cost too much */
  windows?: false;
  filters?: string[];
  /** value of `_elements`, where some are asked for and the source takes it */
  elements?: string;
  /** searched by these members of the cohort, indexes [from, to) of Cohort.patients, in batches and by each parameter of the compartment; else by all, and
   *  judged by what comes. `expected` is then what its searches count together */
  members?: [from: number, to: number];
}

/** A file of the output; `name` is its path below the export's folder. */
export interface FilePart {
  name: string;
  lines: number;
  /** stored bytes */
  bytes: number;
  /** bytes before gzip; absent when not compressed */
  contentBytes?: number;
  /** CRC-32 of the content so far, of a gzip file that is still open */
  crc?: number;
  /** there until the commit of the file is known */
  blocks?: [id: string, bytes: number][];
  sha256?: string;
  contentSha256?: string;
}
/** Written with If-Match; the purge replaces it by {fenced: true}, which ends its writer. */
export interface Checkpoint {
  v: 1;
  uid: string;
  shard: string;
  writer: string;
  /** URL of the page that is being read */
  next?: string;
  /** resources of that page that are dealt with */
  taken?: number;
  /** which of the shard's searches that page is of; absent: the first */
  search?: number;
  /** distinct resources the shard's window has shown so far, also those that are not for the output */
  seen: number;
  done: FilePart[];
  open?: FilePart;
  fingerprints: string[];
  errors: number;
  foreign?: true;
  /** OperationOutcome lines of the first 100 errors */
  errorLines?: string[];
  fenced?: true;
}
export interface ShardResult {
  v: 1;
  uid: string;
  shard: string;
  type: string;
  files: FilePart[];
  errorFiles: FilePart[];
  /** lines written */
  resources: number;
  errors: number;
  /** distinct resources the shard's window has shown, also those that are not for the output */
  seen: number;
  /** its searches have shown resources that another shard writes, or of which only their server knows whose they are; they are not in `seen` */
  foreign?: true;
  /** names of the segments with their fingerprints */
  fingerprints: string[];
  /** why the result may not be exact, of the shard that closes a type */
  doubts?: string[];
}
/** Who is in the export at Patient level with `patients`, or at Group level; written once, before the plan. */
export interface Cohort {
  v: 1;
  uid: string;
  /** ids, sorted */
  patients: string[];
  /** ids of the group and the groups nested in it */
  groups: string[];
}

export type FailureReason =
  | "SourceUnreachable"
  | "SourceUnauthorized"
  | "SourceNotFHIR"
  | "UnsupportedParameter"
  | "UnknownType"
  | "UnknownGroup"
  | "InvalidFilter"
  | "WrongResource"
  | "SourceInconsistent"
  | "TargetUnauthorized"
  | "TargetUnreachable"
  | "InvalidContainer"
  | "ForeignOutput"
  | "Fenced"
  | "TaskVersion"
  | "Internal";
export type ReadyReason =
  | "Waiting"
  | "Queued"
  | "Planning"
  | "Running"
  | "Sealing"
  | "Suspended"
  | "Cancelling"
  | "WaitingForNode"
  | "Complete"
  | "Refused"
  | "Failed"
  | "Cancelled";
export interface Failure {
  class: "terminal" | "waiting" | "transient";
  reason: FailureReason /** no query, id or content */;
  message: string;
}
export interface Totals {
  files: number;
  resources: number;
  bytes: number;
  errors: number;
}
export interface TypeCount extends Totals {
  type: string;
  expected?: number;
}

/** Termination message, at most 3,500 bytes; totals first, then as many types as fit. A lost one is asked for again by running the (idempotent) command again. */
export interface Report {
  v: 1;
  uid: string;
  command: Command;
  error?: Failure;
  transactionTime?: string /** 0: the plan pod has already sealed */;
  packages?: number;
  totals?: Totals;
  manifestSHA256?: string /** objects that a purge could not remove */;
  left?: number;
  exact?: boolean;
  types?: TypeCount[];
}
/** GET /progress of a worker, at most 64 KiB. Advisory: no decision reads it. Counts what is checkpointed. */
export interface Progress {
  v: 1;
  uid: string;
  podUID?: string;
  index: number;
  totals: Totals;
  types: TypeCount[];
  throttledSeconds: number;
  checkpointAt?: string;
}

export const exitCode = {
  done: 0,
  /** retrying cannot help */ terminal: 64,
  /** the world must change first */ waiting: 75,
  /** SIGTERM before the results were stored */ stopped: 143,
} as const;

/** The port under decide(): a run of a command, on Kubernetes a Job (batch/v1 lives in src/kube only), standalone child processes. */
export interface RunSpec {
  name: string;
  command: Command;
  attempt: number /** only for an attempt's first run */;
  task?: Task;
  completions: number;
  parallelism: number;
  suspend: boolean;
}
export interface RunView {
  name: string;
  uid: string;
  ours: boolean;
  attempt: number;
  state: "active" | "suspended" | "complete" | "failed";
  /** it is being deleted; its name is not free yet */
  going?: true;
  reason?: string;
  parallelism?: number;
  /** set when it goes by itself so long after its end */
  ttlSeconds?: number;
  /** processes not proven gone */ live: number;
  done: number;
  reports: (Report | undefined)[];
  progress: Progress[] /** why it does not start: image, quota, unschedulable, pod security */;
  blocked?: string;
}
export interface World<Export, Source, Target> {
  export: Export;
  source?: Source;
  target?: Target;
  runs: Partial<Record<Command, RunView>>;
  running: { source: number; all: number; ahead: number };
  /** the namespace is being deleted: nothing can be made in it any more */
  closing?: true;
}
export type Effect =
  | { do: "ensureRun"; run: RunSpec }
  | { do: "setRun"; uid: string; suspend?: boolean; parallelism?: number; ttlSeconds?: number }
  | { do: "deleteRun"; uid: string }
  | { do: "outcome"; value: "Complete" | "Failed" | "Cancelled"; attempt: number }
  | { do: "event"; warning: boolean; reason: string; note: string }
  | { do: "finalizer"; on: boolean }
  | { do: "deleteExport" };
