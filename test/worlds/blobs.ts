import { Readable } from "node:stream";
import type { ListedObject, StagedBlock, Store, Upload } from "../../src/sink/store.ts";

const azureKey = "blocks";

interface Blob {
  bytes: Buffer;
  etag: string;
  /** the list that was committed; undefined where it was written whole */
  list?: string;
}

/** What a request to storage does there, and what it answers. Requests are done one after the other. */
export type Send = <T>(effect: () => T) => Promise<T>;

/** Storage refuses a request as its condition does not hold. */
const refused = Symbol("refused");

/** The blobs of one export, with the semantics of Azure Blob Storage: a put and a commit under a condition; blocks that
 *  are invisible until they are committed, and that a delete does not remove while nothing is committed. */
export class MemoryBlobs {
  readonly blobs = new Map<string, Blob>();
  /** uncommitted blocks by path and id */
  readonly staged = new Map<string, Map<string, Buffer>>();
  #etags = 0;

  #newTag(): string {
    return `"0x${(++this.#etags).toString(16).padStart(8, "0")}"`;
  }

  put(path: string, bytes: Uint8Array, condition: { none: true } | { etag: string }): string | typeof refused {
    const old = this.blobs.get(path);
    if ("none" in condition ? old !== undefined : old?.etag !== condition.etag) return refused;
    const etag = this.#newTag();
    this.blobs.set(path, { bytes: Buffer.from(bytes), etag });
    // what is written whole takes the place of the blocks that wait
    this.staged.delete(path);
    return etag;
  }

  /** Deletes a committed blob. Blocks of a path without a committed blob stay.
   *  @param etag of the only blob that is deleted */
  delete(path: string, etag?: string): void {
    const old = this.blobs.get(path);
    if (old && (etag === undefined || old.etag === etag)) {
      this.blobs.delete(path);
      this.staged.delete(path);
    }
  }

  stage(path: string, id: string, bytes: Uint8Array): void {
    let blocks = this.staged.get(path);
    if (!blocks) this.staged.set(path, (blocks = new Map()));
    blocks.set(id, Buffer.from(bytes));
  }

  /** Commits a list, if nothing is committed there. @returns the tag, or why not */
  commit(path: string, blocks: readonly StagedBlock[]): { etag: string } | { not: "other" | "gone"; list?: string } {
    const old = this.blobs.get(path);
    if (old) return { not: "other", ...(old.list !== undefined && { list: old.list }) };
    const staged = this.staged.get(path);
    const parts = blocks.map(([id]) => staged?.get(id));
    if (parts.includes(undefined)) return { not: "gone" };
    const etag = this.#newTag();
    this.blobs.set(path, { bytes: Buffer.concat(parts as Buffer[]), etag, list: blocks.join(";") });
    this.staged.delete(path);
    return { etag };
  }

  list(prefix: string): ListedObject[] {
    return [...this.blobs]
      .map(([path, { bytes }]) => ({ path, size: bytes.length }))
      .filter(({ path }) => path.startsWith(prefix))
      .sort(byPath);
  }

  /** Azure drops blocks a week after the last one was staged. */
  dropBlocks(): void {
    this.staged.clear();
  }

  contents(): Map<string, Buffer> {
    return new Map([...this.blobs].map(([path, { bytes }]) => [path, bytes]));
  }
  uncommitted(): string[] {
    return [...this.staged.keys()].filter((path) => !this.blobs.has(path));
  }

  /** The store as one worker sees it. */
  open(send: Send): Store {
    return new BlobStore(this, send);
  }
}

export const byPath = (a: ListedObject, b: ListedObject): number => (a.path < b.path ? -1 : 1);

class BlobStore implements Store {
  readonly #at: MemoryBlobs;
  readonly #send: Send;

  constructor(at: MemoryBlobs, send: Send) {
    this.#at = at;
    this.#send = send;
  }

  async prepare(): Promise<void> {
    await this.#send(() => {});
  }

  read(path: string) {
    return this.#send(() => {
      const found = this.#at.blobs.get(path);
      return found && { bytes: Buffer.from(found.bytes), tag: found.etag };
    });
  }

  create(path: string, bytes: Uint8Array) {
    return this.#write(path, bytes, { none: true });
  }

  replace(path: string, bytes: Uint8Array, tag: string) {
    return this.#write(path, bytes, { etag: tag });
  }

  /** A write that is refused may be this very one: its answer was lost, and it was sent again. */
  async #write(
    path: string,
    bytes: Uint8Array,
    condition: { none: true } | { etag: string },
  ): Promise<string | undefined> {
    const own = Buffer.from(bytes);
    for (;;) {
      const etag = await this.#send(() => this.#at.put(path, own, condition));
      if (etag !== refused) return etag as string;
      const stored = await this.read(path);
      if (stored?.bytes.equals(own)) return stored.tag;
      const holds = "etag" in condition ? stored?.tag === condition.etag : stored === undefined;
      if (!holds) return undefined;
    }
  }

  async remove(path: string): Promise<void> {
    await this.#send(() => this.#at.delete(path));
  }

  async abandon(path: string): Promise<void> {
    const empty = await this.#send(() => this.#at.commit(path, []));
    if ("etag" in empty) await this.#send(() => this.#at.delete(path, empty.etag));
  }

  size(path: string) {
    return this.#send(() => this.#at.blobs.get(path)?.bytes.length);
  }

  async *list(prefix: string) {
    yield* await this.#send(() => this.#at.list(prefix));
  }

  async *unfinished(prefix: string) {
    const found = await this.#send(() => this.#at.uncommitted().filter((path) => path.startsWith(prefix)));
    for (const path of found.sort()) yield { path, key: azureKey };
  }

  stream(path: string, range?: { start: number; count?: number }) {
    return this.#send(() => {
      const found = this.#at.blobs.get(path);
      return found && streamOf(found.bytes, range);
    });
  }

  async upload(path: string): Promise<Upload> {
    const at = this.#at;
    return {
      key: azureKey,
      stage: async (number, nonce, bytes) => {
        const own = Buffer.from(bytes);
        const id = `${nonce}-${number}`;
        await this.#send(() => at.stage(path, id, own));
        return id;
      },
      holds: (blocks) =>
        this.#send(() => blocks.every(([id, bytes]) => at.staged.get(path)?.get(id)?.length === bytes)),
      commit: async (blocks) => {
        const end = await this.#send(() => at.commit(path, blocks));
        if ("etag" in end) return "committed";
        return end.not === "other" && end.list === blocks.join(";") ? "committed" : "gone";
      },
    };
  }

  url(path: string): string {
    return `https://account.blob.example/container/${path}`;
  }

  readonly requestSeconds = 60;

  async close(): Promise<void> {}
}

export function streamOf(bytes: Buffer, range?: { start: number; count?: number }) {
  const start = range?.start ?? 0;
  const end = range?.count === undefined ? undefined : start + range.count;
  return { body: Readable.from([Buffer.from(bytes.subarray(start, end))]), size: bytes.length };
}
