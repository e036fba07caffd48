import { createHash, randomBytes } from "node:crypto";
import { createReadStream } from "node:fs";
import { type FileHandle, link, mkdir, open, readdir, readFile, rm, rmdir, stat, unlink } from "node:fs/promises";
import { basename, dirname, join, resolve, sep } from "node:path";
import { pathToFileURL } from "node:url";
import { FailureError, terminal, waiting } from "../failure.ts";
import type { BlockWriter, Store } from "./store.ts";

const partsFolder = "_work/parts";

/** A directory (a volume that may be mounted by many pods) with the same guarantees as blobs: `link` refuses to overwrite, so it is the
 *  `If-None-Match`; a replaced object is a new generation `name~2`, so linking the next one is the `If-Match`.
 *  @param root the export's folder */
export function directoryStore(root: string): Store {
  const base = resolve(root);
  const at = (path: string) => {
    const full = resolve(base, path);
    if (full !== base && !full.startsWith(base + sep))
      throw terminal("Internal", "a path leads out of the export's folder");
    return full;
  };
  const guard = <T>(call: () => Promise<T>) => call().catch((error) => Promise.reject(fileFailure(error)));

  const generations = async (path: string): Promise<Set<number>> => {
    const name = basename(at(path));
    const entries = await readdir(dirname(at(path))).catch(absent([] as string[]));
    return new Set(entries.map((entry) => generationOf(entry, name)).filter((generation) => generation > 0));
  };
  /** the newest generation of an object: its file and number; 0 when there is none */
  const newest = async (path: string): Promise<{ file: string; generation: number }> => {
    const generation = Math.max(0, ...(await generations(path)));
    return { file: generationFile(at(path), generation), generation };
  };

  /** @returns whether there were any */
  const removeGenerations = async (path: string): Promise<boolean> => {
    // an older one that a killed writer left must not show again
    const found = [...(await generations(path))].sort((a, b) => a - b);
    for (const generation of found) await rm(generationFile(at(path), generation), { force: true });
    return found.length > 0;
  };

  return {
    prepare: () =>
      guard(async () => {
        await mkdir(base, { recursive: true });
        const probe = join(base, `.probe-${randomBytes(6).toString("hex")}`);
        if (!(await linkNew(probe, Buffer.from("probe"))))
          throw terminal("TargetUnreachable", "the volume does not keep what is written");
        await unlink(probe);
      }),
    read: (path) =>
      guard(async () => {
        // a generation may be replaced and removed between the two calls: look again
        for (;;) {
          const { file, generation } = await newest(path);
          if (generation === 0) return undefined;
          const bytes = await readFile(file).catch(absent(undefined));
          if (bytes) return { bytes, etag: String(generation) };
        }
      }),
    create: (path, bytes) =>
      guard(async () => {
        if ((await newest(path)).generation > 0) return undefined;
        if (!(await linkNew(at(path), bytes))) return undefined;
        // or another one was made and replaced in between
        return (await newest(path)).generation === 1 ? "1" : undefined;
      }),
    replace: (path, bytes, etag) =>
      guard(async () => {
        const mine = Number(etag) + 1;
        if ((await newest(path)).generation !== mine - 1) return undefined;
        const file = generationFile(at(path), mine);
        if (!(await linkNew(file, bytes))) return undefined;
        // a writer that fell behind can link a number that others have passed, or whose object was removed
        const there = await generations(path);
        if (Math.max(...there) !== mine || !there.has(mine - 1)) {
          await unlink(file).catch(absent(undefined));
          return undefined;
        }
        await unlink(generationFile(at(path), mine - 1)).catch(absent(undefined));
        return String(mine);
      }),
    remove: (path, etag) =>
      guard(async () => {
        if (etag !== undefined) {
          const { file, generation } = await newest(path);
          const info = generation > 0 ? await stat(file).catch(absent(undefined)) : undefined;
          if (info && (etag === String(generation) || etag === tagOf(info))) await removeGenerations(path);
          return;
        }
        while (await removeGenerations(path));
        for (const part of await parts(at(partsFolder), path)) await rm(part, { force: true });
        await pruneEmpty(dirname(at(path)), base);
      }),
    discard: (path) =>
      guard(async () => {
        for (const part of await parts(at(partsFolder), path)) await rm(part, { force: true });
      }),
    list: (prefix) => walk(base, prefix),
    stream: (path, range) =>
      guard(async () => {
        const file = at(path);
        const info = await stat(file).catch(absent(undefined));
        if (!info?.isFile()) return undefined;
        const start = range?.start ?? 0;
        const end = range?.count === undefined ? undefined : start + range.count - 1;
        const body = createReadStream(file, { start, ...(end !== undefined && { end }), highWaterMark: 1 << 18 });
        return { body, size: info.size, etag: tagOf(info) };
      }),
    blocks: (path): BlockWriter => directoryBlocks(at(path), at(partsFolder), path, guard),
    url: (path) => pathToFileURL(at(path)).href,
    close: async () => {},
  };
}

