// What passes between decide(), which is pure, and what carries out its decisions: on Kubernetes src/kube, in
// standalone src/standalone.

import type { Command, Progress, Report, Task } from "./contracts.ts";

/** A run of a command that decide() asks for: on Kubernetes a Job (only src/kube knows batch/v1), in standalone child
 *  processes. */
export interface RunSpec {
  name: string;
  command: Command;
  attempt: number;
  /** only for the first run of an attempt: it stores the Task for the others */
  task?: Task;
  completions: number;
  parallelism: number;
  suspend: boolean;
}

/** A run as decide() sees it. */
export interface RunView {
  name: string;
  uid: string;
  /** it belongs to this export, and not to another object of the same name */
  ours: boolean;
  attempt: number;
  state: "active" | "suspended" | "complete" | "failed";
  /** it is being deleted; its name is not free yet */
  going?: true;
  /** why it failed */
  reason?: string;
  parallelism?: number;
  /** set where the run removes itself this many seconds after its end */
  ttlSeconds?: number;
  /** how many of its processes are not proven to have ended */
  live: number;
  /** how many of its completions have succeeded */
  done: number;
  /** by completion index */
  reports: (Report | undefined)[];
  progress: Progress[];
  /** why it does not start: image, quota, unschedulable, pod security */
  blocked?: string;
}

/** All that decide() knows of one export. */
export interface World<Export, Source, Target> {
  export: Export;
  source?: Source;
  target?: Target;
  runs: Partial<Record<Command, RunView>>;
  /** of the other exports: how many run on the same source, how many run at all, and how many wait before this one */
  running: { source: number; all: number; ahead: number };
  /** the namespace is being deleted: nothing can be created in it any more */
  closing?: true;
}

/** What decide() wants done. Effects are applied in their order, and each may be applied again. */
export type Effect =
  | { do: "ensureRun"; run: RunSpec }
  | { do: "setRun"; uid: string; suspend?: boolean; parallelism?: number; ttlSeconds?: number }
  | { do: "deleteRun"; uid: string }
  | { do: "outcome"; value: "Complete" | "Failed" | "Cancelled"; attempt: number }
  | { do: "event"; warning: boolean; reason: string; note: string }
  | { do: "finalizer"; on: boolean }
  | { do: "deleteExport" };
