import { spawn } from "node:child_process";

interface ProcessOptions {
  command: string;
  args: string[];
  /** the whole environment: no variable of ours is inherited */
  env: Record<string, string>;
  cwd?: string;
  /** file descriptor for its stdout and stderr; default: those of this process */
  output?: number;
  /** opens an IPC channel. It closes when this process dies, which tells the child to exit. */
  ipc?: boolean;
  /** gives it a process group of its own, which is killed when it ends. kill() then reaches the processes that it
   *  started, too, and Ctrl-C does not reach it. */
  group?: boolean;
  onMessage?: (message: unknown) => void;
}

export interface Exit {
  code: number | null;
  signal: NodeJS.Signals | null;
  /** why it could not be started */
  error?: Error;
}

export interface RunningProcess {
  /** undefined = it could not be started */
  pid: number | undefined;
  exited: Promise<Exit>;
  /** @returns false when the process is gone already */
  kill(signal: NodeJS.Signals): boolean;
  /** Sends SIGTERM, and SIGKILL after the grace time. Resolves when the process is gone. */
  stop(graceMs: number): Promise<Exit>;
}

/** Starts a child process. It never throws: if the process cannot be started, its Exit has an error. */
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
    // This event also comes when a signal could not be sent; then the child has a pid.
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
      // There is no such group: the process is gone.
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
