/** Ends test files that never end. The runner's timeouts end tests, not what is left when they are over (a hook, a
 *  connection, a child process), and one file that never ends takes the whole run with it. With a file that is ended
 *  here, or by a signal, what it has started ends, too. */
import { readFileSync } from "node:fs";
import { constants } from "node:os";
import { isMainThread } from "node:worker_threads";
import { killDescendants, killTrees, parents } from "./descendants.ts";

/** The longest file of e2e takes 600 s, and the longest of the others 180 s. */
const limitMs = Number(process.env.FHIR_EXPORT_TEST_LIMIT_MS ?? 1_200_000);
/** for what node does after a process has nothing left to do */
const graceMs = 10_000;
const file = process.argv[1] ?? "";

// loaded into each test process (run.ts), which can tell best what keeps it
if (isMainThread && process.env.NODE_TEST_CONTEXT && file.endsWith(".test.ts")) {
  setTimeout(() => {
    console.error(`!! ${file} has not ended after ${limitMs / 1000} s; what keeps it: ${describeHandles()}`);
    killDescendants([process.pid]);
    process.exit(1);
  }, limitMs).unref();
  // Ctrl-C reaches this process together with the runner, but not those of its children that have a group of their own.
  for (const signal of ["SIGINT", "SIGTERM"] as const)
    process.on(signal, () => {
      killDescendants([process.pid]);
      process.exit(128 + constants.signals[signal]);
    });
}

/** Sockets by their ports, processes by their commands. */
function describeHandles(): string {
  // the only way to tell one socket from another
  const { _getActiveHandles } = process as unknown as { _getActiveHandles(): object[] };
  const handles = _getActiveHandles.call(process).map((handle) => {
    const { localPort, remotePort, spawnfile, pid } = handle as Record<string, string | number | undefined>;
    const of =
      spawnfile !== undefined ? `${spawnfile} ${pid}` : localPort !== undefined ? `${localPort} to ${remotePort}` : "";
    return `${handle.constructor.name}${of && ` ${of}`}`;
  });
  return [...handles, ...process.getActiveResourcesInfo()].join(", ");
}

/** In the runner's process: ends those of its children that do not do it themselves, e.g. in an endless loop. */
export function watchTestProcesses(): void {
  const seen = new Map<number, number>();
  setInterval(() => {
    for (const [pid, of] of testProcesses()) {
      const since = seen.get(pid) ?? performance.now();
      seen.set(pid, since);
      if (performance.now() - since < limitMs + graceMs) continue;
      console.error(`!! ${of} does not end even by itself: killed`);
      killTrees([pid]);
    }
  }, graceMs / 10).unref();
}

/** In the runner's process: ends all test files, and what they have started. */
export function endTestProcesses(): void {
  killTrees(testProcesses().map(([pid]) => pid));
}

/** The children of this process that test a file, each with its file. */
function testProcesses(): [pid: number, file: string][] {
  return [...parents()].flatMap(([pid, parent]): [number, string][] => {
    const of = parent === process.pid ? fileOf(pid) : undefined;
    return of === undefined ? [] : [[pid, of]];
  });
}

function fileOf(pid: number): string | undefined {
  try {
    const last = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").at(-2);
    return last?.endsWith(".test.ts") ? last : undefined;
  } catch {
    // it is gone
    return undefined;
  }
}
