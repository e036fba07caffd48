import { randomBytes } from "node:crypto";
import { closeSync, openSync, readSync, unlinkSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { transient } from "../failure.ts";

/** The most bytes of all scratch files of one worker: the `sizeLimit` of its volume for temporary files (kube/job.ts).
 *  That is 268 million fingerprints. */
export const scratchBytes = 4 * 2 ** 30;

let used = 0;

/** A file on the pod's disk, for what does not fit into memory. It has no name from its first moment on, so nothing is
 *  left of it when the process ends, however that happens. Reads and writes are synchronous: the loop that they serve
 *  is so, and most of them end in the memory of the operating system, which it takes back when it needs it. */
export class ScratchFile {
  readonly #file: number;
  #size = 0;

  /** @throws transient Internal where there is no folder that can be written to */
  constructor() {
    const path = join(tmpdir(), `fhir-export-${randomBytes(8).toString("hex")}`);
    this.#file = orTold(() => openSync(path, "wx+", 0o600));
    unlinkSync(path);
  }

  /** Adds bytes at the end. @returns where they begin */
  append(bytes: Uint8Array): number {
    if (used + bytes.length > scratchBytes)
      throw transient(
        "Internal",
        `a worker needs more than ${scratchBytes / 2 ** 30} GiB of temporary files; cut the largest type by spec.typeFilters, for example by a date`,
      );
    const from = this.#size;
    for (let at = 0; at < bytes.length; ) {
      const written = orTold(() => writeSync(this.#file, bytes, at, bytes.length - at, from + at));
      at += written;
      this.#size += written;
      used += written;
    }
    return from;
  }

  /** Reads `into.length` bytes that were written from `from` on. */
  read(from: number, into: Uint8Array): void {
    for (let at = 0; at < into.length; ) {
      const read = orTold(() => readSync(this.#file, into, at, into.length - at, from + at));
      if (read === 0) throw transient("Internal", "a temporary file of the worker is shorter than it was");
      at += read;
    }
  }

  /** Must be called once. */
  close(): void {
    used -= this.#size;
    this.#size = 0;
    closeSync(this.#file);
  }
}

/** @throws transient Internal where the disk is full, or cannot be written to */
function orTold<T>(act: () => T): T {
  try {
    return act();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw transient(
      "Internal",
      `the worker cannot use its temporary folder (${code}); give the node more disk, or set TMPDIR where it runs without Kubernetes`,
      error,
    );
  }
}
