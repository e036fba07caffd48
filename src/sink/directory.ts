import { randomBytes } from "node:crypto";
import type { Dirent } from "node:fs";
import { lstat, mkdir, readdir, rm, unlink } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { sha256Of } from "../digest.ts";
import { terminal } from "../failure.ts";
import { directoryUpload, removeParts } from "./directory-blocks.ts";
import { absent, linkNew, openToRead, pruneEmpty } from "./directory-files.ts";
import { DirectoryFolder, unfinishedOf } from "./directory-folder.ts";
import type { ListedObject, Store, StoredObject, StoredStream, Unfinished } from "./store.ts";

/** A directory, on a volume that many pods may mount, with the same guarantees as blobs. `link` refuses to overwrite,
 *  so it stands for `If-None-Match`. An object that is replaced gets a new generation, the file `name~2`; to link the
 *  next generation stands for `If-Match`. Numbers come again when an object is removed and made anew, so the tag of an
 *  object is the SHA-256 of its bytes.
 *  @param root the volume
 *  @param folder the export's, below it */
export function directoryStore(root: string, folder: string): Store {
  const at = new DirectoryFolder(root, folder);
  return {
    prepare: () => at.call(() => proveWritable(at)),
    read: (path) => at.call(() => readNewest(at, path)),
    create: (path, bytes) => at.call(() => createFirst(at, path, bytes)),
    replace: (path, bytes, tag) => at.call(() => linkNext(at, path, bytes, tag)),
    remove: (path) => at.call(() => removeObject(at, path)),
    size: (path) => at.call(() => sizeOfNewest(at, path)),
    list: (prefix) => listObjects(at, prefix),
    unfinished: (prefix) => listUnfinished(at, prefix),
    abandon: (path, key) => at.call(() => removeParts(at, { path, key })),
    stream: (path, range) => at.call(() => streamFile(at, path, range)),
    upload: async (path, _, key) => directoryUpload(at, path, key),
    url: (path) => pathToFileURL(at.file(path)).href,
    requestSeconds: volumeRequestSeconds,
    close: async () => {},
  };
}

/** What a process that was killed had asked of the file system is done long before. */
const volumeRequestSeconds = 10;

async function proveWritable(at: DirectoryFolder): Promise<void> {
  const path = `_work/probe-${randomBytes(6).toString("hex")}`;
  const probe = await at.reach(at.file(path));
  await mkdir(dirname(probe), { recursive: true });
  if (!(await linkNew({ draft: draftOf(at, path), file: probe }, Buffer.from("probe"))))
    throw terminal(
      "TargetUnreachable",
      "the volume of the ExportTarget does not keep what is written to it; use another volume",
    );
  await unlink(probe);
}

/** A new file in which a small object waits until it is durable. Its name is the object's, so that what a killed
 *  process leaves of it is known to be of this object. */
const draftOf = (at: DirectoryFolder, path: string) => at.partFile(path, `${randomBytes(8).toString("hex")}.draft`);

/** The numbers of the generations of an object that exist now. */
async function generations(at: DirectoryFolder, path: string): Promise<Set<number>> {
  const file = await at.reach(at.file(path));
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
    const bytes = await readWhole(file);
    if (bytes) return { bytes, tag: sha256Of(bytes) };
  }
}

async function readWhole(file: string): Promise<Buffer | undefined> {
  const handle = await openToRead(file).catch(absent(undefined));
  try {
    return await handle?.readFile();
  } finally {
    await handle?.close();
  }
}

async function sizeOfNewest(at: DirectoryFolder, path: string): Promise<number | undefined> {
  for (;;) {
    const { file, generation } = await newest(at, path);
    if (generation === 0) return undefined;
    const info = await lstat(file).catch(absent(undefined));
    if (info) return info.size;
  }
}

async function createFirst(at: DirectoryFolder, path: string, bytes: Uint8Array): Promise<string | undefined> {
  const file = at.file(path);
  if ((await newest(at, path)).generation > 0 || !(await linkNew({ draft: draftOf(at, path), file }, bytes)))
    return ownTag(at, path, bytes);
  if ((await newest(at, path)).generation === 1) return sha256Of(bytes);
  // another writer has created the object, replaced it and removed its first generation in between
  await unlink(file).catch(absent(undefined));
  return undefined;
}

