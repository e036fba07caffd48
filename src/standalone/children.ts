import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { type Exit, runProcess } from "./process.ts";

/** Identifies a process for good: the system gives its number to another process later. */
export interface ProcessIdentity {
  pid: number;
  /** when the process started, as the system writes it */
  started: string;
}

export interface Child {
  /** undefined = the process could not be started */
  identity: ProcessIdentity | undefined;
  /** where the worker serves its progress; undefined until the worker has said so */
  progressPort: number | undefined;
  exited: Promise<Exit>;
  /** Sends SIGTERM, and SIGKILL after the grace time. Resolves when the process is gone. */
  stop(graceMs: number): Promise<Exit>;
}

/** The environment variables that a worker inherits. Others, such as credentials that standalone was given, are not
 *  passed on. */
const inheritedNames = [
  "PATH",
  "HOME",
  "TMPDIR",
  "TZ",
  "NODE_EXTRA_CA_CERTS",
  "NODE_OPTIONS",
  // If the user sets it, a worker need not compile what an earlier one has compiled, which is most of its start.
  "NODE_COMPILE_CACHE",
  "FHIR_EXPORT_LOG_LEVEL",
];

/** Starts a worker with an IPC channel to this process. The channel closes when this process dies, and the worker then
 *  exits (src/main.ts). */
export function startChild([program, ...args]: string[], env: Record<string, string>): Child {
  const inherited: Record<string, string> = {};
  for (const name of inheritedNames) if (process.env[name] !== undefined) inherited[name] = process.env[name];
  const child = runProcess({
    command: program!,
    args,
    env: { ...inherited, ...env },
    ipc: true,
    onMessage: (message) => {
      const { progressPort } = (message ?? {}) as { progressPort?: unknown };
      if (typeof progressPort === "number") made.progressPort = progressPort;
    },
  });
  const started = child.pid === undefined ? undefined : startOf(child.pid);
  const made: Child = {
    identity: child.pid === undefined || started === undefined ? undefined : { pid: child.pid, started },
    progressPort: undefined,
    exited: child.exited,
    stop: child.stop,
  };
  return made;
}

export const isAlive = ({ pid, started }: ProcessIdentity): boolean => startOf(pid) === started;

/** When a process started; undefined when there is none of this number, or it is a zombie. */
function startOf(pid: number): string | undefined {
  try {
    if (process.platform === "linux") {
      // The second field is the program's name in parentheses, which may hold spaces.
      const fields = readFileSync(`/proc/${pid}/stat`, "latin1").split(") ").at(-1)!.split(" ");
      return fields[0] === "Z" || fields[0] === "X" ? undefined : fields[19];
    }
    const text = execFileSync("ps", ["-o", "lstart=", "-p", String(pid)], { encoding: "utf8" }).trim();
    return text === "" ? undefined : text;
  } catch {
    return undefined;
  }
}
