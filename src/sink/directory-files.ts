/** What a directory store does with files: each step is durable before it is answered, and nothing is ever
 *  overwritten. */
import { constants } from "node:fs";
import { type FileHandle, link, lstat, mkdir, open, rm, rmdir } from "node:fs/promises";
import { dirname, sep } from "node:path";
import { FailureError, terminal, waiting } from "../failure.ts";

/** Reads a file, which is not opened through a symbolic link. */
export const openToRead = (file: string): Promise<FileHandle> => open(file, constants.O_RDONLY | constants.O_NOFOLLOW);

/** A file that is written before it gets its name. */
export interface DraftFile {
  draft: string;
  file: string;
}

/** Writes a new file with all of `bytes`, or nothing. @returns false when there is a file of that name already */
export async function linkNew({ draft, file }: DraftFile, bytes: Uint8Array): Promise<boolean> {
  const handle = await openNew(draft);
  try {
    await writeAll(handle, bytes, 0);
    await handle.sync();
  } finally {
    await handle.close();
  }
  try {
    const linked = await linkInFolder(draft, file);
    // the object may be removed already, and its folder with it
    if (linked) await syncFolder(dirname(file)).catch(absent(undefined));
    return linked;
  } finally {
    await rm(draft, { force: true });
  }
}

/** Opens a new file, with its folder. */
export const openNew = (file: string): Promise<FileHandle> => inFolder(file, () => open(file, "wx+", 0o640));

/** Gives a file one more name. @returns false when the name is taken, or the file is gone */
export async function linkInFolder(existing: string, file: string): Promise<boolean> {
  const isThere = () =>
    lstat(existing).then(
      () => true,
      () => false,
    );
  return inFolder(file, () => link(existing, file), isThere).then(() => true, refusedLink);
}

/** Does something with a file, in a folder that is made for it. A concurrent `pruneEmpty` may remove the folder as
 *  often as it finds it empty, hence the tries.
 *  @param mayTry answers false when something else than the folder is missing */
async function inFolder<T>(file: string, work: () => Promise<T>, mayTry = async () => true): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      // It may fail itself, when a folder above is removed as soon as it is made.
      await mkdir(dirname(file), { recursive: true });
      return await work();
    } catch (error) {
      if (systemCodeOf(error) !== "ENOENT" || tries === 100 || !(await mayTry())) throw error;
    }
  }
}

export async function writeAll(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; )
    done += (await handle.write(bytes, done, bytes.length - done, position + done)).bytesWritten;
}

/** Makes the names in a folder durable. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } catch {
    // some network file systems cannot sync a folder; the link is then as durable as they make it
  } finally {
    await handle.close();
  }
}

/** Removes folders that became empty, from `folder` up to `base`, which stays. */
export async function pruneEmpty(folder: string, base: string): Promise<void> {
  for (let at = folder; at.startsWith(base + sep); at = dirname(at)) {
    try {
      await rmdir(at);
    } catch (error) {
      // The folder is not empty. Only rmdir says so: to list _work for each of 10,000 shards would take minutes, and a
      // file could come between the listing and the removal.
      if (keptFolder.includes(systemCodeOf(error) ?? "")) return;
      throw error;
    }
  }
}

const keptFolder = ["ENOTEMPTY", "EEXIST", "ENOENT", "ENOTDIR", "EBUSY"];

const systemCodeOf = (error: unknown) => (error as NodeJS.ErrnoException).code;

/** For `catch`: answers `value` when the file is not there. */
export function absent<T>(value: T): (error: unknown) => T {
  return (error) => {
    if (systemCodeOf(error) === "ENOENT" || systemCodeOf(error) === "ENOTDIR") return value;
    throw error;
  };
}

/** For the `catch` of a `link`: EEXIST says that the name is taken; ENOENT that the source is gone, because this very
 *  link was made before. */
function refusedLink(error: unknown): false {
  if (systemCodeOf(error) === "EEXIST" || systemCodeOf(error) === "ENOENT") return false;
  throw error;
}

/** What an error of the file system means for the export.
 *  @throws the error itself where it is none of the file system, which is a fault of this program */
export function fileFailure(error: unknown): FailureError {
  if (error instanceof FailureError) return error;
  const code = systemCodeOf(error);
  if (code === undefined) throw error;
  if (code === "EPERM" || code === "ENOTSUP" || code === "EOPNOTSUPP" || code === "EMLINK")
    return terminal(
      "TargetUnreachable",
      `the volume of the ExportTarget has no hard links (${code}), without which files could be overwritten; use a volume that has them`,
      error,
    );
  if (code === "ELOOP")
    return terminal(
      "TargetUnauthorized",
      "a file on the volume of the ExportTarget is a symbolic link (ELOOP); remove the link, and check who may write to the volume",
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
