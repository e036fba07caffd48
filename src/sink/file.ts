import { createHash, type Hash } from "node:crypto";
import type { FilePart } from "../contracts.ts";
import { transient } from "../failure.ts";
import { digestsOf } from "./digest.ts";
import { addToCRC, gzipHeader, gzipTrailer } from "./gzip.ts";
import { contentType } from "./layout.ts";
import type { Store, Upload } from "./store.ts";

/** A file of the output that is being written, block by block. */
export class OutputFile {
  readonly part: Required<Pick<FilePart, "name" | "lines" | "bytes" | "blocks">> & {
    key?: string;
    contentBytes: number;
    crc?: number;
  };
  readonly #store: Store;
  readonly #gzip: boolean;
  #upload: Promise<Upload> | undefined;
  /** undefined when an earlier writer has begun the file: its digests are then made by reading it back after its
   *  commit */
  readonly #hash: Hash | undefined;
  readonly #contentHash: Hash | undefined;

  /** @param begun the file as an earlier writer's checkpoint names it */
  constructor(store: Store, gzip: boolean, name: string, begun?: FilePart) {
    this.#store = store;
    this.#gzip = gzip;
    this.part = {
      name,
      lines: begun?.lines ?? 0,
      bytes: begun?.bytes ?? 0,
      blocks: begun?.blocks ?? [],
      ...(begun?.key !== undefined && { key: begun.key }),
      contentBytes: begun?.contentBytes ?? begun?.bytes ?? 0,
      ...(gzip && { crc: begun?.crc ?? 0 }),
    };
    this.#hash = begun ? undefined : createHash("sha256");
    this.#contentHash = begun || !gzip ? undefined : createHash("sha256");
  }

  /** Takes the content of the next block, before gzip, for the digests. It may come in pieces, all of them before the
   *  block is staged. */
  content(bytes: Uint8Array): void {
    if (this.#gzip) this.part.crc = addToCRC(this.part.crc!, bytes);
    (this.#gzip ? this.#contentHash : this.#hash)?.update(bytes);
  }

  /** Sends the next block.
   *  @param nonce 8 hex digits of the writer */
  async stage(nonce: string, stored: readonly Uint8Array[]): Promise<void> {
    const bytes = stored.length === 1 ? stored[0]! : Buffer.concat(stored);
    // without gzip the stored bytes are the content, which has been hashed already
    if (this.#gzip) this.#hash?.update(bytes);
    const upload = await this.#begun();
    this.part.key = upload.key;
    const ref = await upload.stage(this.part.blocks.length + 1, nonce, bytes);
    this.part.blocks.push([ref, bytes.length]);
    this.part.bytes += bytes.length;
  }

  /** What must stand before the content, and behind it. */
  get header(): Uint8Array {
    return this.#gzip ? gzipHeader : new Uint8Array();
  }
  get trailer(): Uint8Array {
    return this.#gzip ? gzipTrailer(this.part.crc!, this.part.contentBytes) : new Uint8Array();
  }

  /** The file as the result will name it. Its blocks are not committed yet. */
  close(): FilePart {
    const { contentBytes, crc: _, ...rest } = this.part;
    return this.#gzip ? { ...rest, contentBytes } : rest;
  }

  /** Commits the file, and fills in its digests. @param part from `close`; a checkpoint must name it by now */
  async commit(part: FilePart): Promise<void> {
    await commitPart(part, await this.#begun());
    if (!this.#hash) return void Object.assign(part, await digestsOf(this.#store, part));
    part.sha256 = this.#hash.digest("hex");
    if (this.#contentHash) part.contentSha256 = this.#contentHash.digest("hex");
  }

  /** Whether all that an earlier writer has staged still exists. */
  async holds(): Promise<boolean> {
    return this.part.blocks.length === 0 || (await this.#begun()).holds(this.part.blocks);
  }

  #begun(): Promise<Upload> {
    return (this.#upload ??= uploadOf(this.#store, this.#gzip, this.part));
  }
}

/** Commits a closed file of an earlier writer, if that writer did not, and reads it back for its digests.
 *  @returns false when its blocks are gone */
export async function commitClosed(store: Store, gzip: boolean, part: FilePart): Promise<boolean> {
  const upload = await uploadOf(store, gzip, part);
  if ((await store.size(part.name)) !== part.bytes && !(await upload.holds(part.blocks!))) return false;
  await commitPart(part, upload);
  Object.assign(part, await digestsOf(store, part));
  return true;
}

async function commitPart(part: FilePart, upload: Upload): Promise<void> {
  if ((await upload.commit(part.blocks!)) === "gone")
    throw transient(
      "TargetUnreachable",
      `the blocks of ${part.name} are gone, or something else has its name; the shard is checked once more`,
    );
  delete part.blocks;
  delete part.key;
}

// No Content-Encoding, as the file's name and type say gzip already: with it, clients would unpack the file, and its
// SHA-256, which is that of the stored bytes, would not match.
const uploadOf = (store: Store, gzip: boolean, { name, key }: Pick<FilePart, "name" | "key">) =>
  store.upload(name, gzip ? "application/gzip" : contentType, key);