/** The tag of the object, if it has these very bytes: then the write that was refused had been done before. */
async function ownTag(at: DirectoryFolder, path: string, bytes: Uint8Array): Promise<string | undefined> {
  const found = await readNewest(at, path);
  return found?.bytes.equals(bytes) ? found.tag : undefined;
}

/** Links the generation behind the one that has the tag, and removes that one. */
async function linkNext(
  at: DirectoryFolder,
  path: string,
  bytes: Uint8Array,
  tag: string,
): Promise<string | undefined> {
  const { file: current, generation: known } = await newest(at, path);
  const isCurrent = async () => known > 0 && tagOf(await readWhole(current)) === tag;
  if (!(await isCurrent())) return ownTag(at, path, bytes);
  const next = known + 1;
  const file = generationFile(at.file(path), next);
  if (!(await linkNew({ draft: draftOf(at, path), file }, bytes))) return ownTag(at, path, bytes);
  // A writer that stood still since it looked can link a number that others have passed, or one of an object that was
  // removed, and perhaps made anew with other bytes.
  const now = await generations(at, path);
  if (Math.max(...now) !== next || !(await isCurrent())) {
    await unlink(file).catch(absent(undefined));
    return undefined;
  }
  await unlink(current).catch(absent(undefined));
  return sha256Of(bytes);
}

const tagOf = (bytes: Buffer | undefined) => bytes && sha256Of(bytes);

async function removeObject(at: DirectoryFolder, path: string): Promise<void> {
  // a writer may link the next generation meanwhile
  while (await removeGenerations(at, path));
  await pruneEmpty(dirname(at.file(path)), at.base);
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
  const handle = await openToRead(await at.reach(at.file(path))).catch(absent(undefined));
  if (!handle) return undefined;
  const info = await handle.stat();
  if (!info.isFile()) {
    await handle.close();
    return undefined;
  }
  const start = range?.start ?? 0;
  const end = range?.count === undefined ? undefined : start + range.count - 1;
  const body = handle.createReadStream({ start, ...(end !== undefined && { end }), highWaterMark: 1 << 18 });
  return { body, size: info.size };
}

/** The objects below `prefix`, each once, whatever generations of it exist. */
async function* listObjects(at: DirectoryFolder, prefix: string): AsyncGenerator<ListedObject> {
  const seen = new Set<string>();
  const files = await at.call(async () => filesBelow(await at.reach(at.file("x")).then(dirname), ""));
  for (const path of files.sort()) {
    const name = path.replace(/~\d+$/, "");
    if (!name.startsWith(prefix) || name.startsWith(partsPrefix) || seen.has(name)) continue;
    seen.add(name);
    const info = await at.call(() => lstat(at.file(path)).catch(absent(undefined)));
    // It may have been replaced meanwhile, which is the next generation.
    const size = info?.size ?? (await at.call(() => sizeOfNewest(at, name)));
    if (size !== undefined) yield { path: name, size };
  }
}

const partsPrefix = "_work/parts/";

async function* listUnfinished(at: DirectoryFolder, prefix: string): AsyncGenerator<Unfinished> {
  const folder = await at.call(() => at.reach(join(at.parts, "x")).then(dirname));
  const entries = await at.call(() => readdir(folder).catch(absent([] as string[])));
  const seen = new Set<string>();
  for (const entry of entries.sort()) {
    const one = unfinishedOf(entry);
    if (!one?.path.startsWith(prefix) || seen.has(`${one.path} ${one.key}`)) continue;
    seen.add(`${one.path} ${one.key}`);
    yield one;
  }
}

/** Paths of all files in a folder and below it; symbolic links, which are never followed, are among them. Each folder
 *  is read by itself: `readdir` with `recursive` fails as a whole when one folder is removed meanwhile.
 *  @param below what the paths begin with */
async function filesBelow(folder: string, below: string): Promise<string[]> {
  const found: string[] = [];
  for (const entry of await readdir(folder, { withFileTypes: true }).catch(absent<Dirent[]>([])))
    if (entry.isDirectory()) found.push(...(await filesBelow(join(folder, entry.name), `${below}${entry.name}/`)));
    else found.push(below + entry.name);
  return found;
}
