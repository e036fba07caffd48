import { sha256Of } from "../../src/digest.ts";
import type { ListedObject, StagedBlock, Store, Unfinished, Upload } from "../../src/sink/store.ts";
import { byPath, type Send, streamOf } from "./blobs.ts";

/** The files of one export, with the semantics of a directory: a link refuses to overwrite, an object that is replaced
 *  gets the next generation, and each writer of a file appends to a part file of its own. */
export class MemoryFiles {
  /** by path with the generation, which is 1 at first */
  readonly files = new Map<string, Map<number, Buffer>>();
  /** part files by path with the key of the upload, and by the writer's nonce */
  readonly parts = new Map<string, Map<string, Buffer>>();
  /** files in which small objects wait until they are durable, by key, with the object's path */
  readonly drafts = new Map<string, string>();
  #made = 0;

  newest(path: string): number {
    return Math.max(0, ...(this.files.get(path)?.keys() ?? []));
  }

  /** @returns false where there is one already */
  link(path: string, generation: number, bytes: Buffer): boolean {
    let generations = this.files.get(path);
    if (!generations) this.files.set(path, (generations = new Map()));
    if (generations.has(generation)) return false;
    generations.set(generation, bytes);
    return true;
  }

  newDraft(path: string): string {
    const key = `${++this.#made}.draft`;
    this.drafts.set(key, path);
    return key;
  }

  newKey(): string {
    return `upload${++this.#made}`;
  }

  abandon(path: string, key: string): void {
    this.drafts.delete(key);
    this.parts.delete(uploadName(path, key));
  }

  unlink(path: string, generation: number): void {
    const generations = this.files.get(path);
    generations?.delete(generation);
    if (generations?.size === 0) this.files.delete(path);
  }

  list(prefix: string): ListedObject[] {
    return [...this.files]
      .map(([path, generations]) => {
        return { path, size: generations.get(Math.min(...generations.keys()))!.length };
      })
      .filter(({ path }) => path.startsWith(prefix))
      .sort(byPath);
  }

  unfinished(prefix: string): Unfinished[] {
    const parts = [...this.parts.keys()].map((name) => {
      const [path, key] = name.split(" ") as [string, string];
      return { path, key };
    });
    const drafts = [...this.drafts].map(([key, path]) => ({ path, key }));
    return [...parts, ...drafts].filter(({ path }) => path.startsWith(prefix));
  }

  contents(): Map<string, Buffer> {
    return new Map(
      [...this.files].map(([path, generations]) => [path, generations.get(Math.max(...generations.keys()))!]),
    );
  }
  uncommitted(): string[] {
    return this.unfinished("").map(({ path }) => path);
  }

  open(send: Send): Store {
    return new FileStore(this, send);
  }
}

class FileStore implements Store {
  readonly #at: MemoryFiles;
  readonly #send: Send;

  constructor(at: MemoryFiles, send: Send) {
    this.#at = at;
    this.#send = send;
  }

  async prepare(): Promise<void> {
    await this.#send(() => {});
  }

