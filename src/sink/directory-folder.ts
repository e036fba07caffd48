import { lstat, realpath } from "node:fs/promises";
import { dirname, join, resolve, sep } from "node:path";
import { terminal } from "../failure.ts";
import { absent, fileFailure } from "./directory-files.ts";
import type { Unfinished } from "./store.ts";

/** The folder of one export on a volume: finds its files, and turns errors of the file system into failures. */
export class DirectoryFolder {
  /** the volume, or the folder of it that the ExportTarget names */
  readonly root: string;
  /** the export's folder */
  readonly base: string;
  /** Where files wait that are no objects yet: blocks until their commit, in a part file per writer, and small objects
   *  until they are durable. */
  readonly parts: string;
  /** where `root` really is, once it exists */
  #realRoot: string | undefined;

  constructor(root: string, folder: string) {
    this.root = resolve(root);
    this.base = join(this.root, folder);
    this.parts = this.file("_work/parts");
  }

  /** The file of a path, which contained.ts has checked. */
  file(path: string): string {
    return join(this.base, path);
  }

  /** A file of what is not finished yet.
   *  @param name tells it from others of the same path: of an upload its key and the writer's nonce */
  partFile(path: string, name: string): string {
    return join(this.parts, `${encodeURIComponent(path)}.${name}`);
  }

  /** Makes sure that a file is on the volume: its folder, as far as it exists, is no symbolic link to another place.
   *  Whoever may write to the volume could place one, and have files of the pod read, overwritten or removed. The last
   *  part of the name is not looked at, since a file is never opened through a link.
   *  @returns the file
   *  @throws terminal TargetUnauthorized */
  async reach(file: string): Promise<string> {
    this.#realRoot ??= await realpath(this.root).catch(absent(undefined));
    if (this.#realRoot === undefined) return file;
    for (let at = dirname(file); at.startsWith(this.root + sep); at = dirname(at)) {
      const real = await realpath(at).catch(absent(undefined));
      if (real === undefined && (await lstat(at).catch(absent(undefined)))?.isSymbolicLink()) throw linkFound();
      if (real === undefined) continue;
      if (real !== this.#realRoot && !real.startsWith(this.#realRoot + sep)) throw linkFound();
      break;
    }
    return file;
  }

  /** @throws FailureError, as `Store` says */
  call<T>(work: () => Promise<T>): Promise<T> {
    return work().catch((error) => Promise.reject(fileFailure(error)));
  }
}

const linkFound = () =>
  terminal(
    "TargetUnauthorized",
    "a folder on the volume of the ExportTarget is a symbolic link that leads out of the volume; remove the link, and check who may write to the volume",
  );

/** What a name in the folder `parts` stands for; undefined where it is none of ours. */
export function unfinishedOf(entry: string): Unfinished | undefined {
  const [, name, upload, draft] = /^(.+)\.(?:([^.-]+)-[^.]+\.part|([^.]+\.draft))$/.exec(entry) ?? [];
  const key = upload ?? draft;
  if (name === undefined || key === undefined) return undefined;
  try {
    return { path: decodeURIComponent(name), key };
  } catch {
    return undefined;
  }
}
