/** Builds the image of the Dockerfile with buildah, over base images made here of Debian's libraries and the Node that
 *  npm brought: no registry of images is needed. As root, on Debian or Ubuntu with buildah (`apt-get install
 *  buildah`). */
import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { homedir, tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";

export const imageName = "localhost/fhir-export:test";
const root = join(import.meta.dirname, "../..");
const cache = join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "fhir-export", "images");
const storage = ["--root", join(cache, "root"), "--runroot", join(cache, "run"), "--storage-driver", "vfs"];

/** Why images cannot be built here; undefined when they can. */
export function imageMissing(): string | undefined {
  if (process.platform !== "linux" || process.getuid?.() !== 0) return "images are built as root on Linux only";
  if (spawnSync("buildah", ["--version"]).status !== 0)
    return "buildah is missing (apt-get install --no-install-recommends buildah)";
  if (!existsSync("/bin/dash")) return "base images are made of Debian's own files";
  return undefined;
}

export function buildah(args: string[], options: { input?: string; env?: Record<string, string> } = {}): string {
  const env = { ...process.env, BUILDAH_ISOLATION: "chroot", ...options.env };
  const { status, stdout, stderr } = spawnSync("buildah", [...storage, ...args], {
    encoding: "utf8",
    cwd: root,
    env,
    maxBuffer: 1 << 28,
    ...(options.input !== undefined && { input: options.input }),
  });
  if (status !== 0) throw new Error(`buildah ${args.join(" ")}: ${`${stdout}${stderr}`.slice(-3000)}`);
  return stdout;
}

/** A root file system with these programs and the libraries they need. */
function rootfs(programs: Record<string, string>): string {
  const folder = mkdtempSync(join(tmpdir(), "fhir-export-rootfs-"));
  for (const path of ["usr/bin", "usr/local/bin", "lib64", "lib/x86_64-linux-gnu", "etc", "tmp", "app"])
    mkdirSync(join(folder, path), { recursive: true });
  chmodSync(join(folder, "tmp"), 0o1777);
  const copy = (from: string, to: string) => {
    mkdirSync(dirname(join(folder, to)), { recursive: true });
    cpSync(realpathSync(from), join(folder, to));
  };
  for (const [to, from] of Object.entries(programs)) {
    copy(from, to);
    for (const [, library] of execFileSync("ldd", [from], { encoding: "utf8" }).matchAll(/(\/\S+) \(0x/g))
      copy(library!, library!);
  }
  const resolver = "/lib/x86_64-linux-gnu";
  for (const name of existsSync(resolver) ? readdirSync(resolver) : [])
    if (/^lib(nss_(dns|files)|resolv)\.so\.2$/.test(name)) copy(join(resolver, name), join(resolver, name));
  writeFileSync(join(folder, "etc/passwd"), "root:x:0:0::/:/sbin/nologin\nnonroot:x:65532:65532::/:/sbin/nologin\n");
  writeFileSync(join(folder, "etc/group"), "root:x:0:\nnonroot:x:65532:\n");
  writeFileSync(join(folder, "etc/nsswitch.conf"), "hosts: files dns\n");
  if (existsSync("/etc/ssl/certs/ca-certificates.crt"))
    copy("/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/certs/ca-certificates.crt");
  return folder;
}

function commit(folder: string, name: string, config: string[]): void {
  const container = buildah(["from", "scratch"]).trim();
  try {
    buildah(["copy", "-q", container, folder, "/"]);
    buildah(["config", ...config, container]);
    buildah(["commit", "-q", container, name]);
  } finally {
    buildah(["rm", container]);
    rmSync(folder, { recursive: true, force: true });
  }
}

const builtFile = join(cache, "built");

/** What the image is made of. */
function contents(): string {
  const hash = createHash("sha256").update(process.version);
  const files = ["Dockerfile", "LICENSE", "package.json", "package-lock.json", relative(root, import.meta.filename)];
  for (const folder of ["build", "crds", "src"])
    for (const name of readdirSync(join(root, folder), { recursive: true, encoding: "utf8" }).sort())
      files.push(join(folder, name));
  for (const file of files.filter((file) => statSync(join(root, file)).isFile()))
    hash.update(file).update(readFileSync(join(root, file)));
  return hash.digest("hex");
}

const imageID = () => buildah(["images", "--quiet", "--no-trunc", "--filter", `reference=${imageName}`]).trim();

/** Builds the image, when the one that is there was not built from the same files. */
export function ensureImage(): void {
  if (!existsSync(builtFile) || readFileSync(builtFile, "utf8") !== `${contents()} ${imageID()}`) buildImage();
}

/** The image, built anew from the working tree. @returns its size in bytes */
export function buildImage(): number {
  mkdirSync(cache, { recursive: true });
  rmSync(builtFile, { force: true });
  const from = contents();
  const node = join(root, "node_modules/node/bin/node");
  // what a runtime needs, and nothing else
  commit(rootfs({ "/usr/local/bin/node": node }), "localhost/node:24", [
    "--env",
    "PATH=/usr/local/bin:/usr/bin:/bin",
    "--user",
    "65532:65532",
  ]);
  // what `FROM node` offers: npm, and a shell for RUN
  const build = rootfs({ "/usr/local/bin/node": node, "/bin/sh": "/bin/dash", "/usr/bin/env": "/usr/bin/env" });
  const npm = dirname(dirname(realpathSync(execFileSync("which", ["npm"], { encoding: "utf8" }).trim())));
  cpSync(npm, join(build, "usr/local/lib/npm"), { recursive: true });
  symlinkSync("../lib/npm/bin/npm-cli.js", join(build, "usr/local/bin/npm"));
  const certificates = "/etc/ssl/certs/ca-certificates.crt";
  const environment = [
    "PATH=/usr/local/bin:/usr/bin:/bin",
    "HOME=/tmp",
    ...(existsSync(certificates) ? [`NODE_EXTRA_CA_CERTS=${certificates}`] : []),
  ];
  commit(
    build,
    "localhost/node-build:24",
    environment.flatMap((one) => ["--env", one]),
  );
  buildah([
    "bud",
    "--layers=false",
    "--network",
    "host",
    ...["--build-arg", "BUILD_IMAGE=localhost/node-build:24", "--build-arg", "RUNTIME_IMAGE=localhost/node:24"],
    ...["--tag", imageName, "--file", "Dockerfile", "."],
  ]);
  writeFileSync(builtFile, `${from} ${imageID()}`);
  return sizeOf(imageName);
}

/** of all its files */
export function sizeOf(name: string): number {
  return inImage(name, (folder) => Number(execFileSync("du", ["-sb", folder], { encoding: "utf8" }).split("\t")[0]));
}

/** Runs with the image's files mounted. */
export function inImage<Result>(name: string, use: (folder: string) => Result): Result {
  const container = buildah(["from", name]).trim();
  try {
    return use(buildah(["mount", container]).trim());
  } finally {
    buildah(["rm", container]);
  }
}

/** The image as a file that containerd takes. */
export function saveImage(name: string, file: string): number {
  rmSync(file, { force: true });
  buildah(["push", "-q", name, `docker-archive:${file}:${name}`]);
  return statSync(file).size;
}
