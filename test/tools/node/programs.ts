/** Builds what a real node needs besides the control plane, and the tools that tests of the chart use: `npm run
 *  node:build`. About 10 minutes on 2 idle cores with empty Go caches, 2 when only Kubernetes has been compiled before;
 *  later runs return at once. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { buildControlPlane, kubernetes, type Programs } from "../build.ts";
import { buildInto, cacheFolder, cacheFolders, type GoBuild, goVersion } from "../go.ts";
import { writePauseImage } from "./images.ts";

const modules = fileURLToPath(new URL("./modules/", import.meta.url));
const built = (name: string, path: string): GoBuild => ({
  folder: join(modules, name),
  args: ["-trimpath", "-ldflags", "-s -w", path],
  name,
});

const servers: GoBuild[] = [
  kubernetes(["kubelet", "kube-proxy"]),
  built("coredns", "github.com/coredns/coredns"),
  built("pause", "example.test/pause"),
];
const tools: GoBuild[] = [
  built("helm3", "helm.sh/helm/v3/cmd/helm"),
  built("helm4", "helm.sh/helm/v4/cmd/helm"),
  built("kubeconform", "github.com/yannh/kubeconform/cmd/kubeconform"),
  built("kube-score", "github.com/zegl/kube-score/cmd/kube-score"),
];
/** Each module is built for itself, so that a new version of one costs only its own build. */
const sets = { node: servers, tools };
const files = { node: ["kubelet", "kube-proxy", "coredns", "pause.tar"], tools: tools.map(({ name }) => name!) };
type Name = keyof typeof sets;
const moduleOf = (name: Name) => sets[name].at(-1)!.folder;

/** Folders of the programs of a node, and the control plane's. */
export interface NodePrograms {
  plane: Required<Programs>;
  /** kubelet, kube-proxy, coredns, and pause.tar, the image of the container that holds a pod's namespaces */
  node: string;
  /** helm3, helm4, kubeconform, kube-score */
  tools: string;
}

const whole = (name: Name) => (folder: string) => files[name].every((file) => existsSync(join(folder, file)));

function find(name: Name): string | undefined {
  const go = goVersion(moduleOf(name));
  // Without Go its version is unknown, so programs that any version has built are used.
  return (go ? [cacheFolder(name, sets[name], go)] : cacheFolders(name, sets[name])).find(whole(name));
}

/** Builds what is missing, the control plane included.
 *  @param say called with a line about each step and its duration */
export async function buildNodePrograms(say: (line: string) => void): Promise<NodePrograms> {
  const plane = await buildControlPlane(say);
  if (!plane.controllerManager || !plane.scheduler)
    throw new Error("KUBEBUILDER_ASSETS has no controllers, which a node needs");
  const [node, tools] = [await make("node", say), await make("tools", say)];
  say(`node: programs are in ${node} and ${tools}`);
  return { plane: plane as Required<Programs>, node, tools };
}

/** @returns the folder */
async function make(name: Name, say: (line: string) => void): Promise<string> {
  const there = find(name);
  if (there) return there;
  const go = goVersion(moduleOf(name));
  if (!go) throw new Error("the programs of the node are not built, and there is no Go to build them");
  const folder = cacheFolder(name, sets[name], go);
  await buildInto(folder, sets[name], {
    whole: whole(name),
    say: (line) => say(`node: ${line}`),
    finish: (made) => {
      if (name === "node") writePauseImage(join(made, "pause"), join(made, "pause.tar"));
    },
  });
  return folder;
}

if (import.meta.main) {
  try {
    await buildNodePrograms(console.log);
  } catch (error) {
    console.error(`!! ${(error as Error).message}`);
    process.exitCode = 1;
  }
}
