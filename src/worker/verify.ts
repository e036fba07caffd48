import { createHash } from "node:crypto";
import type { TypeCount } from "../contracts.ts";
import { terminal } from "../failure.ts";
import { manifestPath } from "../sink/layout.ts";
import type { Manifest, ManifestItem } from "../sink/manifest.ts";
import type { Store } from "../sink/store.ts";
import { add, zero } from "./progress.ts";
import type { Outcome, Work } from "./task.ts";

/** Reads a finished export again and proves each file's size, SHA-256 and number of lines against its manifest.
 *  @throws terminal SourceInconsistent naming the first file that differs */
export async function verify({ store, board, log }: Work): Promise<Outcome> {
  const found = await store.read(manifestPath);
  if (!found) throw terminal("TargetUnreachable", "there is no manifest.json: the export is not whole");
  const manifest = JSON.parse(found.bytes.toString()) as Manifest;
  const types = new Map<string, TypeCount>();
  for (const item of [...manifest.output, ...manifest.deleted, ...manifest.error]) {
    await verifyFile(store, item);
    const before = types.get(item.type) ?? { type: item.type, ...zero };
    types.set(item.type, { ...before, ...add(before, { files: 1, resources: item.count, bytes: item.fileSize, errors: 0 }) });
    board.set(item.path, item.type, { files: 1, resources: item.count, bytes: item.fileSize, errors: 0 });
  }
  log.info({ files: types.size }, "every file is as the manifest says");
  return {
    totals: [...types.values()].reduce((sum, type) => add(sum, type), zero),
    types: [...types.values()],
    manifestSHA256: createHash("sha256").update(found.bytes).digest("hex"),
  };
}

async function verifyFile(store: Store, { path, fileSize, sha256, contentSha256, count }: ManifestItem): Promise<void> {
  const differs = (what: string) =>
    terminal("SourceInconsistent", `${path}: ${what} than manifest.json says; the file was changed after the export`);
  const file = await store.stream(path);
  if (!file) throw terminal("TargetUnreachable", `${path} is in manifest.json and not in storage`);
  const stored = createHash("sha256");
  const content = createHash("sha256");
  let [size, lines] = [0, 0];
  const take = (chunk: Buffer) => {
    content.update(chunk);
    for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, at + 1)) lines++;
  };
  file.body.on("data", (chunk: Buffer) => {
    stored.update(chunk);
    size += chunk.length;
    if (!contentSha256) take(chunk);
  });
  if (contentSha256) {
    const { createGunzip } = await import("node:zlib");
    const gunzip = createGunzip();
    file.body.on("error", (error) => gunzip.destroy(error));
    for await (const chunk of file.body.pipe(gunzip)) take(chunk as Buffer);
  } else await new Promise((resolve, reject) => file.body.on("end", resolve).on("error", reject));
  if (size !== fileSize) throw differs(`${size} bytes instead`);
  if (stored.digest("hex") !== sha256 || (contentSha256 && content.digest("hex") !== contentSha256)) throw differs("another SHA-256");
  if (lines !== count) throw differs(`${lines} lines instead`);
}
