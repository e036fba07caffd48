import { spawnSync } from "node:child_process";
import { accessSync, constants, existsSync } from "node:fs";
import { imageMissing } from "../image.ts";

const packages = "containerd runc containernetworking-plugins buildah iptables conntrack iproute2 openssl";
const programs = ["containerd", "ctr", "runc", "iptables", "conntrack", "ip", "unshare", "nsenter", "openssl", "tar"];

/** Why a node cannot run on this machine; undefined when it can. */
export function nodeMissing(): string | undefined {
  const image = imageMissing();
  if (image) return image;
  const missing = programs.filter((name) => spawnSync("which", [name]).status !== 0);
  if (!existsSync("/usr/lib/cni/bridge")) missing.push("CNI plugins");
  if (missing.length) return `${missing.join(", ")} missing (apt-get install --no-install-recommends ${packages})`;
  const { status, stderr } = spawnSync(
    "unshare",
    ["--fork", "--pid", "--mount-proc", "--net", "--mount", "--uts", "true"],
    {
      encoding: "utf8",
    },
  );
  if (status !== 0) return `namespaces cannot be made: ${stderr.trim()}`;
  // Version 1 of cgroups has a folder per controller, version 2 only the top one.
  const cgroups = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"].find(existsSync);
  try {
    accessSync(cgroups!, constants.W_OK);
  } catch {
    return "cgroups cannot be made: /sys/fs/cgroup cannot be written";
  }
  return undefined;
}

// .ci/run calls this file as a program.
if (import.meta.main) {
  const missing = nodeMissing();
  if (missing) console.log(missing);
  process.exitCode = missing ? 1 : 0;
}