  read(path: string) {
    return this.#send(() => {
      const generation = this.#at.newest(path);
      const file = this.#at.files.get(path)?.get(generation);
      return file && { bytes: Buffer.from(file), tag: sha256Of(file) };
    });
  }

  async create(path: string, bytes: Uint8Array): Promise<string | undefined> {
    const own = Buffer.from(bytes);
    if ((await this.#send(() => this.#at.newest(path))) > 0) return this.#ownTag(path, own);
    if (!(await this.#linkNew(path, 1, own))) return this.#ownTag(path, own);
    if ((await this.#send(() => this.#at.newest(path))) === 1) return sha256Of(own);
    await this.#send(() => this.#at.unlink(path, 1));
    return undefined;
  }

  async #ownTag(path: string, own: Buffer): Promise<string | undefined> {
    const found = await this.read(path);
    return found?.bytes.equals(own) ? found.tag : undefined;
  }

  async replace(path: string, bytes: Uint8Array, tag: string): Promise<string | undefined> {
    const own = Buffer.from(bytes);
    const known = await this.#send(() => this.#at.newest(path));
    const isKnown = () => {
      const file = this.#at.files.get(path)?.get(known);
      return file !== undefined && sha256Of(file) === tag;
    };
    if (!(await this.#send(isKnown))) return this.#ownTag(path, own);
    if (!(await this.#linkNew(path, known + 1, own))) return this.#ownTag(path, own);
    const isNext = await this.#send(() => this.#at.newest(path) === known + 1 && isKnown());
    await this.#send(() => this.#at.unlink(path, isNext ? known : known + 1));
    return isNext ? sha256Of(own) : undefined;
  }

  /** Writes a draft, and links it when it is durable. A draft that was abandoned meanwhile becomes nothing. */
  async #linkNew(path: string, generation: number, bytes: Buffer): Promise<boolean> {
    const key = await this.#send(() => this.#at.newDraft(path));
    return this.#send(() => this.#at.drafts.delete(key) && this.#at.link(path, generation, bytes));
  }

  async remove(path: string): Promise<void> {
    while (await this.#removeOldest(path));
  }

  /** @returns whether there was any generation */
  #removeOldest(path: string): Promise<boolean> {
    return this.#send(() => {
      const generations = this.#at.files.get(path);
      if (!generations) return false;
      this.#at.unlink(path, Math.min(...generations.keys()));
      return true;
    });
  }

  size(path: string) {
    return this.#send(() => this.#at.files.get(path)?.get(this.#at.newest(path))?.length);
  }

  async *list(prefix: string) {
    yield* await this.#send(() => this.#at.list(prefix));
  }

  async *unfinished(prefix: string) {
    yield* await this.#send(() => this.#at.unfinished(prefix));
  }

  async abandon(path: string, key: string): Promise<void> {
    await this.#send(() => this.#at.abandon(path, key));
  }

  stream(path: string, range?: { start: number; count?: number }) {
    return this.#send(() => {
      const file = this.#at.files.get(path)?.get(1);
      return file && streamOf(file, range);
    });
  }

  async upload(path: string, _: string, key = this.#at.newKey()): Promise<Upload> {
    return new PartUpload(this.#at, this.#send, path, key);
  }

  url(path: string): string {
    return `file:///volume/${path}`;
  }

  readonly requestSeconds = 30;

  async close(): Promise<void> {}
}

/** Appends to one writer's part file, and links it to the file's name. */
class PartUpload implements Upload {
  readonly key: string;
  readonly #at: MemoryFiles;
  readonly #send: Send;
  readonly #path: string;
  /** of the upload, in `parts` */
  readonly #name: string;
  #written = 0;

  constructor(at: MemoryFiles, send: Send, path: string, key: string) {
    this.key = key;
    this.#name = uploadName(path, key);
    this.#at = at;
    this.#send = send;
    this.#path = path;
  }

  async stage(number: number, nonce: string, bytes: Uint8Array): Promise<string> {
    const own = Buffer.from(bytes);
    await this.#send(() => {
      let writers = this.#at.parts.get(this.#name);
      if (!writers) this.#at.parts.set(this.#name, (writers = new Map()));
      // at a position, so that a call that is repeated after an error overwrites
      const before = (writers.get(nonce) ?? Buffer.alloc(0)).subarray(0, this.#written);
      writers.set(nonce, Buffer.concat([before, own]));
    });
    this.#written += own.length;
    return `${nonce}-${number}`;
  }

  holds(blocks: readonly StagedBlock[]): Promise<boolean> {
    return this.#send(() =>
      [...bytesOfWriters(blocks)].every(
        ([nonce, bytes]) => (this.#at.parts.get(this.#name)?.get(nonce)?.length ?? -1) >= bytes,
      ),
    );
  }

  async commit(blocks: readonly StagedBlock[]): Promise<"committed" | "gone"> {
    const content = await this.#send(() => this.#contentOf(blocks));
    const end = await this.#send(() => {
      const committed = this.#at.files.get(this.#path)?.get(1);
      // Without a part the commit was made before: only a commit removes parts.
      if (committed && content === undefined)
        return committed.length === [...bytesOfWriters(blocks).values()].reduce((a, b) => a + b, 0)
          ? "committed"
          : "gone";
      if (content === undefined) return "gone";
      if (committed) return committed.equals(content) ? "committed" : "gone";
      this.#at.link(this.#path, 1, content);
      return "committed";
    });
    if (end === "committed") await this.#send(() => void this.#at.parts.delete(this.#name));
    return end;
  }

  #contentOf(blocks: readonly StagedBlock[]): Buffer | undefined {
    const parts: Buffer[] = [];
    for (const [nonce, bytes] of bytesOfWriters(blocks)) {
      const part = this.#at.parts.get(this.#name)?.get(nonce);
      if (!part || part.length < bytes) return undefined;
      parts.push(part.subarray(0, bytes));
    }
    return Buffer.concat(parts);
  }
}

const uploadName = (path: string, key: string) => `${path} ${key}`;
const nonceOf = (id: string) => id.slice(0, id.indexOf("-"));

function bytesOfWriters(blocks: readonly StagedBlock[]): Map<string, number> {
  const writers = new Map<string, number>();
  for (const [id, bytes] of blocks) writers.set(nonceOf(id), (writers.get(nonceOf(id)) ?? 0) + bytes);
  return writers;
}
