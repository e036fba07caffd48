import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";

/** Ends processes and removes folders when this process is gone. A process of its own does this, so that it works after
 *  SIGKILL, too. */
export interface Guard {
  add(pid: number): void;
  remove(pid: number): void;
  /** Ends the guard, which then does nothing. */
  close(): void;
}

// The guard reads until the pipe closes, which the system does for a killed process, too. It ends groups first, to
// reach what the processes started.
const script = `
pids=" "
while read -r sign pid; do
  case $sign in
    +) pids="$pids$pid " ;;
    -) case $pids in *" $pid "*) pids="\${pids%% $pid *} \${pids#* $pid }" ;; esac ;;
  esac
done
for pid in $pids; do kill -KILL -$pid 2>/dev/null; kill -KILL $pid 2>/dev/null; done
rm -rf "$@"`;

/** by which a guard is known among the processes of this machine */
const guardName = "fhir-export-guard";

export function isGuard(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0")[3] === guardName;
  } catch {
    // it is gone
    return false;
  }
}

/** @param folders removed when this process dies, not on close() */
export function startGuard(folders: string[] = []): Guard {
  // The guard has a group of its own, as Ctrl-C goes to the whole group of the terminal.
  const child: ChildProcess = spawn("/bin/sh", ["-c", script, guardName, ...folders], {
    stdio: ["pipe", "ignore", "ignore"],
    detached: true,
  });
  child.unref();
  const say = (text: string) => child.stdin!.write(text);
  child.stdin!.on("error", () => {});
  (child.stdin as unknown as { unref(): void }).unref();
  return {
    add: (pid) => say(`+ ${pid}\n`),
    remove: (pid) => say(`- ${pid}\n`),
    close: () => child.kill("SIGKILL"),
  };
}
