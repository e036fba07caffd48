import type { Checkpoint } from "../contracts.ts";
import { type FailureError, terminal, transient } from "../failure.ts";
import { readCheckpoint } from "./checkpoint.ts";
import { checkpointPath, dataPrefix, errorPath, manifestPath, planPath, resultPath } from "./layout.ts";
import type { Store } from "./store.ts";

/** An object as it was: by its tag it is not taken for another of the same name. */
interface Tagged {
  path: string;
  etag: string;
}

/** A writer's hold on its shard: the checkpoint, which is replaced only by who wrote it last. Where the hold is lost, to another writer, to the fence of a
 *  purge, or because all is over, the writer takes back what it has made since and stops: it may have been frozen for any time (DESIGN section 6). */
export class Claim {
  readonly #store: Store;
  readonly #uid: string;
  readonly #shard: string;
  readonly #path: string;
  #etag = "";
  /** what no checkpoint of this writer stands behind yet */
  #made: Tagged[] = [];

  constructor(store: Store, uid: string, shard: string) {
    this.#store = store;
    this.#uid = uid;
    this.#shard = shard;
    this.#path = checkpointPath(shard);
  }

  /** Begins the shard with a checkpoint, or finds one. @returns that of an earlier writer, whose hold lasts until the next `write`
   *  @throws terminal Fenced, ForeignOutput, TaskVersion */
  async take(first: Buffer): Promise<Checkpoint | undefined> {
    const etag = await this.#store.create(this.#path, first);
    if (etag !== undefined) {
      this.#etag = etag;
      await this.#checkExport([]);
      return undefined;
    }
    const found = await this.#store.read(this.#path);
    if (!found)
      throw transient("Internal", `the checkpoint of shard ${this.#shard} came and went; another writer is at work`);
    this.#etag = found.etag;
    return readCheckpoint(found.bytes, this.#of);
  }

  /** @param open name of the file that blocks are staged for */
  async write(checkpoint: Buffer, open: string | undefined): Promise<void> {
    const etag = await this.#store.replace(this.#path, checkpoint, this.#etag);
    if (etag === undefined) throw await this.#lost(open);
    this.#etag = etag;
    this.#made = [];
  }

  /** The shard's committed files that are not in `known`. A commit names its file in the checkpoint first, so these are of a writer that was killed or
   *  overtaken while it began again. Look for them before `write`, and remove them behind it: what another writer makes from then on has other tags. */
  async strays(known: ReadonlySet<string>): Promise<Tagged[]> {
    const found: Tagged[] = [];
    for (const prefix of [dataPrefix(this.#shard), errorPath(this.#shard)])
      for await (const file of this.#store.list(prefix)) if (!known.has(file.path)) found.push(file);
    return found;
  }

  async remove(strays: readonly Tagged[]): Promise<void> {
    // a result names them: another writer has ended the shard between the last checkpoint and this one
    if (strays.length > 0) await this.#checkExport([resultPath(this.#shard)]);
    for (const { path, etag } of strays) await this.#store.remove(path, etag);
  }

  /** Writes an object, instead of one that another writer may have left and may take back. */
  async put(path: string, bytes: Uint8Array, contentType?: string): Promise<void> {
    for (let tries = 0; tries < 5; tries++) {
      const etag = await this.#store.create(path, bytes, contentType);
      if (etag !== undefined) {
        this.#made.push({ path, etag });
        return;
      }
      const there = await this.#store.read(path);
      if (there) await this.#store.remove(path, there.etag);
    }
    throw transient("Internal", `another writer of shard ${this.#shard} is at work`);
  }

  /** Behind the last `put`: whether it was this writer's to make. */
  async confirm(): Promise<void> {
    const found = await this.#store.read(this.#path);
    if (found?.etag !== this.#etag) throw await this.#lost(undefined);
  }

  /** After a purge there is no plan, after a seal there is a manifest: nothing may be made then. */
  async #checkExport(never: string[]): Promise<void> {
    const [planned, ...over] = await Promise.all([planPath, manifestPath, ...never].map((path) => this.#has(path)));
    if (planned && !over.includes(true)) return;
    await this.#store.remove(this.#path, this.#etag);
    throw over.includes(true)
      ? transient("Internal", `shard ${this.#shard} was ended by another writer`)
      : terminal("Fenced", "the export was cancelled, and its output is removed");
  }

  async #has(path: string): Promise<boolean> {
    const found = await this.#store.stream(path, { start: 0, count: 1 });
    found?.body.destroy();
    return found !== undefined;
  }

  async #lost(open: string | undefined): Promise<FailureError> {
    const found = await this.#store.read(this.#path);
    for (const { path, etag } of this.#made) await this.#store.remove(path, etag);
    const isOver = !found || (JSON.parse(found.bytes.toString()) as Checkpoint).fenced;
    // else it may be the successor's, too
    if (isOver && open !== undefined) await this.#store.discard(open);
    if (!found) return transient("Internal", `shard ${this.#shard} was ended or removed while its writer stood still`);
    readCheckpoint(found.bytes, this.#of);
    return transient("Internal", `another writer has taken shard ${this.#shard} over`);
  }

  get #of() {
    return { uid: this.#uid, shard: { id: this.#shard } };
  }
}
