import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { readFileSync } from "node:fs";

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
  exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  /** SIGTERM, then SIGKILL; resolves when it is gone */
  stop(graceMs: number): Promise<void>;
}

/** What a worker needs of our environment; credentials that were given to standalone that way do not go on to it. */
const passed = ["PATH", "HOME", "TMPDIR", "TZ", "NODE_EXTRA_CA_CERTS", "NODE_OPTIONS", "FHIR_EXPORT_LOG_LEVEL"];

/** Starts a worker whose IPC channel is its lifeline: it exits when this process is gone (src/main.ts). */
export function startChild([program, ...args]: string[], env: Record<string, string>): Child {
  const inherited = Object.fromEntries(passed.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]])));
  const child: ChildProcess = spawn(program!, args, {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
    env: { ...inherited, ...env },
  });
  const exited = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) => {
    child.once("exit", (code, signal) => resolve({ code, signal }));
    child.once("error", () => resolve({ code: null, signal: null }));
  });
  const started = child.pid === undefined ? undefined : startOf(child.pid);
  const made: Child = {
    identity: child.pid === undefined || started === undefined ? undefined : { pid: child.pid, started },
    progressPort: undefined,
    exited,
    stop: async (graceMs) => {
      child.kill("SIGTERM");
      const timer = setTimeout(() => child.kill("SIGKILL"), graceMs);
      await exited;
      clearTimeout(timer);
    },
  };
  child.on("message", (message: { progressPort?: number }) => {
    if (typeof message?.progressPort === "number") made.progressPort = message.progressPort;
  });
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
