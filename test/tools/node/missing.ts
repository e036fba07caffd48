import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { imageMissing } from "../image.ts";

const packages = "containerd runc containernetworking-plugins buildah iptables conntrack iproute2 openssl";
const programs = ["containerd", "ctr", "runc", "iptables", "conntrack", "ip", "unshare", "nsenter", "openssl", "tar"];

/** Why there can be no node here; undefined when there can. */
export function nodeMissing(): string | undefined {
  const image = imageMissing();
  if (image) return image;
  const missing = programs.filter((name) => spawnSync("which", [name]).status !== 0);
  if (!existsSync("/usr/lib/cni/bridge")) missing.push("CNI plugins");
  if (missing.length) return `${missing.join(", ")} missing (apt-get install --no-install-recommends ${packages})`;
  const { status, stderr } = spawnSync("unshare", ["--fork", "--pid", "--mount-proc", "--net", "--mount", "--uts", "true"], {
    encoding: "utf8",
  });
  return status === 0 ? undefined : `namespaces cannot be made: ${stderr.trim()}`;
}

// for .ci/run
if (import.meta.main) {
  const missing = nodeMissing();
  if (missing) console.log(missing);
  process.exitCode = missing ? 1 : 0;
}
