import { randomBytes } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, readdir, readFile, rm, stat, unlink } from "node:fs/promises";
import { basename, dirname, join, sep } from "node:path";
import { pathToFileURL } from "node:url";
import { terminal } from "../failure.ts";
import { directoryBlocks, removeParts } from "./directory-blocks.ts";
import { absent, fileFailure, linkNew, pruneEmpty } from "./directory-files.ts";
import { DirectoryFolder } from "./directory-folder.ts";
import type { ListedObject, Store, StoredObject, StoredStream } from "./store.ts";

/** A directory, on a volume that many pods may mount, with the same guarantees as blobs. `link` refuses to overwrite,
 *  so it stands for `If-None-Match`. An object that is replaced gets a new generation, the file `name~2`; to link the
 *  next generation stands for `If-Match`. The number of the generation is the object's tag.
 *  @param root the export's folder */
export function directoryStore(root: string): Store {
  const at = new DirectoryFolder(root);
  return {
    prepare: () => at.call(() => proveWritable(at)),
    read: (path) => at.call(() => readNewest(at, path)),
    create: (path, bytes) => at.call(() => createFirst(at, path, bytes)),
    replace: (path, bytes, etag) => at.call(() => linkNext(at, path, bytes, Number(etag))),
    remove: (path, etag) =>
      at.call(() => (etag === undefined ? removeObject(at, path) : removeObjectWithTag(at, path, etag))),
    discard: (path) => at.call(() => removeParts(at, path)),
    list: (prefix) => listObjects(at, prefix),
    stream: (path, range) => at.call(() => streamFile(at, path, range)),
    blocks: (path) => directoryBlocks(at, path),
    url: (path) => pathToFileURL(at.file(path)).href,
    close: async () => {},
  };
}

async function proveWritable(at: DirectoryFolder): Promise<void> {
  await mkdir(at.base, { recursive: true });
  const probe = join(at.base, `.probe-${randomBytes(6).toString("hex")}`);
  if (!(await linkNew(probe, Buffer.from("probe"))))
    throw terminal(
      "TargetUnreachable",
      "the volume of the ExportTarget does not keep what is written to it; use another volume",
    );
  await unlink(probe);
}

/** The numbers of the generations of an object that exist now. */
async function generations(at: DirectoryFolder, path: string): Promise<Set<number>> {
  const file = at.file(path);
  const entries = await readdir(dirname(file)).catch(absent([] as string[]));
  const found = entries.map((entry) => generationOf(entry, basename(file)));
  return new Set(found.filter((generation) => generation > 0));
}

/** The newest generation of an object: its file and number; 0 when there is no such object. */
async function newest(at: DirectoryFolder, path: string): Promise<{ file: string; generation: number }> {
  const generation = Math.max(0, ...(await generations(at, path)));
  return { file: generationFile(at.file(path), generation), generation };
}

const generationFile = (file: string, generation: number) => (generation > 1 ? `${file}~${generation}` : file);

/** Which generation of the object `name` a directory's entry is; 0 when it is none. */
function generationOf(entry: string, name: string): number {
  if (entry === name) return 1;
  const number = entry.startsWith(`${name}~`) ? entry.slice(name.length + 1) : "";
  return /^\d+$/.test(number) ? Number(number) : 0;
}

async function readNewest(at: DirectoryFolder, path: string): Promise<StoredObject | undefined> {
  // between the two calls the generation may be replaced and removed: then look once more
  for (;;) {
    const { file, generation } = await newest(at, path);
    if (generation === 0) return undefined;
    const bytes = await readFile(file).catch(absent(undefined));
    if (bytes) return { bytes, etag: String(generation) };
  }
}

async function createFirst(at: DirectoryFolder, path: string, bytes: Uint8Array): Promise<string | undefined> {
  if ((await newest(at, path)).generation > 0) return undefined;
  if (!(await linkNew(at.file(path), bytes))) return undefined;
  // another writer may have created the object, replaced it and removed its first generation in between
  return (await newest(at, path)).generation === 1 ? "1" : undefined;
}

