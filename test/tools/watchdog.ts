/** Loaded into each test process (run.ts): the runner's timeouts end tests, not what is left when they are over - a hook, a connection, a child
 *  process - and one file that never ends takes the whole run with it. */
import { isMainThread } from "node:worker_threads";

/** four times what the longest file takes on a slow machine */
const limitMs = Number(process.env.FHIR_EXPORT_TEST_LIMIT_MS ?? 1_200_000);
const file = process.argv[1] ?? "";

if (isMainThread && file.endsWith(".test.ts")) {
  const end = () => {
    console.error(`!! ${file} has not ended after ${limitMs / 1000} s; what keeps it: ${describeHandles()}`);
    process.exit(1);
  };
  setTimeout(end, limitMs).unref();
}

/** Sockets by their ports, processes by their commands. */
function describeHandles(): string {
  // the only way to tell one socket from another
  const { _getActiveHandles } = process as unknown as { _getActiveHandles(): object[] };
  const handles = _getActiveHandles.call(process).map((handle) => {
    const { localPort, remotePort, spawnfile, pid } = handle as Record<string, string | number | undefined>;
    const of = spawnfile !== undefined ? `${spawnfile} ${pid}` : localPort !== undefined ? `${localPort} to ${remotePort}` : "";
    return `${handle.constructor.name}${of && ` ${of}`}`;
  });
  return [...handles, ...process.getActiveResourcesInfo()].join(", ");
}
