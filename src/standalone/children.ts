import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { type Exit, runProcess } from "./process.ts";

/** A process, told apart from a later one with the same number. */
export interface Identity {
  pid: number;
  /** when it started, as the system writes it */
  started: string;
}

export interface Child {
  /** undefined when it could not be started */
  identity: Identity | undefined;
  progressPort: number | undefined;
  exited: Promise<Exit>;
  /** SIGTERM, then SIGKILL; resolves when it is gone */
  stop(graceMs: number): Promise<Exit>;
}

/** What a worker needs of our environment; credentials that were given to standalone that way do not go on to it. */
const passed = ["PATH", "HOME", "TMPDIR", "TZ", "NODE_EXTRA_CA_CERTS", "NODE_OPTIONS", "FHIR_EXPORT_LOG_LEVEL"];

/** Starts a worker whose IPC channel is its lifeline: it exits when this process is gone (src/main.ts). */
export function startChild([program, ...args]: string[], env: Record<string, string>): Child {
  const inherited: Record<string, string> = {};
  for (const name of passed) if (process.env[name] !== undefined) inherited[name] = process.env[name];
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

export const isAlive = ({ pid, started }: Identity): boolean => startOf(pid) === started;

/** undefined when there is no such process, or only its remains */
function startOf(pid: number): string | undefined {
  try {
    if (process.platform === "linux") {
      // the second field, the program's name in parentheses, may hold spaces
      const fields = readFileSync(`/proc/${pid}/stat`, "latin1").split(") ").at(-1)!.split(" ");
      return fields[0] === "Z" || fields[0] === "X" ? undefined : fields[19];
    }
    const text = execFileSync("ps", ["-o", "lstart=", "-p", String(pid)], { encoding: "utf8" }).trim();
    return text === "" ? undefined : text;
  } catch {
    return undefined;
  }
}
