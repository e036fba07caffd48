/** Builds the control plane that tests run on, from Go modules, into a cache outside the tree: `npm run cluster:build`.
 *  About 5 minutes on 2 idle cores the first time (9 CPU minutes, 1.8 GB at most); later runs return at once. */
import { execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { accessSync, constants, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** Paths of the programs. */
export interface Programs {
  etcd: string;
  apiserver: string;
  kubectl: string;
  /** absent only in a KUBEBUILDER_ASSETS folder, which has no controllers */
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
// without these -X the programs call themselves v0.0.0, which kubectl and the API's version checks refuse
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
const steps: { folder: string; args: string[] }[] = [
  {
    folder: modules,
    args: [
      ...["-trimpath", "-tags", "selinux,notest,grpcnotrace", "-ldflags", `-s -w ${stamps.map((stamp) => `-X ${stamp}`).join(" ")}`],
      ...Object.values(names)
        .filter((name) => name.startsWith("kube"))
        .map((name) => `k8s.io/kubernetes/cmd/${name}`),
    ],
  },
  { folder: join(modules, "etcd"), args: ["-trimpath", "-ldflags", "-s -w", "go.etcd.io/etcd/server/v3"] },
];

/** Where programs are that can be used now, or why there are none. Builds nothing. */
export function controlPlane(): Programs | { missing: string } {
  const assets = process.env.KUBEBUILDER_ASSETS;
  if (assets) {
    const found = programsIn(assets);
    return found ?? { missing: `KUBEBUILDER_ASSETS is ${assets}, which lacks etcd, kube-apiserver or kubectl` };
  }
  const go = goVersion();
  // without Go its version is unknown: programs that any version built will do
  const folder = go ? cacheFolder(go) : readdirs(cacheRoot()).find((path) => path.startsWith(cacheFolder("")) && programsIn(path));
  const found = folder && programsIn(folder);
  if (found) return found;
  return { missing: `the control plane is not built${go ? " (npm run cluster:build)" : " and there is no Go to build it"}` };
}

/** Builds what is missing.
 *  @param say gets lines about what is done and how long it took */
export async function buildControlPlane(say: (line: string) => void): Promise<Programs> {
  const there = controlPlane();
  if (!("missing" in there)) {
    say(`control plane: ${there.apiserver} and the programs beside it are there`);
    return there;
  }
  const go = goVersion();
  if (!go || process.env.KUBEBUILDER_ASSETS) throw new Error(there.missing);
  const folder = cacheFolder(go);
  say(
    `control plane: building etcd and Kubernetes ${version} with ${go}: about 5 minutes with empty Go caches, half a minute with full ones`,
  );
  mkdirSync(cacheRoot(), { recursive: true });
  const made = mkdtempSync(join(cacheRoot(), "building-"));
  try {
    for (const { folder: cwd, args } of steps) {
      const start = Date.now();
      await run(["build", "-o", cwd === modules ? `${made}/` : join(made, names.etcd), ...args], cwd);
      say(`control plane: built in ${cwd.slice(modules.length - "cluster/".length)} in ${((Date.now() - start) / 1000).toFixed(0)} s`);
    }
    if (!programsIn(made)) throw new Error("go build made other programs than expected");
    try {
      renameSync(made, folder);
    } catch (error) {
      // another build was faster; its programs are the same
      if (!programsIn(folder)) throw error;
    }
  } finally {
    rmSync(made, { recursive: true, force: true });
  }
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

const cacheRoot = () => join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "fhir-export");

function cacheFolder(go: string): string {
  const hash = createHash("sha256").update(JSON.stringify([steps.map(({ args }) => args), process.platform, process.arch]));
  for (const { folder } of steps) for (const name of ["go.mod", "go.sum"]) hash.update(readFileSync(join(folder, name)));
  return join(cacheRoot(), `cluster-${hash.digest("hex").slice(0, 12)}-${go}`);
}

function readdirs(root: string): string[] {
  return existsSync(root) ? readdirSync(root).map((name) => join(root, name)) : [];
}

/** undefined when there is no Go, or one that cannot take these modules */
function goVersion(): string | undefined {
  try {
    return execFileSync("go", ["env", "GOVERSION"], { cwd: modules, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  } catch {
    return undefined;
  }
}

function run(args: string[], cwd: string): Promise<void> {
  const child = spawn("go", args, { cwd, env: { ...process.env, CGO_ENABLED: "0" }, stdio: ["ignore", "inherit", "inherit"] });
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code, signal) => (code === 0 ? resolve() : reject(new Error(`go ${args[0]} ended with ${signal ?? code}`))));
  });
}

if (import.meta.main) {
  try {
    await buildControlPlane(console.log);
  } catch (error) {
    console.error(`!! ${(error as Error).message}`);
    process.exitCode = 1;
  }
}
