// What the parts of the project owe each other: the files that they hand over, what a worker reports, and the port
// under decide(). Instants are RFC 3339 in UTC with milliseconds. Of the files, task.json, plan.json, planning.json and
// checkpoint.json are refused by the terminal error TaskVersion where their version `v` is unknown. A report or
// progress of an unknown version counts as lost.

import type { ClosedSearch, Proof, SearchEvidence } from "./evidence.ts";
import type { FHIRRelease } from "./fhir/release.ts";

export type Command = "plan" | "export" | "seal" | "purge" | "verify";

/** What one attempt of an export has to do, as task.json. The operator writes it once per attempt into an immutable
 *  Secret, because it may hold patient ids and filters, and the pods of the attempt mount it. Standalone writes the
 *  same file. It holds no credentials: those are files below source/ and target/. */
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
    /** false: never ask the source to sort */
    sort?: boolean;
    retrySeconds: number;
    /** Strict: next links must be below baseURL as they stand; absent: Auto */
    links?: "Auto" | "Strict";
    /** Sent with each request. Without a value it is in the file source/header-{index}. */
    headers?: { name: string; value?: string }[];
    /** CONNECT proxy to the source. hasSignIn: its user and password are in source/proxy-username and
     *  source/proxy-password. */
    proxy?: { url: string; hasSignIn?: true };
    /** what this run may take of the source's limits */
    share: { requests: number; perSecond?: number };
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

// How a worker is started: `fhir-export worker COMMAND`.
// Its environment:
//   FHIR_EXPORT_TASK         path of task.json
//   FHIR_EXPORT_UID          uid of the export; it must be the Task's
//   JOB_COMPLETION_INDEX     which package of the plan `export` does
//   FHIR_EXPORT_TERMINATION  path of the file that takes the Report
//   FHIR_EXPORT_PROGRESS     host:port of GET /progress; with port 0 the worker sends the one that it was given by IPC
//   FHIR_EXPORT_POD_UID      uid of the pod, for Progress
//   NODE_OPTIONS             workerNodeOptions
// Its files, all in one projected volume at /run/fhir-export (no subPath). The files of source/ and target/ are named
// like the keys of their Secrets, and are looked for beside task.json:
//   task.json
//   source/{username,password,token,client-secret,private-key.jwk,ca.crt,tls.crt,tls.key}
//   source/{header-0 to header-15,proxy-username,proxy-password}
//   target/{connection-string,sas-token}

/** plan.json. It is written once (If-None-Match: *). A plan with the uid of another export is the terminal error
 *  ForeignOutput. */
export interface Plan {
  v: 1;
  uid: string;
  transactionTime: string;
  /** what the source can do, as the plan has found it out */
  source: {
    /** of FHIR, by its CapabilityStatement; absent in plans that were made before it was read: R4 */
    release?: FHIRRelease;
    /** base URLs besides `baseURL` by which the source calls itself; at Patient and Group level */
    names?: string[];
    /** its searches by `_lastUpdated` show what is in a window, and nothing else */
    windows: boolean;
    /** it compares whole seconds only: a window may also show what is beside it in the seconds at its bounds */
    seconds?: true;
    /** it answers `_summary=count` with a number */
    counts: boolean;
    /** it stamps resources when it is asked for them */
    stampsMove?: true;
    /** how many milliseconds its clock is ahead of the planner's; negative: behind */
    clockAheadMs?: number;
    /** it keeps an order when it is asked to sort */
    sort: boolean;
    typeHistory: boolean;
    instanceHistory: boolean;
    /** resources that are asked for per page */
    count: number;
    /** how many ids of the cohort one search takes, where types are searched by members of the cohort */
    batch?: number;
  };
  shards: Shard[];
  /** all types of the export; only with `since`, which makes the export list deletions */
  types?: string[];
  /** types that have no shard: a page of them has shown no resource */
  empty?: string[];
  /** the key of the fingerprints; random, so that nobody can guess ids from fingerprints */
  key: string;
  /** what the user should know, for example about the source's clock; each becomes an OperationOutcome line */
  warnings?: string[];
  /** why the export may not be exact, as far as the plan knows */
  doubts?: string[];
  /** shard ids per completion index; at most 10,000 indexes */
  packages: string[][];
}

/** A part of one type that one worker reads at a time, with its own files and its own checkpoint. */
export interface Shard {
  /** `{Type}-{0001}` */
  id: string;
  type: string;
  /** of `meta.lastUpdated`, inclusive; absent: from the beginning */
  from?: string;
  /** of `meta.lastUpdated`, exclusive */
  till: string;
  /** what the source counted; absent where it does not count, or where the shard's filters overlap */
  expected?: number;
  /** false: its searches do not name `from` and `till`, and the worker keeps the bounds itself, because windows do not
   *  hold all of the type or cost too much */
  windows?: false;
  filters?: string[];
  /** value of `_elements`, where the export asks for elements and the source takes the parameter */
  elements?: string;
  /** Searched by these members of the cohort, indexes [from, to) of Cohort.patients, in batches and by each parameter
   *  of the compartment; `expected` is then the sum of what these searches count. Absent: the whole type is searched,
   *  and each resource is judged by what it holds. */
  members?: [from: number, to: number];
  /** The source refuses all searches of the type, with this status (0: no whole answer). It is told, and not read. */
  refused?: number;
  /** true: what the source counts in it proves nothing */
  uncounted?: true;
  /** what the source counts at most: such a count proves nothing */
  cap?: number;
  /** with `members`: what the source has counted in each of the shard's searches, in their order */
  counts?: number[];
  /** Counts show that nothing of the type was deleted from transactionTime to the plan (plan/steady.ts). */
  steady?: true;
}

