import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export const pauseImage = "localhost/pause:1";

/** Writes an image of one static program in the format of `docker save`, which containerd imports. One layer and two
 *  JSON files need no tool. */
export function writePauseImage(program: string, file: string): void {
  const folder = mkdtempSync(join(tmpdir(), "fhir-export-pause-"));
  const tar = (to: string, from: string, names: string[]) =>
    execFileSync("tar", [
      "--create",
      "--file",
      to,
      "--directory",
      from,
      "--owner=0",
      "--group=0",
      "--mode=0755",
      ...names,
    ]);
  try {
    mkdirSync(join(folder, "root"));
    copyFileSync(program, join(folder, "root/pause"));
    tar(join(folder, "layer.tar"), join(folder, "root"), ["pause"]);
    const layer = createHash("sha256")
      .update(readFileSync(join(folder, "layer.tar")))
      .digest("hex");
    const config = {
      architecture: { x64: "amd64" }[process.arch as string] ?? process.arch,
      os: "linux",
      config: { Entrypoint: ["/pause"], User: "65535:65535" },
      rootfs: { type: "layers", diff_ids: [`sha256:${layer}`] },
    };
    writeFileSync(join(folder, "config.json"), JSON.stringify(config));
    writeFileSync(
      join(folder, "manifest.json"),
      JSON.stringify([{ Config: "config.json", RepoTags: [pauseImage], Layers: ["layer.tar"] }]),
    );
    tar(file, folder, ["manifest.json", "config.json", "layer.tar"]);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export const containerdSocket = "/run/containerd.sock";

const ctr = ["ctr", "--address", containerdSocket, "--namespace", "k8s.io"];

/** Commands to run on the node: one succeeds when containerd answers, the other imports the images of a file of `docker
 *  save`. */
export const versionCommand: string[] = [...ctr, "version"];
export const importCommand = (file: string): string[] => [...ctr, "images", "import", file];
