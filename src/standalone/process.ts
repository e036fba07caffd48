import { spawn } from "node:child_process";

export interface ProcessOptions {
  command: string;
  args: string[];
  /** the whole environment; nothing is inherited */
  env: Record<string, string>;
  cwd?: string;
  /** a file descriptor for stdout and stderr; default: ours */
  output?: number;
  /** opens a channel that closes when this process dies: the child's sign to exit */
  ipc?: boolean;
  /** its own process group, which ends with it; kill() also reaches what it started, and Ctrl-C does not reach it */
  group?: boolean;
  onMessage?: (message: unknown) => void;
}

export interface Exit {
  code: number | null;
  signal: NodeJS.Signals | null;
  /** it could not be started at all */
  error?: Error;
}

export interface RunningProcess {
  /** undefined when it could not be started */
  pid: number | undefined;
  exited: Promise<Exit>;
  /** @returns false when it is gone already */
  kill(signal: NodeJS.Signals): boolean;
  /** SIGTERM, and SIGKILL when it is still there after the grace time; resolves when it is gone */
  stop(graceMs: number): Promise<Exit>;
}

/** Starts a child process. It never throws: what cannot be started is an Exit with an error. */
export function runProcess({ command, args, env, cwd, output, ipc, group, onMessage }: ProcessOptions): RunningProcess {
  const out = output ?? "inherit";
  const child = spawn(command, args, {
    env,
    cwd,
    detached: group ?? false,
    stdio: ["ignore", out, out, ...(ipc ? (["ipc"] as const) : [])],
  });
  let gone = false;
  const exited = new Promise<Exit>((resolve) => {
    const end = (exit: Exit) => {
      if (group) kill("SIGKILL");
      gone = true;
      resolve(exit);
    };
    child.once("exit", (code, signal) => end({ code, signal }));
    // also emitted when a signal could not be sent; only the first end counts
    child.once("error", (error) => child.pid === undefined && end({ code: null, signal: null, error }));
  });
  child.on("error", () => {});
  if (onMessage) child.on("message", onMessage);
  const kill = (signal: NodeJS.Signals) => {
    if (gone || child.pid === undefined) return false;
    if (!group) return child.kill(signal);
    try {
      return process.kill(-child.pid, signal);
    } catch {
      // no such group: it is gone
      return false;
    }
  };
  return {
    pid: child.pid,
    exited,
    kill,
    stop: async (graceMs) => {
      kill("SIGTERM");
      const timer = setTimeout(() => kill("SIGKILL"), graceMs);
      const exit = await exited;
      clearTimeout(timer);
      return exit;
    },
  };
}