/** Blocks of one file: each writer appends to a part file of its own, so a writer that was thought dead cannot disturb its successor. */
function directoryBlocks(
  file: string,
  folder: string,
  path: string,
  guard: <T>(call: () => Promise<T>) => Promise<T>,
): BlockWriter {
  const partOf = (nonce: string) => join(folder, `${flat(path)}.${nonce}.part`);
  const nonceOf = (id: string) => id.slice(0, id.indexOf("-"));
  let offset = 0;
  let handle: FileHandle | undefined;

  return {
    stage: (id, bytes) =>
      guard(async () => {
        if (!handle) {
          await mkdir(folder, { recursive: true });
          handle = await open(partOf(nonceOf(id)), "wx+", 0o640);
        }
        // at a position, so that a repeated call after an error overwrites
        await writeAll(handle, bytes, offset);
        await handle.datasync();
        offset += bytes.length;
      }),
    holds: (blocks) =>
      guard(async () => {
        for (const [nonce, bytes] of perWriter(blocks, nonceOf)) {
          const info = await stat(partOf(nonce)).catch(absent(undefined));
          if (!info || info.size < bytes) return false;
        }
        return true;
      }),
    commit: (blocks) =>
      guard(async () => {
        const writers = [...perWriter(blocks, nonceOf)];
        const total = writers.reduce((sum, [, bytes]) => sum + bytes, 0);
        let part = partOf(writers[0]![0]);
        const whole = writers.length === 1 && (await stat(part).catch(absent(undefined)))?.size === total;
        if (!whole && (await stat(file).catch(absent(undefined))) === undefined) {
          // of its own: another writer may be at the same
          part = partOf(`${randomBytes(8).toString("hex")}+`);
          await concatenate(
            writers.map(([nonce, bytes]) => [partOf(nonce), bytes]),
            part,
          );
        }
        await handle?.close();
        handle = undefined;
        await mkdir(dirname(file), { recursive: true });
        const linked = await link(part, file).then(() => true, absentOrThere);
        if (linked) await syncFolder(dirname(file));
        else if (!(await sameBytes(file, part, total))) return "other";
        for (const left of await parts(folder, path)) await rm(left, { force: true });
        return "committed";
      }),
  };
}

/** how many bytes of each writer's part file the list uses, in order of first use */
function perWriter(
  blocks: readonly (readonly [string, number])[],
  nonceOf: (id: string) => string,
): Map<string, number> {
  const writers = new Map<string, number>();
  for (const [id, bytes] of blocks) writers.set(nonceOf(id), (writers.get(nonceOf(id)) ?? 0) + bytes);
  return writers;
}

const tagOf = ({ size, mtimeMs }: { size: number; mtimeMs: number }) =>
  `"${size.toString(16)}-${Math.trunc(mtimeMs).toString(16)}"`;
const flat = (path: string) => path.replaceAll("/", "+");
const generationFile = (file: string, generation: number) => (generation > 1 ? `${file}~${generation}` : file);
const generationOf = (entry: string, name: string) =>
  entry === name
    ? 1
    : entry.startsWith(`${name}~`) && /^\d+$/.test(entry.slice(name.length + 1))
      ? Number(entry.slice(name.length + 1))
      : 0;

async function parts(folder: string, path: string): Promise<string[]> {
  const entries = await readdir(folder).catch(absent([] as string[]));
  return entries
    .filter((entry) => entry.startsWith(`${flat(path)}.`) && entry.endsWith(".part"))
    .map((entry) => join(folder, entry));
}

/** Writes a new file with all of `bytes`, or none: false when there is one already. */
async function linkNew(file: string, bytes: Uint8Array): Promise<boolean> {
  const draft = join(dirname(file), `.${randomBytes(8).toString("hex")}.draft`);
  const handle = await openNew(draft);
  try {
    await writeAll(handle, bytes, 0);
    await handle.sync();
  } finally {
    await handle.close();
  }
  try {
    const linked = await link(draft, file).then(() => true, absentOrThere);
    // unless the object is removed already, and its folder with it
    if (linked) await syncFolder(dirname(file)).catch(absent(undefined));
    return linked;
  } finally {
    await rm(draft, { force: true });
  }
}

