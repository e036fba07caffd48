import { readFileSync } from "node:fs";

/** Whether a process lives. A zombie, which nobody has waited for yet, counts as gone. */
export function isAlive(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, "latin1"));
  } catch {
    return false;
  }
}
