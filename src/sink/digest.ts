import { createHash } from "node:crypto";
import { createGunzip } from "node:zlib";
import type { FilePart } from "../contracts.ts";
import { transient } from "../failure.ts";
import type { Store } from "./store.ts";

/** Reads a committed file back. @returns the SHA-256 of its stored bytes, and for gzip that of its content */
export async function digestsOf(store: Store, part: FilePart): Promise<{ sha256: string; contentSha256?: string }> {
  const found = await store.stream(part.name);
  if (!found)
    throw transient(
      "TargetUnreachable",
      `${part.name} is not in the ExportTarget any more; something else has removed it`,
    );
  const hash = createHash("sha256");
  if (part.contentBytes === undefined) {
    for await (const chunk of found.body) hash.update(chunk as Buffer);
    return { sha256: hash.digest("hex") };
  }
  const content = createHash("sha256");
  const gunzip = createGunzip();
  found.body.on("data", (chunk: Buffer) => hash.update(chunk));
  found.body.on("error", (error) => gunzip.destroy(error));
  for await (const chunk of found.body.pipe(gunzip)) content.update(chunk as Buffer);
  return { sha256: hash.digest("hex"), contentSha256: content.digest("hex") };
}
