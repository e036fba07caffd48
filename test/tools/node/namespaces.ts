/** The namespaces of the node: network, mounts, processes and host name. One process holds them; when it ends, all
 *  processes in them end. */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { until } from "../until.ts";

/** Identifies a process by its number and its start, as the system gives the number to another process later. */
export interface Process {
  pid: number;
  started: string;
}

/** The process of a number; undefined when there is none, or it is a zombie. */
export function processOf(pid: number): Process | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  } catch {
    return undefined;
  }
  // The name in parentheses may hold any character. After it come the state and, as the 20th field, the start.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return fields[0] === "Z" || fields[0] === "X" ? undefined : { pid, started: fields[19]! };
}

export const lives = ({ pid, started }: Process): boolean => processOf(pid)?.started === started;

/** Kills a process if it is still the same one. Resolves when it is gone. */
export async function end(one: Process): Promise<void> {
  if (!lives(one)) return;
  process.kill(one.pid, "SIGKILL");
  await until(`the end of process ${one.pid}`, async () => !lives(one), 20_000);
}

export const nodeName = "node1";
/** The node's address. It is in the benchmark range, which exists only within these namespaces. */
export const nodeAddress = "198.18.2.1";
/** A name by which pods reach the node, for certificates. */
export const nodeHost = "node1.test";
export const serviceRange = "198.18.1.0/24";
export const podRange = "198.18.0.0/24";

// As process 1 bash reaps the orphans of the node's processes while it waits. The sleep keeps wait from returning at
// once.
const holder = "sleep infinity & echo held; while :; do wait; done";

/** Starts the process that holds the namespaces.
 *  @param guard called with the number of its parent as soon as that has started
 *  @returns the process as seen from outside, and its parent, with which it ends, too */
export async function startHolder(guard: (pid: number) => void): Promise<{ holder: Process; parent: Process }> {
  const child = spawn(
    "unshare",
    [
      ...[
        "--fork",
        "--pid",
        "--mount-proc",
        "--net",
        "--mount",
        "--uts",
        "--propagation",
        "private",
        "--kill-child=KILL",
      ],
      ...["bash", "-c", holder],
    ],
    // It has a group of its own, as Ctrl-C goes to the whole group of the terminal.
    { stdio: ["ignore", "pipe", "pipe"], detached: true, env: { PATH: process.env.PATH } },
  );
  if (child.pid !== undefined) guard(child.pid);
  let said = "";
  await new Promise<void>((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", () => reject(new Error(`namespaces cannot be made: ${said}`)));
    child.stderr.on("data", (text) => (said += text));
    child.stdout.once("data", () => resolve());
  });
  child.stdout.destroy();
  child.stderr.destroy();
  child.unref();
  const parent = processOf(child.pid!)!;
  const pid = Number(readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, "utf8"));
  const held = processOf(pid);
  if (!pid || !held) throw new Error("the process that holds the namespaces ended");
  return { holder: held, parent };
}

/** The command that runs another one inside the namespaces. The caller gives it its environment. */
export const inside = (pid: number, command: string[], cwd: string): [string, string[]] => [
  "nsenter",
  ["--target", String(pid), "--net", "--mount", "--pid", "--uts", `--wdns=${cwd}`, "--", ...command],
];

/** Sysctls that the kubelet sets. They belong to the machine and not to a namespace. The node sees files with the
 *  values that the kubelet wants, so no setting of the machine changes. */
const wanted = {
  "vm/overcommit_memory": 1,
  "vm/panic_on_oom": 0,
  "kernel/panic": 10,
  "kernel/panic_on_oops": 1,
  "kernel/keys/root_maxkeys": 1000000,
  "kernel/keys/root_maxbytes": 25000000,
};

/** The script that is run once inside the namespaces and sets them up like a machine. Everything that it writes outside
 *  of the folder disappears with the namespaces.
 *  @param folder for files that stay until the node is stopped */
export const setUp = (folder: string): string => `set -eu
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
echo ${nodeName} > /proc/sys/kernel/hostname
ip link set lo up
# a bridge without ports: not every kernel has dummy interfaces
ip link add node0 type bridge
ip address add ${nodeAddress}/24 dev node0
ip link set node0 up
# a connect from the node needs a route before kube-proxy's rules send it elsewhere
ip route add ${serviceRange} dev node0
echo 1 > /proc/sys/net/ipv4/ip_forward
# the kubelet, CNI plugins and containerd's shims have paths in /run and /var that cannot be set
mount -t tmpfs tmpfs /run
mkdir -p /run/lock
mkdir -p ${folder}/var ${folder}/etcd
mount -t tmpfs tmpfs ${folder}/var
mkdir ${folder}/var/upper ${folder}/var/work
mount -t overlay overlay -o lowerdir=/var,upperdir=${folder}/var/upper,workdir=${folder}/var/work /var
mount -t tmpfs tmpfs ${folder}/etcd
mkdir ${folder}/sysctl
${Object.entries(wanted)
  .map(([path, value]) => {
    const file = `${folder}/sysctl/${path.replaceAll("/", ".")}`;
    return `if test -e /proc/sys/${path}; then echo ${value} > ${file}; mount --bind ${file} /proc/sys/${path}; fi`;
  })
  .join("\n")}
# processes of the node resolve names as pods do
echo "nameserver ${nodeAddress}" > ${folder}/resolv.conf
resolv=$(readlink -f /etc/resolv.conf)
mkdir -p "$(dirname "$resolv")"
test -e "$resolv" || : > "$resolv"
mount --bind ${folder}/resolv.conf "$resolv"
`;
