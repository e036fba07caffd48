import { createHash, randomBytes } from "node:crypto";
import { type FileHandle, lstat, readdir, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { absent, linkInFolder, openNew, openToRead, pruneEmpty, syncFolder, writeAll } from "./directory-files.ts";
import { type DirectoryFolder, unfinishedOf } from "./directory-folder.ts";
import type { StagedBlock, Unfinished, Upload } from "./store.ts";

/** Writes one file block by block. Each writer appends to a part file of its own, so a writer that was thought dead
 *  cannot disturb its successor. A commit links the part file to the file's name, which makes it visible at once and
 *  whole.
 *  @param key of an upload that was begun before */
export function directoryUpload(folder: DirectoryFolder, path: string, key = randomBytes(4).toString("hex")): Upload {
  const parts = new PartFiles(folder, path, key);
  return {
    key,
    stage: (number, nonce, bytes) => folder.call(() => parts.stage(number, nonce, bytes)),
    holds: (list) => folder.call(() => parts.hold(list)),
    commit: (list) => folder.call(() => parts.commit(list)),
  };
}

/** The part files of one upload, of which the one that is open is this writer's. */
class PartFiles {
  readonly #folder: DirectoryFolder;
  readonly #path: string;
  readonly #key: string;
  #handle: FileHandle | undefined;
  #offset = 0;

  constructor(folder: DirectoryFolder, path: string, key: string) {
    this.#folder = folder;
    this.#path = path;
    this.#key = key;
  }

  async stage(number: number, nonce: string, bytes: Uint8Array): Promise<string> {
    this.#handle ??= await openNew(await this.#folder.reach(this.#partOf(nonce)));
    // at a position, so that a call that is repeated after an error overwrites
    await writeAll(this.#handle, bytes, this.#offset);
    await this.#handle.datasync();
    this.#offset += bytes.length;
    return `${nonce}-${number}`;
  }

  async hold(blocks: readonly StagedBlock[]): Promise<boolean> {
    for (const [nonce, bytes] of bytesByWriter(blocks)) {
      const info = await lstat(this.#partOf(nonce)).catch(absent(undefined));
      if (!info || info.size < bytes) return false;
    }
    return true;
  }

  async commit(blocks: readonly StagedBlock[]): Promise<"committed" | "gone"> {
    const file = await this.#folder.reach(this.#folder.file(this.#path));
    const writers = [...bytesByWriter(blocks)];
    const total = writers.reduce((sum, [, bytes]) => sum + bytes, 0);
    const part = await this.#wholePart(writers, total, file);
    await this.#handle?.close();
    this.#handle = undefined;
    if (part !== undefined && (await linkInFolder(part, file))) await syncFolder(dirname(file));
    else if (!(await isSameContent(file, part, total))) return "gone";
    await removeParts(this.#folder, { path: this.#path, key: this.#key });
    return "committed";
  }

  /** A part file with all the content: that of the only writer, or a new one made of the part files of several. Only
   *  the first of them where the file is there already; undefined where a part is gone. */
  async #wholePart(writers: [nonce: string, bytes: number][], total: number, file: string) {
    const first = this.#partOf(writers[0]![0]);
    const size = (await lstat(first).catch(absent(undefined)))?.size;
    if (size === undefined) return undefined;
    if (writers.length === 1 && size === total) return first;
    if ((await lstat(file).catch(absent(undefined))) !== undefined) return first;
    // under a name that nobody else has: another writer may be doing the same
    const joined = this.#partOf(randomBytes(8).toString("hex"));
    const sources = writers.map(([nonce, bytes]): [string, number] => [this.#partOf(nonce), bytes]);
    return (await concatenate(sources, joined)) ? joined : undefined;
  }

  #partOf(nonce: string): string {
    return this.#folder.partFile(this.#path, `${this.#key}-${nonce}.part`);
  }
}

/** Removes the files of what is not finished: the parts of every writer of an upload, or a draft. */
export async function removeParts(folder: DirectoryFolder, { path, key }: Unfinished): Promise<void> {
  const parts = dirname(await folder.reach(join(folder.parts, "x")));
  const entries = await readdir(parts).catch(absent([] as string[]));
  for (const entry of entries) {
    const one = unfinishedOf(entry);
    if (one?.path === path && one.key === key) await rm(join(parts, entry), { force: true });
  }
  await pruneEmpty(parts, folder.base);
}

const nonceOf = (ref: string) => ref.slice(0, ref.indexOf("-"));

/** How many bytes of each writer's part file the blocks are, by nonce, in order of first use. */
function bytesByWriter(blocks: readonly StagedBlock[]): Map<string, number> {
  const writers = new Map<string, number>();
  for (const [id, bytes] of blocks) writers.set(nonceOf(id), (writers.get(nonceOf(id)) ?? 0) + bytes);
  return writers;
}

/** @returns false where a source is gone, or has fewer bytes */
async function concatenate(sources: [file: string, bytes: number][], target: string): Promise<boolean> {
  const out = await openNew(target);
  let position = 0;
  try {
    for (const [file, bytes] of sources) {
      const from = await openToRead(file).catch(absent(undefined));
      if (!from) break;
      for await (const chunk of from.createReadStream({ end: bytes - 1, highWaterMark: 1 << 20 })) {
        await writeAll(out, chunk as Buffer, position);
        position += (chunk as Buffer).length;
      }
    }
    await out.sync();
  } catch (error) {
    await rm(target, { force: true });
    throw error;
  } finally {
    await out.close();
  }
  if (position === sources.reduce((sum, [, bytes]) => sum + bytes, 0)) return true;
  await rm(target, { force: true });
  return false;
}

/** Whether a committed file is what the part would have become: then it was this commit that made it, and its answer
 *  was lost. When the part is gone, it was, too: only a commit removes parts. */
async function isSameContent(file: string, part: string | undefined, total: number): Promise<boolean> {
  if ((await lstat(file).catch(absent(undefined)))?.size !== total) return false;
  if (part === undefined || (await lstat(part).catch(absent(undefined))) === undefined) return true;
  return (await hashOfHead(file, total)) === (await hashOfHead(part, total));
}

async function hashOfHead(file: string, bytes: number): Promise<string> {
  const hash = createHash("sha256");
  const from = await openToRead(file);
  for await (const chunk of from.createReadStream({ end: bytes - 1 })) hash.update(chunk as Buffer);
  return hash.digest("hex");
}
