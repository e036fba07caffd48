/** Ends test files that never end. The runner's timeouts end tests, not what is left when they are over (a hook, a connection, a child process), and one file
 *  that never ends takes the whole run with it. */
import { readdirSync, readFileSync } from "node:fs";
import { isMainThread } from "node:worker_threads";

/** The longest file of e2e takes 600 s, and the longest of the others 180 s. */
const limitMs = Number(process.env.FHIR_EXPORT_TEST_LIMIT_MS ?? 1_200_000);
/** for what node does after a process has nothing left to do */
const graceMs = 10_000;
const file = process.argv[1] ?? "";

// loaded into each test process (run.ts), which can tell best what keeps it
if (isMainThread && process.env.NODE_TEST_CONTEXT && file.endsWith(".test.ts"))
  setTimeout(() => {
    console.error(`!! ${file} has not ended after ${limitMs / 1000} s; what keeps it: ${describeHandles()}`);
    process.exit(1);
  }, limitMs).unref();

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
  const seen = new Map<string, number>();
  setInterval(() => {
    for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
      const of = testOf(pid);
      if (of === undefined) continue;
      const since = seen.get(pid) ?? performance.now();
      seen.set(pid, since);
      if (performance.now() - since < limitMs + graceMs) continue;
      console.error(`!! ${of} does not end even by itself: killed`);
      process.kill(Number(pid), "SIGKILL");
    }
  }, graceMs / 10).unref();
}

/** The file that a child of this process tests. */
function testOf(pid: string): string | undefined {
  try {
    const [, parent] = /\) \S (\d+)/.exec(readFileSync(`/proc/${pid}/stat`, "latin1")) ?? [];
    if (Number(parent) !== process.pid) return undefined;
    const last = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").at(-2);
    return last?.endsWith(".test.ts") ? last : undefined;
  } catch {
    // it is gone
    return undefined;
  }
}