/** A file of the output; `name` is its path below the export's folder. */
export interface FilePart {
  name: string;
  lines: number;
  /** stored bytes */
  bytes: number;
  /** bytes before gzip; absent when not compressed */
  contentBytes?: number;
  /** CRC-32 of the content so far; only of a gzip file that is still open */
  crc?: number;
  /** of the upload, once a block is staged; absent once the commit of the file is known */
  key?: string;
  /** the staged blocks; absent once the commit of the file is known */
  blocks?: [ref: string, bytes: number][];
  sha256?: string;
  contentSha256?: string;
}

/** checkpoint.json of a shard: where its writer's successor continues, and in the end the shard's result. Only the
 *  writer that wrote it last can replace it. A purge replaces it by one that is `fenced`, which ends its writer. */
export interface Checkpoint {
  v: 2;
  uid: string;
  shard: string;
  /** the writer's nonce, so that no other writer's checkpoint has the same bytes */
  writer: string;
  /** URL of the page that is being read. What lies before it is in `done` and `open`, or was passed over. A successor
   *  reads it again, and knows by `fingerprints` what of it is written. */
  next?: string;
  /** index of the search that is being read, from its start where there is no `next`; absent: the first */
  search?: number;
  /** of the searches that are read, or being read, in their order */
  evidence?: SearchEvidence[];
  /** The number of the shard's last file. It never falls, so that no name is used twice. */
  sequence: number;
  done: FilePart[];
  open?: FilePart;
  /** Segments with what follows the blocks of `open`, as it will be stored. `lines` and `contentBytes` of `open` count
   *  it, `bytes` does not. */
  tail?: [path: string, bytes: number][];
  fingerprints: string[];
  /** how many resources before `next` could not be read */
  errors: number;
  foreign?: true;
  /** as in ShardResult */
  left?: number;
  /** OperationOutcome lines of the first 100 of these errors */
  errorLines?: string[];
  /** The shard is done, and all of `done` is committed: this is the shard's last checkpoint. */
  ended?: ShardEnding;
  fenced?: true;
}

/** What the last checkpoint of a shard adds, when there is nothing to continue. */
export interface ShardEnding {
  type: string;
  /** how many distinct resources the shard's window has shown, including those that are not for the output */
  seen: number;
  /** of the shard's searches, in their order */
  evidence: SearchEvidence[];
  /** why the export may not be exact; only of the shard that closes a type */
  doubts?: string[];
  /** of each shard of the type, by its id; only of the shard that closes a type */
  closed?: Record<string, ClosedSearch[]>;
}

/** The result of a shard that is done, as its last checkpoint says it. */
export interface ShardResult extends ShardEnding {
  uid: string;
  shard: string;
  files: FilePart[];
  /** lines written */
  resources: number;
  errors: number;
  /** OperationOutcome lines of the first 100 errors */
  errorLines: string[];
  /** its searches have shown foreign resources: another shard writes them, or only the source can tell to which member
   *  they belong. `seen` does not count them. */
  foreign?: true;
  /** How many of `seen` were left out because nobody can tell whether they are in the export's compartments: they refer
   *  to patients in a way that even the source does not resolve. */
  left?: number;
  /** names of the segments that hold the fingerprints of the resources that were seen */
  fingerprints: string[];
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

/** Why something failed, and what to do about it. `terminal`: a person must act; `waiting`: the world must change
 *  first; `transient`: try again. */
export interface Failure {
  class: "terminal" | "waiting" | "transient";
  reason: FailureReason;
  /** names the field or thing to mend; holds no URL query, id, secret or content of a resource */
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
  /** only of the seal: how it is known that nothing is missing */
  proof?: Proof | "none";
}

/** What a command reports when it ends, as the pod's termination message: at most 3,500 bytes, the unproven and the
 *  largest types first and as many as fit. It is a copy of what storage holds: where the message is lost, the command
 *  runs again, which changes nothing and reports the same. */
export interface Report {
  v: 1;
  uid: string;
  command: Command;
  error?: Failure;
  transactionTime?: string;
  /** how many packages the export Job has to do; 0: the plan's pod has already exported and sealed all of them */
  packages?: number;
  totals?: Totals;
  manifestSHA256?: string;
  /** how many objects a purge could not remove */
  left?: number;
  exact?: boolean;
  types?: TypeCount[];
  /** names of the other types of a seal, whose counts do not fit, by their proof */
  others?: Partial<Record<Proof | "none", string[]>>;
}

/** What a worker answers at GET /progress, at most 64 KiB. It counts what checkpoints name, so a kill takes nothing
 *  back. It is for display only: no decision reads it. */
export interface Progress {
  v: 1;
  uid: string;
  podUID?: string;
  index: number;
  totals: Totals;
  types: TypeCount[];
  throttledSeconds: number;
  /** no request is sent to the source for some seconds, as it has asked for that (Retry-After) */
  paused?: true;
  /** what all requests to the source have met for some seconds */
  trouble?: Pick<Failure, "reason" | "message">;
  checkpointAt?: string;
}

/** How a worker's process ends. Any other code is a transient failure. */
export const exitCode = {
  done: 0,
  /** the failure is terminal: trying again cannot help */
  terminal: 64,
  /** the failure is waiting: the world must change first */
  waiting: 75,
  /** SIGTERM came before the results were stored */
  stopped: 143,
} as const;
