/** Runs programs inside the node's namespaces. */
import { spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { until } from "../until.ts";
import { inside, type Process, processOf } from "./namespaces.ts";

export interface Output {
  stdout: string;
  stderr: string;
  /** null = a signal ended it */
  code: number | null;
}

export interface RunOptions {
  input?: string;
  /** after this time the program is killed, and the call throws; default 2 minutes */
  timeoutMs?: number;
  /** added to the environment, which has PATH, HOME and KUBECONFIG */
  env?: { [name: string]: string };
  /** default: the working directory */
  cwd?: string;
}

/** Runs a program to its end.
 *  @param pid of a process in the namespaces
 *  @param env its whole environment */
export async function runInside(
  pid: number,
  command: string[],
  env: { [name: string]: string },
  options: RunOptions,
): Promise<Output> {
  const { input, timeoutMs = 120_000, cwd = process.cwd() } = options;
  const [program, args] = inside(pid, command, cwd);
  // The program gets a group of its own, so that a signal reaches both nsenter, which waits outside, and the program
  // inside.
  const child = spawn(program, args, {
    stdio: ["pipe", "pipe", "pipe"],
    env: { ...env, ...options.env },
    detached: true,
  });
  const out = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const)
    child[name].setEncoding("utf8").on("data", (text) => (out[name] += text));
  // The program may end before it has read all of its input.
  child.stdin.on("error", () => {});
  child.stdin.end(input ?? "");
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    signal(child.pid!, "SIGKILL");
  }, timeoutMs);
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  clearTimeout(timer);
  if (late)
    throw new Error(
      `${command.join(" ")} did not end within ${timeoutMs / 1000} s: ${out.stdout}${out.stderr}`.slice(0, 4000),
    );
  return { ...out, code };
}

export interface StartOptions {
  /** the whole environment */
  env: { [name: string]: string };
  /** file to which the program's output is added */
  log: string;
  /** default: the working directory */
  cwd?: string | undefined;
}

/** Starts a program that outlives this process and ends with the namespaces.
 *  @param pid of a process in the namespaces
 *  @returns the leader of its group, as seen from outside */
export function startInside(pid: number, command: string[], { env, log, cwd = process.cwd() }: StartOptions): Process {
  const [program, args] = inside(pid, command, cwd);
  const output = openSync(log, "a");
  const child = spawn(program, args, { stdio: ["ignore", output, output], env, detached: true });
  closeSync(output);
  child.on("error", () => {});
  child.unref();
  const started = child.pid === undefined ? undefined : processOf(child.pid);
  if (!started) throw new Error(`${command[0]} cannot be started`);
  return started;
}

/** Ends a group of processes by SIGTERM and, after the grace time, by SIGKILL. */
export async function endGroup({ pid, started }: Process, graceMs: number): Promise<void> {
  // The leader may be gone while its group is still there. The system does not reuse its number until the group is
  // gone, too.
  const now = processOf(pid);
  if (now && now.started !== started) return;
  if (!signal(pid, "SIGTERM")) return;
  const gone = async () => !signal(pid, 0);
  try {
    await until(`the end of process group ${pid}`, gone, graceMs);
  } catch {
    signal(pid, "SIGKILL");
    await until(`the end of process group ${pid}`, gone);
  }
}

/** Sends a signal to a group; 0 = none, only to see whether it exists. @returns false when there is no such group */
function signal(group: number, name: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(-group, name);
  } catch {
    return false;
  }
}
