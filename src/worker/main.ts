import { writeFile } from "node:fs/promises";
import { type Command, exitCode, type Failure, type Report } from "../contracts.ts";
import { toFailure } from "../failure.ts";
import { makeLogger, stackFrames } from "../log.ts";
import { system } from "../surroundings.ts";
import { commands } from "./commands.ts";
import { ProgressBoard, serveProgress } from "./progress.ts";
import { renderReport } from "./report.ts";
import { openWork, readTask } from "./work.ts";

/** Shorter pauses that the source asks for are not shown. */
const shownPauseMs = 3000;
/** What requests meet is shown when none has worked for so long. */
const shownTroubleMs = 5000;

/** Runs one command of the worker, and writes its Report into the file for the termination message.
 *  @param surroundings only tests change them
 *  @returns the exit code (contracts.ts) */
export async function runWorker(
  command: string,
  env: NodeJS.ProcessEnv,
  signal: AbortSignal,
  surroundings = system,
): Promise<number> {
  const load = Object.hasOwn(commands, command) ? commands[command as Command] : undefined;
  if (!load) {
    console.error(`fhir-export worker: unknown command "${command}"; use one of ${Object.keys(commands).join(", ")}`);
    return exitCode.terminal;
  }
  const uid = env.FHIR_EXPORT_UID ?? "";
  const index = Number(env.JOB_COMPLETION_INDEX ?? 0);
  const log = makeLogger({ command, uid, index });
  const report: Report = { v: 1, uid, command: command as Command };
  try {
    const { task, folder } = await readTask(env);
    const board = new ProgressBoard();
    if (env.FHIR_EXPORT_PROGRESS)
      await startProgressServer(
        env.FHIR_EXPORT_PROGRESS,
        () => board.render(task.uid, index, env.FHIR_EXPORT_POD_UID),
        log.warn.bind(log),
      );
    await using work = await openWork({ task, index, board, log, signal, ...surroundings }, folder);
    board.throttledSeconds = () => work.source.limiter.throttledMs / 1000;
    board.isPaused = () => work.source.limiter.pausedMs > shownPauseMs;
    board.trouble = () => work.source.trouble.lasting(shownTroubleMs);
    log.info({ export: task.name, attempt: task.attempt }, "started");
    Object.assign(report, await (await load())(work));
    log.info({ totals: report.totals }, "done");
    await writeReport(env, report);
    return exitCode.done;
  } catch (error) {
    if (signal.aborted) {
      log.info("stopped before the results were stored");
      return exitCode.stopped;
    }
    report.error = toFailure(error);
    const unforeseen = report.error.reason === "Internal" && error instanceof Error;
    // only the frames of the stack: the message of an unforeseen error may quote a URL or an answer
    log.error({ ...report.error, ...(unforeseen && { stack: stackFrames(error) }) }, "failed");
    await writeReport(env, report).catch(() => {});
    return exitCodeOf(report.error);
  }
}

const exitCodeOf = (failure: Failure) =>
  failure.class === "terminal" ? exitCode.terminal : failure.class === "waiting" ? exitCode.waiting : 1;

async function startProgressServer(
  address: string,
  render: () => ReturnType<ProgressBoard["render"]>,
  warn: (message: string) => void,
): Promise<void> {
  try {
    const { port } = await serveProgress(address, render);
    process.send?.({ progressPort: port });
  } catch (error) {
    // progress is only for display, so the export does not fail
    warn(
      `progress cannot be served at ${address} (${(error as NodeJS.ErrnoException).code}); the export runs without it`,
    );
  }
}

async function writeReport(env: NodeJS.ProcessEnv, report: Report): Promise<void> {
  if (env.FHIR_EXPORT_TERMINATION) await writeFile(env.FHIR_EXPORT_TERMINATION, renderReport(report));
}
