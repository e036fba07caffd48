import { createHash, type Hash } from "node:crypto";
import type { FilePart } from "../contracts.ts";
import { transient } from "../failure.ts";
import { digestsOf } from "./digest.ts";
import { addToCRC, gzipHeader, gzipTrailer } from "./gzip.ts";
import { contentType } from "./layout.ts";
import type { BlockWriter, Store } from "./store.ts";

/** A file of the output that is being written, block by block. */
export class OutputFile {
  readonly part: Required<Pick<FilePart, "name" | "lines" | "bytes" | "blocks">> & {
    contentBytes: number;
    crc?: number;
  };
  readonly #store: Store;
  readonly #gzip: boolean;
  readonly #writer: BlockWriter;
  /** undefined: the file was begun by an earlier writer and is read back after its commit */
  readonly #hash: Hash | undefined;
  readonly #contentHash: Hash | undefined;
  #staged: number;

  /** @param begun what an earlier writer has staged of it */
  constructor(store: Store, gzip: boolean, name: string, begun?: FilePart) {
    this.#store = store;
    this.#gzip = gzip;
    this.#writer = blockWriter(store, gzip, name);
    this.part = {
      name,
      lines: begun?.lines ?? 0,
      bytes: begun?.bytes ?? 0,
      blocks: begun?.blocks ?? [],
      contentBytes: begun?.contentBytes ?? begun?.bytes ?? 0,
      ...(gzip && { crc: begun?.crc ?? 0 }),
    };
    this.#staged = this.part.blocks.length;
    this.#hash = begun ? undefined : createHash("sha256");
    this.#contentHash = begun || !gzip ? undefined : createHash("sha256");
  }

  /** blocks that were sent, or are being sent */
  get blocks(): number {
    return this.#staged;
  }

  /** What goes into the next block, before gzip; in pieces, the last of them before the block is staged. */
  content(bytes: Uint8Array): void {
    if (this.#gzip) this.part.crc = addToCRC(this.part.crc!, bytes);
    (this.#gzip ? this.#contentHash : this.#hash)?.update(bytes);
  }

  /** Sends the next block. @param nonce 8 hex digits of the writer */
  async stage(nonce: string, sequence: number, stored: readonly Uint8Array[]): Promise<void> {
    const id = `${nonce}-${String(sequence).padStart(5, "0")}-${String(this.#staged++).padStart(5, "0")}`;
    const all = this.#gzip && this.#staged === 1 ? [gzipHeader, ...stored] : stored;
    const bytes = all.length === 1 ? all[0]! : Buffer.concat(all);
    // without gzip `content` has seen it
    if (this.#gzip) this.#hash?.update(bytes);
    await this.#writer.stage(id, bytes);
    this.part.blocks.push([id, bytes.length]);
    this.part.bytes += bytes.length;
  }

  /** What must stand at the end of the file, behind all of its content. */
  get trailer(): Uint8Array[] {
    return this.#gzip ? [gzipTrailer(this.part.crc!, this.part.contentBytes)] : [];
  }

  /** As it will be in the result; its blocks are not committed yet. */
  close(): FilePart {
    const { contentBytes, crc: _, ...rest } = this.part;
    return this.#gzip ? { ...rest, contentBytes } : rest;
  }

  /** Commits `part`, which `close` gave and a checkpoint names, and fills in its digests. */
  async commit(part: FilePart): Promise<void> {
    await commit(part, this.#writer);
    if (!this.#hash) return void Object.assign(part, await digestsOf(this.#store, part));
    part.sha256 = this.#hash.digest("hex");
    if (this.#contentHash) part.contentSha256 = this.#contentHash.digest("hex");
  }

  /** whether all that an earlier writer has staged is still there */
  holds(): Promise<boolean> {
    return this.#writer.holds(this.part.blocks);
  }
}

/** Commits a closed file of an earlier writer, if that one did not, and reads it back.
 *  @returns false when its blocks are gone */
export async function commitClosed(store: Store, gzip: boolean, part: FilePart): Promise<boolean> {
  const writer = blockWriter(store, gzip, part.name);
  if (!(await isCommitted(store, part)) && !(await writer.holds(part.blocks!))) return false;
  await commit(part, writer);
  Object.assign(part, await digestsOf(store, part));
  return true;
}

async function commit(part: FilePart, writer: BlockWriter): Promise<void> {
  if ((await writer.commit(part.blocks!)) === "other")
    throw transient(
      "TargetUnreachable",
      `${part.name} was committed by another writer with other content; the shard is looked at again`,
    );
  delete part.blocks;
}

async function isCommitted(store: Store, part: FilePart): Promise<boolean> {
  const found = await store.stream(part.name, { start: 0, count: 1 });
  found?.body.destroy();
  return found?.size === part.bytes;
}

// the name says gzip; a Content-Encoding would make clients unpack it and break the SHA-256 of the stored bytes
const blockWriter = (store: Store, gzip: boolean, name: string) =>
  store.blocks(name, gzip ? "application/gzip" : contentType);
