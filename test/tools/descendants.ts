import { readdirSync, readFileSync } from "node:fs";
import { isGuard } from "./guard.ts";

/** Kills these processes and all that they have started, also what has a process group of its own. What a process of
 *  this machine has started is found in /proc only as long as that process lives, so it is found before any is killed;
 *  and each is stopped first, so that it starts nothing more meanwhile. Guards are spared: they end by themselves when
 *  they have cleaned up. */
export function killTrees(roots: readonly number[]): void {
  for (const pid of roots) send(pid, "SIGSTOP");
  killDescendants(roots);
  for (const pid of roots) send(pid, "SIGKILL");
}

/** As killTrees, but the processes themselves stay. */
export function killDescendants(of: readonly number[]): void {
  const found = new Set(of);
  for (let before = 0; found.size > before; ) {
    before = found.size;
    for (const [pid, parent] of parents()) {
      if (found.has(pid) || !found.has(parent) || isGuard(pid)) continue;
      found.add(pid);
      send(pid, "SIGSTOP");
    }
  }
  for (const pid of of) found.delete(pid);
  for (const pid of found) send(pid, "SIGKILL");
}

/** The parent of each process of this machine. */
export function parents(): Map<number, number> {
  const found = new Map<number, number>();
  for (const name of readdirSync("/proc").filter((entry) => /^\d+$/.test(entry)))
    try {
      const [, parent] = /\) \S (\d+)/.exec(readFileSync(`/proc/${name}/stat`, "latin1")) ?? [];
      found.set(Number(name), Number(parent));
    } catch {
      // it is gone
    }
  return found;
}

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // it is gone
  }
}