/** Links the generation behind `known`, and removes that one.
 *  @returns undefined when `known` is not the newest any more */
async function linkNext(
  at: DirectoryFolder,
  path: string,
  bytes: Uint8Array,
  known: number,
): Promise<string | undefined> {
  const next = known + 1;
  if ((await newest(at, path)).generation !== known) return undefined;
  const file = generationFile(at.file(path), next);
  if (!(await linkNew(file, bytes))) return undefined;
  // A writer that stood still since it looked can link a number that others have passed, or one of an object that was
  // removed.
  const now = await generations(at, path);
  if (Math.max(...now) !== next || !now.has(known)) {
    await unlink(file).catch(absent(undefined));
    return undefined;
  }
  await unlink(generationFile(at.file(path), known)).catch(absent(undefined));
  return String(next);
}

async function removeObject(at: DirectoryFolder, path: string): Promise<void> {
  // a writer may link the next generation meanwhile
  while (await removeGenerations(at, path));
  await removeParts(at, path);
  await pruneEmpty(dirname(at.file(path)), at.base);
}

async function removeObjectWithTag(at: DirectoryFolder, path: string, etag: string): Promise<void> {
  const { file, generation } = await newest(at, path);
  const info = generation > 0 ? await stat(file).catch(absent(undefined)) : undefined;
  if (info && (etag === String(generation) || etag === fileTag(info))) await removeGenerations(at, path);
}

/** Removes the generations of an object, the oldest first: an old one that a killed writer left must not show when a
 *  newer one is gone.
 *  @returns whether there were any */
async function removeGenerations(at: DirectoryFolder, path: string): Promise<boolean> {
  const found = [...(await generations(at, path))].sort((a, b) => a - b);
  for (const generation of found) await rm(generationFile(at.file(path), generation), { force: true });
  return found.length > 0;
}

async function streamFile(
  at: DirectoryFolder,
  path: string,
  range: { start: number; count?: number } | undefined,
): Promise<StoredStream | undefined> {
  const file = at.file(path);
  const info = await stat(file).catch(absent(undefined));
  if (!info?.isFile()) return undefined;
  const start = range?.start ?? 0;
  const end = range?.count === undefined ? undefined : start + range.count - 1;
  const body = createReadStream(file, { start, ...(end !== undefined && { end }), highWaterMark: 1 << 18 });
  return { body, size: info.size, etag: fileTag(info) };
}

/** The objects below `prefix`, each once, whatever generations of it exist; part files, too. */
async function* listObjects(at: DirectoryFolder, prefix: string): AsyncGenerator<ListedObject> {
  const seen = new Set<string>();
  let found: ListedObject[];
  try {
    found = await listFiles(at.base);
  } catch (error) {
    throw fileFailure(error);
  }
  for (const { path, size, etag } of found.sort((a, b) => (a.path < b.path ? -1 : 1))) {
    const name = path.replace(/~\d+$/, "");
    if (!name.startsWith(prefix) || seen.has(name)) continue;
    seen.add(name);
    yield { path: name, size, etag };
  }
}

async function listFiles(base: string): Promise<ListedObject[]> {
  const found: ListedObject[] = [];
  for (const entry of await readdir(base, { withFileTypes: true, recursive: true }).catch(absent([]))) {
    if (!entry.isFile() || entry.name.endsWith(".draft")) continue;
    const file = join(entry.parentPath, entry.name);
    const info = await stat(file).catch(absent(undefined));
    if (info)
      found.push({ path: file.slice(base.length + 1).replaceAll(sep, "/"), size: info.size, etag: fileTag(info) });
  }
  return found;
}

/** The tag of a large file, which is never replaced but may be removed and made again. */
const fileTag = ({ size, mtimeMs }: { size: number; mtimeMs: number }) =>
  `"${size.toString(16)}-${Math.trunc(mtimeMs).toString(16)}"`;
