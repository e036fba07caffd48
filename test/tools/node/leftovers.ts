/** Ends a node and removes what does not end with its namespaces: cgroups and files. */
import { existsSync, readdirSync, readFileSync, readlinkSync, rmdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { until } from "../until.ts";
import { end, lives } from "./namespaces.ts";
import type { NodeRecord } from "./record.ts";

// The kubelet would set these sysctls of the machine. It sees files of its own instead (namespaces.ts).
const watched = [
  "vm/overcommit_memory",
  "vm/panic_on_oom",
  "kernel/panic",
  "kernel/panic_on_oops",
  "net/ipv4/ip_forward",
];

/** Settings of the machine that a node must leave as they are. */
export const sysctls = (): NodeRecord["sysctls"] =>
  Object.fromEntries(
    watched
      .filter((path) => existsSync(`/proc/sys/${path}`))
      .map((path) => [path, readFileSync(`/proc/sys/${path}`, "utf8").trim()]),
  );

/** Top folders of pods' cgroups: one per controller in version 1, one in version 2. */
export function podCgroups(): string[] {
  const root = "/sys/fs/cgroup";
  if (!existsSync(root)) return [];
  const parents = [root, ...readdirSync(root).map((name) => join(root, name))];
  return parents.map((parent) => join(parent, "kubepods")).filter(existsSync);
}

/** Whether processes run in pods' cgroups. */
export const podsRun = (): boolean =>
  podCgroups().some((top) =>
    folders(top).some((folder) => {
      try {
        return readFileSync(join(folder, "cgroup.procs"), "utf8") !== "";
      } catch {
        return false;
      }
    }),
  );

/** A folder and all below it, the deepest first. */
function folders(top: string): string[] {
  try {
    const below = readdirSync(top, { withFileTypes: true }).filter((one) => one.isDirectory());
    return [...below.flatMap(({ name }) => folders(join(top, name))), top];
  } catch {
    // It is gone meanwhile.
    return [];
  }
}

/** Removes a cgroup. This works only a moment after its last process has ended. */
export async function removePodCgroups(): Promise<void> {
  await until(
    "the end of the pods' cgroups",
    async () => {
      for (const folder of podCgroups().flatMap(folders)) {
        try {
          rmdirSync(folder);
        } catch {}
      }
      return podCgroups().length === 0;
    },
    20_000,
  );
}

/** Ends all processes of the node and removes its cgroups and files. */
export async function endNode({ holder, parent, network, folder }: NodeRecord): Promise<void> {
  if (holder) await end(holder);
  if (parent) await end(parent);
  if (network) await until("the end of the node's processes", async () => processesIn(network).length === 0, 20_000);
  await removePodCgroups();
  rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
}

/** The leftovers of a stopped node; empty when everything is as before its start. */
export function leftovers({ holder, parent, network, folder, sysctls: before }: NodeRecord): string[] {
  const mounts = readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .filter((line) => line.includes(folder));
  const now = sysctls();
  return [
    ...[holder, parent].filter((one) => one && lives(one)).map((one) => `process ${one!.pid}`),
    ...(network ? processesIn(network).map((pid) => `process ${pid}`) : []),
    ...mounts.map((line) => `mount ${line}`),
    ...podCgroups().map((path) => `cgroup ${path}`),
    ...(existsSync(folder) ? [`folder ${folder}`] : []),
    ...Object.keys(before)
      .filter((path) => now[path] !== before[path])
      .map((path) => `sysctl ${path}: ${now[path]}, was ${before[path]}`),
  ];
}

/** Processes in a network namespace. Those in pods' own namespaces are not counted, as they end with their
 *  container. */
function processesIn(network: string): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        return readlinkSync(`/proc/${pid}/ns/net`) === network;
      } catch {
        return false;
      }
    });
}
