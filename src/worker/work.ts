import { readFile } from "node:fs/promises";
import { dirname } from "node:path";
import type { Report, Task } from "../contracts.ts";
import { terminal } from "../failure.ts";
import { SourceClient } from "../fhir/client.ts";
import type { Logger } from "../log.ts";
import { openStore } from "../sink/open.ts";
import type { Store } from "../sink/store.ts";
import { type Surroundings, system } from "../surroundings.ts";
import { blockBytesOf, PageMemory } from "./page-memory.ts";
import type { ProgressBoard } from "./progress.ts";

/** What a command of the worker works with. */
export interface Work extends Surroundings {
  task: Task;
  store: Store;
  source: SourceClient;
  /** the memory for pages and blocks; allocated by the first call */
  memory: () => PageMemory;
  /** the pod's completion index: which package of the plan `export` does */
  index: number;
  board: ProgressBoard;
  log: Logger;
  signal: AbortSignal;
}

/** What a command adds to its Report when it has done its work. */
export type CommandResult = Omit<Report, "v" | "uid" | "command" | "error">;

/** Reads the Task that the environment names (contracts.ts).
 *  @returns the Task and its folder, which also has the credentials
 *  @throws terminal TaskVersion, Internal */
export async function readTask(env: NodeJS.ProcessEnv): Promise<{ task: Task; folder: string }> {
  const path = env.FHIR_EXPORT_TASK;
  if (!path) throw terminal("Internal", "FHIR_EXPORT_TASK is not set; it must name the task file");
  let task: Task;
  try {
    task = JSON.parse(await readFile(path, "utf8")) as Task;
  } catch (error) {
    throw terminal("Internal", "the task file that FHIR_EXPORT_TASK names cannot be read, or is not JSON", error);
  }
  if (task.v !== 1)
    throw terminal(
      "TaskVersion",
      `the task has version ${task.v}, this worker reads 1; use the image of the operator's release`,
    );
  if (env.FHIR_EXPORT_UID !== task.uid)
    throw terminal("Internal", "the task file belongs to another export than FHIR_EXPORT_UID; both must have one uid");
  return { task, folder: dirname(path) };
}

/** Opens the storage and the source of a Task. Disposing of the result closes both.
 *  @param rest what the caller has already
 *  @param folder of the credentials
 *  @throws FailureError where credentials are missing or storage is not what the Task says */
export async function openWork(
  rest: Omit<Work, "store" | "source" | "memory" | keyof Surroundings> & Partial<Surroundings>,
  folder: string,
): Promise<Work & AsyncDisposable> {
  const store = await openStore(rest.task.target, folder);
  const source = new SourceClient(rest.task.source, folder, rest.signal);
  let pages: PageMemory | undefined;
  const memory = () =>
    (pages ??= new PageMemory(Math.max(1, rest.task.source.share.requests), blockBytesOf(rest.task)));
  return {
    ...system,
    ...rest,
    store,
    source,
    memory,
    [Symbol.asyncDispose]: async () => void (await Promise.all([store.close(), source.close()])),
  };
}
