import { createHash, randomBytes } from "node:crypto";
import { type FileHandle, lstat, open, readdir, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { absent, linkInFolder, openNew, openToRead, syncFolder, writeAll } from "./directory-files.ts";
import { type DirectoryFolder, unfinishedOf } from "./directory-folder.ts";
import type { BlockWriter, StagedBlock } from "./store.ts";

/** Writes one file block by block. Each writer appends to a part file of its own, so a writer that was thought dead
 *  cannot disturb its successor. A commit links the part file to the file's name, which makes it visible at once and
 *  whole. */
export function directoryBlocks(folder: DirectoryFolder, path: string): BlockWriter {
  const blocks = new PartFiles(folder, path);
  return {
    stage: (id, bytes) => folder.call(() => blocks.stage(id, bytes)),
    holds: (list) => folder.call(() => blocks.hold(list)),
    commit: (list) => folder.call(() => blocks.commit(list)),
  };
}

/** The part files of one file, of which the one that is open is this writer's. */
class PartFiles {
  readonly #folder: DirectoryFolder;
  readonly #path: string;
  readonly #file: string;
  #handle: FileHandle | undefined;
  #offset = 0;

  constructor(folder: DirectoryFolder, path: string) {
    this.#folder = folder;
    this.#path = path;
    this.#file = folder.file(path);
  }

  async stage(id: string, bytes: Uint8Array): Promise<void> {
    this.#handle ??= await openNew(await this.#folder.reach(this.#partOf(nonceOf(id))));
    // at a position, so that a call that is repeated after an error overwrites
    await writeAll(this.#handle, bytes, this.#offset);
    await this.#handle.datasync();
    this.#offset += bytes.length;
  }

  async hold(blocks: readonly StagedBlock[]): Promise<boolean> {
    for (const [nonce, bytes] of bytesByWriter(blocks)) {
      const info = await lstat(this.#partOf(nonce)).catch(absent(undefined));
      if (!info || info.size < bytes) return false;
    }
    return true;
  }

  async commit(blocks: readonly StagedBlock[]): Promise<"committed" | "other"> {
    const file = await this.#folder.reach(this.#file);
    const writers = [...bytesByWriter(blocks)];
    const total = writers.reduce((sum, [, bytes]) => sum + bytes, 0);
    const part = await this.#wholePart(writers, total);
    await this.#handle?.close();
    this.#handle = undefined;
    const linked = await linkInFolder(part, file);
    if (linked) await syncFolder(dirname(file));
    else if (!(await isSameContent(file, part, total))) return "other";
    await removeParts(this.#folder, this.#path);
    return "committed";
  }

  /** A part file with all the content: that of the only writer, or a new one made of the part files of several. */
  async #wholePart(writers: [nonce: string, bytes: number][], total: number): Promise<string> {
    const first = this.#partOf(writers[0]![0]);
    const isWhole = writers.length === 1 && (await lstat(first).catch(absent(undefined)))?.size === total;
    if (isWhole || (await lstat(this.#file).catch(absent(undefined))) !== undefined) return first;
    // under a name that nobody else has: another writer may be doing the same
    const joined = this.#partOf(randomBytes(8).toString("hex"));
    await concatenate(
      writers.map(([nonce, bytes]) => [this.#partOf(nonce), bytes]),
      joined,
    );
    return joined;
  }

  #partOf(nonce: string): string {
    return this.#folder.partFile({ path: this.#path, key: `${nonce}.part` });
  }
}

/** Removes the part files of every writer of a file. */
export async function removeParts(folder: DirectoryFolder, path: string): Promise<void> {
  const entries = await readdir(folder.parts).catch(absent([] as string[]));
  for (const entry of entries)
    if (unfinishedOf(entry)?.path === path && entry.endsWith(".part"))
      await rm(join(folder.parts, entry), { force: true });
}

const nonceOf = (id: string) => id.slice(0, id.indexOf("-"));

/** How many bytes of each writer's part file the blocks are, by nonce, in order of first use. */
function bytesByWriter(blocks: readonly StagedBlock[]): Map<string, number> {
  const writers = new Map<string, number>();
  for (const [id, bytes] of blocks) writers.set(nonceOf(id), (writers.get(nonceOf(id)) ?? 0) + bytes);
  return writers;
}

async function concatenate(sources: [file: string, bytes: number][], target: string): Promise<void> {
  const out = await open(target, "wx", 0o640);
  try {
    let position = 0;
    for (const [file, bytes] of sources) {
      const from = await openToRead(file);
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
}

/** Whether a committed file is what the part would have become: then it was this commit that made it, and its answer
 *  was lost. When the part is gone, it was, too: only a commit removes parts. */
async function isSameContent(file: string, part: string, total: number): Promise<boolean> {
  if ((await lstat(file)).size !== total) return false;
  if ((await lstat(part).catch(absent(undefined))) === undefined) return true;
  return (await hashOfHead(file, total)) === (await hashOfHead(part, total));
}

async function hashOfHead(file: string, bytes: number): Promise<string> {
  const hash = createHash("sha256");
  const from = await openToRead(file);
  for await (const chunk of from.createReadStream({ end: bytes - 1 })) hash.update(chunk as Buffer);
  return hash.digest("hex");
}
