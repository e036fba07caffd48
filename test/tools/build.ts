/** Builds the control plane that tests run on, from Go modules, into a cache outside the tree: `npm run cluster:build`.
 *  About 5 minutes on 2 idle cores the first time (9 CPU minutes, 1.8 GB at most); later runs return at once. */
import { accessSync, constants } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { buildInto, cacheFolder, cacheFolders, type GoBuild, goVersion } from "./go.ts";

/** Paths of the programs. */
export interface Programs {
  etcd: string;
  apiserver: string;
  kubectl: string;
  /** absent only if the programs are from KUBEBUILDER_ASSETS, which has no controllers */
  controllerManager?: string;
  scheduler?: string;
}

const version = "1.34.2";
const names: Record<keyof Programs, string> = {
  etcd: "etcd",
  apiserver: "kube-apiserver",
  kubectl: "kubectl",
  controllerManager: "kube-controller-manager",
  scheduler: "kube-scheduler",
};

const modules = fileURLToPath(new URL("./cluster/", import.meta.url));
const component = "k8s.io/component-base/version";
const client = "k8s.io/client-go/pkg/version";
// Without these -X the programs report v0.0.0, which kubectl and the API's version checks refuse.
const stamps = [
  `${component}.gitVersion=v${version}`,
  `${component}.gitMajor=1`,
  `${component}.gitMinor=34`,
  `${component}.gitTreeState=clean`,
  `${component}.gitCommit=unknown`,
  `${component}.buildDate=2026-01-01T00:00:00Z`,
  `${client}.gitVersion=v${version}`,
  `${client}.gitMajor=1`,
  `${client}.gitMinor=34`,
];

/** How programs of Kubernetes are built. They share most of their packages, which Go compiles once. */
export const kubernetes = (programs: string[]): GoBuild => ({
  folder: modules,
  args: [
    ...[
      "-trimpath",
      "-tags",
      "selinux,notest,grpcnotrace",
      "-ldflags",
      `-s -w ${stamps.map((stamp) => `-X ${stamp}`).join(" ")}`,
    ],
    ...programs.map((name) => `k8s.io/kubernetes/cmd/${name}`),
  ],
});
const builds: GoBuild[] = [
  kubernetes(Object.values(names).filter((name) => name.startsWith("kube"))),
  {
    folder: join(modules, "etcd"),
    args: ["-trimpath", "-ldflags", "-s -w", "go.etcd.io/etcd/server/v3"],
    name: names.etcd,
  },
];

/** The programs that can be used now, or why there are none. It builds nothing. */
export function controlPlane(): Programs | { missing: string } {
  const assets = process.env.KUBEBUILDER_ASSETS;
  if (assets) {
    const found = programsIn(assets);
    return found ?? { missing: `KUBEBUILDER_ASSETS is ${assets}, which lacks etcd, kube-apiserver or kubectl` };
  }
  const go = goVersion(modules);
  // Without Go its version is unknown, so programs that any version has built are used.
  const folder = go ? cacheFolder("cluster", builds, go) : cacheFolders("cluster", builds).find(programsIn);
  const found = folder && programsIn(folder);
  if (found) return found;
  return {
    missing: `the control plane is not built${go ? " (npm run cluster:build)" : " and there is no Go to build it"}`,
  };
}

/** Builds what is missing.
 *  @param say gets lines about what is done and how long it took */
export async function buildControlPlane(say: (line: string) => void): Promise<Programs> {
  const there = controlPlane();
  if (!("missing" in there)) {
    say(`control plane: ${there.apiserver} and the programs beside it are there`);
    return there;
  }
  const go = goVersion(modules);
  if (!go || process.env.KUBEBUILDER_ASSETS) throw new Error(there.missing);
  const folder = cacheFolder("cluster", builds, go);
  say(
    `control plane: building etcd and Kubernetes ${version} with ${go}: about 5 minutes with empty Go caches, half a minute with full ones`,
  );
  await buildInto(folder, builds, {
    whole: (path) => programsIn(path) !== undefined,
    say: (line) => say(`control plane: ${line}`),
  });
  say(`control plane: ready in ${folder}`);
  return programsIn(folder)!;
}

function programsIn(folder: string): Programs | undefined {
  const found: Partial<Programs> = {};
  for (const [key, name] of Object.entries(names) as [keyof Programs, string][]) {
    const path = join(folder, name);
    try {
      accessSync(path, constants.X_OK);
      found[key] = path;
    } catch {}
  }
  return found.etcd && found.apiserver && found.kubectl ? (found as Programs) : undefined;
}

if (import.meta.main) {
  try {
    await buildControlPlane(console.log);
  } catch (error) {
    console.error(`!! ${(error as Error).message}`);
    process.exitCode = 1;
  }
}
