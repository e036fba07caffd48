/** Runs programs inside the node's namespaces. */
import { spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { until } from "../until.ts";
import { inside, type Process, processOf } from "./namespaces.ts";

export interface Output {
  stdout: string;
  stderr: string;
  /** null when it was ended by a signal */
  code: number | null;
}

export interface RunOptions {
  input?: string;
  /** default 2 minutes; then it is killed, and an Error */
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
  // a group, which a signal reaches as a whole: nsenter waits outside for what it runs inside
  const child = spawn(program, args, {
    stdio: ["pipe", "pipe", "pipe"],
    env: { ...env, ...options.env },
    detached: true,
  });
  const out = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const)
    child[name].setEncoding("utf8").on("data", (text) => (out[name] += text));
  // it may end without having read all
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

/** Starts a program that outlives this process and ends with the namespaces.
 *  @param log gets what it says
 *  @returns the leader of its group, as seen from outside */
export function startInside(
  pid: number,
  command: string[],
  env: { [name: string]: string },
  log: string,
  cwd = process.cwd(),
): Process {
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

/** Ends a group: SIGTERM, and SIGKILL for what is there after the grace time. */
export async function endGroup({ pid, started }: Process, graceMs: number): Promise<void> {
  // a leader that is gone may have left its group: its number is not given anew while the group is there
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

/** @returns false when there is no such group */
function signal(group: number, name: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(-group, name);
  } catch {
    return false;
  }
}
