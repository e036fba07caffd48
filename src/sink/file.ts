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
  /** undefined when an earlier writer has begun the file: its digests are then made by reading it back after its
   *  commit */
  readonly #hash: Hash | undefined;
  readonly #contentHash: Hash | undefined;
  #staged: number;

  /** @param begun the file as an earlier writer's checkpoint names it */
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

  /** Takes the content of the next block, before gzip, for the digests. It may come in pieces, all of them before the
   *  block is staged. */
  content(bytes: Uint8Array): void {
    if (this.#gzip) this.part.crc = addToCRC(this.part.crc!, bytes);
    (this.#gzip ? this.#contentHash : this.#hash)?.update(bytes);
  }

  /** Sends the next block.
   *  @param nonce 8 hex digits of the writer
   *  @param sequence the file's number in its shard, from 1 */
  async stage(nonce: string, sequence: number, stored: readonly Uint8Array[]): Promise<void> {
    const id = `${nonce}-${String(sequence).padStart(5, "0")}-${String(this.#staged++).padStart(5, "0")}`;
    const bytes = stored.length === 1 ? stored[0]! : Buffer.concat(stored);
    // without gzip the stored bytes are the content, which has been hashed already
    if (this.#gzip) this.#hash?.update(bytes);
    await this.#writer.stage(id, bytes);
    this.part.blocks.push([id, bytes.length]);
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
    await commitPart(part, this.#writer);
    if (!this.#hash) return void Object.assign(part, await digestsOf(this.#store, part));
    part.sha256 = this.#hash.digest("hex");
    if (this.#contentHash) part.contentSha256 = this.#contentHash.digest("hex");
  }

  /** Whether all that an earlier writer has staged still exists. */
  async holds(): Promise<boolean> {
    return this.part.blocks.length === 0 || this.#writer.holds(this.part.blocks);
  }
}

/** Commits a closed file of an earlier writer, if that writer did not, and reads it back for its digests.
 *  @returns false when its blocks are gone */
export async function commitClosed(store: Store, gzip: boolean, part: FilePart): Promise<boolean> {
  const writer = blockWriter(store, gzip, part.name);
  if (!(await isCommitted(store, part)) && !(await writer.holds(part.blocks!))) return false;
  await commitPart(part, writer);
  Object.assign(part, await digestsOf(store, part));
  return true;
}

async function commitPart(part: FilePart, writer: BlockWriter): Promise<void> {
  if ((await writer.commit(part.blocks!)) === "other")
    throw transient(
      "TargetUnreachable",
      `${part.name} was committed by another writer with other content; the shard is checked once more`,
    );
  delete part.blocks;
}

async function isCommitted(store: Store, part: FilePart): Promise<boolean> {
  const found = await store.stream(part.name, { start: 0, count: 1 });
  found?.body.destroy();
  return found?.size === part.bytes;
}

// No Content-Encoding, as the file's name and type say gzip already: with it, clients would unpack the file, and its
// SHA-256, which is that of the stored bytes, would not match.
const blockWriter = (store: Store, gzip: boolean, name: string) =>
  store.blocks(name, gzip ? "application/gzip" : contentType);
