import type { Readable } from "node:stream";

/** A destination: named blobs below the export's folder. Paths are relative, with `/`; nothing outside the folder is reachable.
 *  Implemented by azure.ts (block blobs) and directory.ts. Every call fails with a FailureError: TargetUnauthorized and InvalidContainer are
 *  terminal, TargetUnreachable is waiting. */
export interface Store {
  /** makes the container or directory where that is allowed and proves that it can be written */
  prepare(): Promise<void>;
  /** a small object, whole, with the tag that `replace` wants */
  read(path: string): Promise<{ bytes: Buffer; etag: string } | undefined>;
  /** `If-None-Match: *`; undefined when there is one already */
  create(path: string, bytes: Uint8Array, contentType?: string): Promise<string | undefined>;
  /** `If-Match`; undefined when it was changed (or removed) since */
  replace(path: string, bytes: Uint8Array, etag: string): Promise<string | undefined>;
  /** no error when it is not there; removes uncommitted blocks too. @param etag only what still has it: of `create`, `replace`, `read` for a small object,
   *  of `list`, `stream` for a large one; blocks stay */
  remove(path: string, etag?: string): Promise<void>;
  /** Removes the blocks of a blob, whoever staged them, unless something is committed there. */
  discard(path: string): Promise<void>;
  /** every blob below `prefix` ("" = all); `uncommitted`: also blobs (or part files) that were never committed, with size 0 */
  list(
    prefix: string,
    options?: { uncommitted?: boolean },
  ): AsyncIterable<{ path: string; size: number; etag: string }>;
  /** committed content from `start` on, at most `count` bytes; undefined when there is none */
  stream(
    path: string,
    range?: { start: number; count?: number },
  ): Promise<{ body: Readable; size: number; etag: string } | undefined>;
  /** a large object written block by block; it is invisible until commit */
  blocks(path: string, contentType: string): BlockWriter;
  /** bare blob URL or file URL, without any credential, for the manifest */
  url(path: string): string;
  /** a URL that reads this one for a while and needs no other credential; undefined where none can be made */
  signedURL?(path: string, seconds: number): Promise<string | undefined>;
  close(): Promise<void>;
}

export interface BlockWriter {
  /** resolves when the block is durable. Ids of one blob have equal length and are `{nonce of the writer}-{…}`. */
  stage(id: string, bytes: Uint8Array): Promise<void>;
  /** whether all these are staged and not committed; Azure drops uncommitted blocks a week after the last one */
  holds(blocks: readonly (readonly [id: string, bytes: number])[]): Promise<boolean>;
  /** `If-None-Match: *`: "committed", also when the same list was committed before; "other" when another list stands there */
  commit(blocks: readonly (readonly [id: string, bytes: number])[]): Promise<"committed" | "other">;
}
