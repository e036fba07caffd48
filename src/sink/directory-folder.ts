import { resolve, sep } from "node:path";
import { terminal } from "../failure.ts";
import { fileFailure } from "./directory-files.ts";

/** The folder of one export on a volume: finds its files, and turns errors of the file system into failures. */
export class DirectoryFolder {
  readonly base: string;
  /** where blocks wait for their commit, in a part file per writer */
  readonly parts: string;

  /** @param root the export's folder */
  constructor(root: string) {
    this.base = resolve(root);
    this.parts = this.file("_work/parts");
  }

  /** The file of a path. @throws terminal Internal when the path leads out of the folder */
  file(path: string): string {
    const full = resolve(this.base, path);
    if (full !== this.base && !full.startsWith(this.base + sep))
      throw terminal("Internal", "a path leads out of the export's folder");
    return full;
  }

  /** @throws FailureError, as `Store` says */
  call<T>(work: () => Promise<T>): Promise<T> {
    return work().catch((error) => Promise.reject(fileFailure(error)));
  }
}
