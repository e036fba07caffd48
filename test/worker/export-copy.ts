import assert from "node:assert/strict";
import { gunzipSync, gzipSync } from "node:zlib";
import { sha256Of } from "../../src/digest.ts";
import { type Manifest, type ManifestItem, renderManifest, renderSums } from "../../src/sink/manifest.ts";
import type { Place } from "../sink/stores.ts";

/** A copy of an export that a test can change. Where `agree` is set, manifest and SHA256SUMS are written anew, so that
 *  they agree with the changed files. */
export class ExportCopy {
  readonly objects: Map<string, Buffer>;
  manifest: Manifest;
  agree = false;
  constructor(objects: ReadonlyMap<string, Buffer>) {
    this.objects = new Map(objects);
    this.manifest = JSON.parse(objects.get("manifest.json")!.toString()) as Manifest;
  }

  of(type: string): ManifestItem[] {
    return this.manifest.output.filter((item) => item.type === type);
  }
  lines({ path, contentSha256 }: ManifestItem): string[] {
    const bytes = this.objects.get(path)!;
    return (contentSha256 ? gunzipSync(bytes) : bytes).toString("latin1").split("\n").slice(0, -1);
  }
  /** Changes the lines of a file, and its item with them. */
  write(item: ManifestItem, change: (lines: string[]) => string[] | string): void {
    const changed = change(this.lines(item));
    const content = Buffer.from(
      typeof changed === "string" ? changed : changed.map((line) => `${line}\n`).join(""),
      "latin1",
    );
    const bytes = item.contentSha256 ? gzipSync(content) : content;
    this.objects.set(item.path, bytes);
    item.count = content.filter((byte) => byte === 10).length;
    item.fileSize = bytes.length;
    item.sha256 = sha256Of(bytes);
    if (item.contentSha256) item.contentSha256 = sha256Of(content);
    this.agree = true;
  }
  async put(where: Place): Promise<void> {
    if (this.agree) {
      this.objects.set("manifest.json", renderManifest(this.manifest));
      this.objects.set("SHA256SUMS", renderSums(this.manifest));
    }
    const store = await where.open();
    await store.prepare();
    const put = async ([path, bytes]: [string, Buffer]) =>
      assert.notEqual(await store.create(path, bytes), undefined, path);
    await Promise.all([...this.objects].map(put));
  }
}
