import type { Readable } from "node:stream";

/** A destination: named objects below the export's folder. Paths are relative, with `/`; nothing outside the folder can
 *  be reached, since contained.ts checks each path before a store sees it. Implemented by azure.ts (block blobs) and
 *  directory.ts (files of a volume). Every call may fail with a FailureError: TargetUnauthorized and InvalidContainer
 *  are terminal, TargetUnreachable is waiting. */
export interface Store {
  /** Makes the container or the directory where that is allowed. */
  prepare(): Promise<void>;
  /** A small object, whole, with the tag that `replace` wants. */
  read(path: string): Promise<StoredObject | undefined>;
  /** Writes a new object (`If-None-Match: *`).
   *  @returns its tag; undefined when other bytes have that name already */
  create(path: string, bytes: Uint8Array, contentType?: string): Promise<string | undefined>;
  /** Writes over an object (`If-Match`). It never makes one that is not there.
   *  @returns the new tag; undefined when the object was changed or removed since, unless it was by these very bytes:
   *  that was this call, whose answer was lost */
  replace(path: string, bytes: Uint8Array, tag: string): Promise<string | undefined>;
  /** Removes an object; no error when there is none. There is no removal under a condition: who may remove what follows
   *  from its name alone (docs/internals/storage-protocol.md). */
  remove(path: string): Promise<void>;
  /** How many bytes an object has; undefined when there is none of that name. */
  size(path: string): Promise<number | undefined>;
  /** Every object below `prefix`, or an error; "" is all. What is made or removed while the list is read may be in it
   *  or not, and changes nothing for the others. */
  list(prefix: string): AsyncIterable<ListedObject>;
  /** Whatever below `prefix` was begun and is no object yet, or an error: files of which only blocks are staged, and
   *  what a killed process has left of a small object. */
  unfinished(prefix: string): AsyncIterable<Unfinished>;
  /** Ends an upload, or what else `unfinished` lists: once requests that are under way have ended, it can become no
   *  object any more. No error when there is none, or when it is an object by now, which stays. */
  abandon(path: string, key: string): Promise<void>;
  /** Committed content from byte `start` on, at most `count` bytes; undefined when there is no such object. */
  stream(path: string, range?: { start: number; count?: number }): Promise<StoredStream | undefined>;
  /** Begins a file that is written block by block, or continues one. It is invisible until its commit.
   *  @param key of the upload that an earlier writer has begun; absent: a new one */
  upload(path: string, contentType: string, key?: string): Promise<Upload>;
  /** Bare blob URL or file URL, without any credential, for the manifest. */
  url(path: string): string;
  /** A URL with which anyone can read this one object for a while; undefined where the credentials of the target cannot
   *  make one. */
  signedURL?(path: string, seconds: number): Promise<string | undefined>;
  /** How long a request to storage may be under way, in seconds: after that time, nothing of it arrives any more. */
  readonly requestSeconds: number;
  close(): Promise<void>;
}

export interface StoredObject {
  bytes: Buffer;
  /** It stands for the bytes, not for who wrote them or when: equal bytes may have the same tag. An object whose owner
   *  matters holds its owner's nonce. */
  tag: string;
}
export interface ListedObject {
  path: string;
  /** stored bytes */
  size: number;
}
export interface Unfinished {
  /** the object that it would have become */
  path: string;
  /** tells it from others of the same path */
  key: string;
}
export interface StoredStream {
  body: Readable;
  /** bytes of the whole object, whatever range was asked for */
  size: number;
}

/** A block: what `stage` has answered, and how many bytes it has. */
export type StagedBlock = readonly [ref: string, bytes: number];

/** A file that is being written. Its name belongs to one upload, which is committed at most once: whoever knows the key
 *  can continue and commit it. */
export interface Upload {
  readonly key: string;
  /** Resolves when the block is durable.
   *  @param number of the block, from 1; all blocks of a file but its last have one size
   *  @param nonce of the writer, so that the blocks of different writers never mix
   *  @returns by what the commit knows the block */
  stage(number: number, nonce: string, bytes: Uint8Array): Promise<string>;
  /** Whether all these blocks are staged and not committed. Azure drops uncommitted blocks a week after the last one
   *  was staged. */
  holds(blocks: readonly StagedBlock[]): Promise<boolean>;
  /** Makes the blocks the content of the file, unless there is one already. What stands there afterwards decides.
   *  @returns "committed", also when the same blocks were committed before; "gone" when that can never be done any
   *  more: the blocks are gone, or something else has the name */
  commit(blocks: readonly StagedBlock[]): Promise<"committed" | "gone">;
}