/** With its folder, which may go as often as one that removes objects finds it empty. */
async function openNew(file: string): Promise<FileHandle> {
  for (let tries = 1; ; tries++) {
    await mkdir(dirname(file), { recursive: true });
    try {
      return await open(file, "wx", 0o640);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT" || tries === 100) throw error;
    }
  }
}

async function writeAll(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; )
    done += (await handle.write(bytes, done, bytes.length - done, position + done)).bytesWritten;
}

async function concatenate(sources: [file: string, bytes: number][], target: string): Promise<void> {
  const out = await open(target, "wx", 0o640);
  try {
    let position = 0;
    for (const [file, bytes] of sources) {
      for await (const chunk of createReadStream(file, { end: bytes - 1, highWaterMark: 1 << 20 })) {
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

/** After a commit whose answer was lost: does the file hold what the part would have become? No part left means it was this very one. */
async function sameBytes(file: string, part: string, total: number): Promise<boolean> {
  if ((await stat(file)).size !== total) return false;
  if ((await stat(part).catch(absent(undefined))) === undefined) return true;
  const digest = async (path: string) => {
    const hash = createHash("sha256");
    for await (const chunk of createReadStream(path, { end: total - 1 })) hash.update(chunk as Buffer);
    return hash.digest("hex");
  };
  return (await digest(file)) === (await digest(part));
}

async function* walk(base: string, prefix: string): AsyncGenerator<{ path: string; size: number; etag: string }> {
  const seen = new Set<string>();
  let entries: Awaited<ReturnType<typeof readFiles>>;
  try {
    entries = await readFiles(base);
  } catch (error) {
    throw fileFailure(error);
  }
  for (const { path, size, etag } of entries.sort((a, b) => (a.path < b.path ? -1 : 1))) {
    const name = path.replace(/~\d+$/, "");
    if (!name.startsWith(prefix) || seen.has(name)) continue;
    seen.add(name);
    yield { path: name, size, etag };
  }
}

async function readFiles(base: string): Promise<{ path: string; size: number; etag: string }[]> {
  const found: { path: string; size: number; etag: string }[] = [];
  for (const entry of await readdir(base, { withFileTypes: true, recursive: true }).catch(absent([]))) {
    if (!entry.isFile() || entry.name.endsWith(".draft")) continue;
    const file = join(entry.parentPath, entry.name);
    const info = await stat(file).catch(absent(undefined));
    if (info)
      found.push({ path: file.slice(base.length + 1).replaceAll(sep, "/"), size: info.size, etag: tagOf(info) });
  }
  return found;
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } catch {
    // some network file systems do not sync folders; the link is as durable as they make it
  } finally {
    await handle.close();
  }
}

/** removes folders that became empty, up to and without `base` */
async function pruneEmpty(folder: string, base: string): Promise<void> {
  for (let at = folder; at.startsWith(base + sep); at = dirname(at)) {
    try {
      await rmdir(at);
    } catch (error) {
      // anything is in it: a look into _work for each of 10,000 shards would take minutes, and something may come meanwhile
      if (notRemoved.includes(systemCodeOf(error) ?? "")) return;
      throw error;
    }
  }
}

const notRemoved = ["ENOTEMPTY", "EEXIST", "ENOENT", "ENOTDIR", "EBUSY"];
const systemCodeOf = (error: unknown) => (error as NodeJS.ErrnoException).code;

function absent<T>(value: T): (error: unknown) => T {
  return (error) => {
    if (systemCodeOf(error) === "ENOENT" || systemCodeOf(error) === "ENOTDIR") return value;
    throw error;
  };
}

/** EEXIST of a `link` is the answer "there is one"; a link whose source is gone was made by us before. */
function absentOrThere(error: unknown): false {
  if (systemCodeOf(error) === "EEXIST" || systemCodeOf(error) === "ENOENT") return false;
  throw error;
}

function fileFailure(error: unknown): FailureError {
  if (error instanceof FailureError) return error;
  const code = systemCodeOf(error);
  if (code === undefined) throw error;
  if (code === "EPERM" || code === "ENOTSUP" || code === "EOPNOTSUPP" || code === "EMLINK")
    return terminal(
      "TargetUnreachable",
      `the volume of the ExportTarget has no hard links (${code}); they are needed so that no file is ever overwritten`,
      error,
    );
  if (code === "EACCES" || code === "EROFS")
    return terminal(
      "TargetUnauthorized",
      `the volume of the ExportTarget cannot be written (${code}); check its permissions (the worker runs as user 65532)`,
      error,
    );
  return waiting(
    "TargetUnreachable",
    `the volume of the ExportTarget fails (${code}${code === "ENOSPC" ? ": it is full" : ""})`,
    error,
  );
}
