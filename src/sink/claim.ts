/** A writer's claim to its shard: the shard's checkpoint, which only the writer that wrote it last can replace.
 *
 *  Claim
 *  1. The writer creates the checkpoint (`If-None-Match: *`); then the shard is its own. It then looks for the plan and
 *     the manifest: without a plan the export was removed, with a manifest it is complete, and in both cases the writer
 *     takes its checkpoint back and stops.
 *  2. Or there is a checkpoint. The writer reads it with its tag, and claims the shard with its first `write`
 *     (`If-Match`), which the writer before it notices at its own next write.
 *
 *  Lose. A claim is lost when the checkpoint has another tag at a `write` or `confirm`: a successor has replaced it, a
 *  purge has fenced it, or it is gone because the export has ended. A writer may have been frozen for any time before
 *  it notices, so it must expect that everything has changed.
 *
 *  What a writer that lost its claim deletes
 *  1. The objects that it made since its last checkpoint (segments of fingerprints, the error file, the result), each
 *     only if it still has the tag it was made with: an object of the same name that another writer made stays.
 *  2. After a purge or the export's end, the uncommitted blocks of its open file. Otherwise they stay, since its
 *     successor may continue with them.
 *
 *  What a writer that has a claim deletes: files of its shard that no checkpoint names (`strays`, `remove`), left by a
 *  writer that was killed or overtaken while it began the shard again. */
import type { Checkpoint } from "../contracts.ts";
import { type FailureError, terminal, transient } from "../failure.ts";
import { readCheckpoint } from "./checkpoint.ts";
import { checkpointPath, dataPrefix, errorPath, manifestPath, planPath, resultPath } from "./layout.ts";
import type { Store } from "./store.ts";

/** An object with its tag, which a later object of the same name does not have. */
interface Tagged {
  path: string;
  etag: string;
}

export class ShardClaim {
  readonly #store: Store;
  readonly #uid: string;
  readonly #shard: string;
  readonly #path: string;
  #etag = "";
  /** objects that no checkpoint of this writer names yet */
  #made: Tagged[] = [];

  constructor(store: Store, uid: string, shard: string) {
    this.#store = store;
    this.#uid = uid;
    this.#shard = shard;
    this.#path = checkpointPath(shard);
  }

  /** Claims a new shard with its first checkpoint, or finds the checkpoint of an earlier writer.
   *  @returns that of the earlier writer, which keeps its claim until this one's next `write`; undefined for a new
   *  shard
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
      throw transient(
        "Internal",
        `the checkpoint of shard ${this.#shard} was removed as soon as it was made; another writer is at work`,
      );
    this.#etag = found.etag;
    return readCheckpoint(found.bytes, this.#identity);
  }

  /** Replaces the checkpoint.
   *  @param open name of the file that has uncommitted blocks, if any
   *  @throws when the claim is lost, after this writer's objects are deleted */
  async write(checkpoint: Buffer, open: string | undefined): Promise<void> {
    const etag = await this.#store.replace(this.#path, checkpoint, this.#etag);
    if (etag === undefined) throw await this.#loseClaim(open);
    this.#etag = etag;
    this.#made = [];
  }

  /** The shard's committed files that are not in `known`. A checkpoint names each file before its commit, so these were
   *  left by a writer that was killed or overtaken while it began the shard again. List them before a `write`, and
   *  remove them after it: what another writer makes from then on has other tags. */
  async strays(known: ReadonlySet<string>): Promise<Tagged[]> {
    const found: Tagged[] = [];
    for (const prefix of [dataPrefix(this.#shard), errorPath(this.#shard)])
      for await (const file of this.#store.list(prefix)) if (!known.has(file.path)) found.push(file);
    return found;
  }

  /** Removes what `strays` has listed. */
  async remove(strays: readonly Tagged[]): Promise<void> {
    // Where there is a result, it names them: another writer has finished the shard between its last checkpoint and
    // this one.
    if (strays.length > 0) await this.#checkExport([resultPath(this.#shard)]);
    for (const { path, etag } of strays) await this.#store.remove(path, etag);
  }

  /** Writes an object. One of the same name is removed first: an earlier writer left it, and may still delete it. */
  async put(path: string, bytes: Uint8Array, contentType?: string): Promise<void> {
    for (let tries = 0; tries < 5; tries++) {
      const etag = await this.#store.create(path, bytes, contentType);
      if (etag !== undefined) {
        this.#made.push({ path, etag });
        return;
      }
      const found = await this.#store.read(path);
      if (found) await this.#store.remove(path, found.etag);
    }
    throw transient("Internal", `another writer of shard ${this.#shard} is at work`);
  }

  /** Makes sure, after the last `put`, that the shard was this writer's. @throws as `write` */
  async confirm(): Promise<void> {
    const found = await this.#store.read(this.#path);
    if (found?.etag !== this.#etag) throw await this.#loseClaim(undefined);
  }

  /** Nothing may be made without a plan, which a purge removes, or beside a manifest, which a seal writes last.
   *  @param others paths that must not exist either */
  async #checkExport(others: string[]): Promise<void> {
    const [isPlanned, ...ends] = await Promise.all([planPath, manifestPath, ...others].map((path) => this.#has(path)));
    if (isPlanned && !ends.includes(true)) return;
    await this.#store.remove(this.#path, this.#etag);
    throw ends.includes(true)
      ? transient("Internal", `shard ${this.#shard} was finished by another writer`)
      : terminal("Fenced", "the export was cancelled, and its output is removed");
  }

  async #has(path: string): Promise<boolean> {
    const found = await this.#store.stream(path, { start: 0, count: 1 });
    found?.body.destroy();
    return found !== undefined;
  }

  async #loseClaim(open: string | undefined): Promise<FailureError> {
    const found = await this.#store.read(this.#path);
    for (const { path, etag } of this.#made) await this.#store.remove(path, etag);
    const isOver = !found || (JSON.parse(found.bytes.toString()) as Checkpoint).fenced;
    if (isOver && open !== undefined) await this.#store.discard(open);
    if (!found) return transient("Internal", `shard ${this.#shard} was ended or removed while its writer stood still`);
    readCheckpoint(found.bytes, this.#identity);
    return transient("Internal", `another writer has taken shard ${this.#shard} over`);
  }

  get #identity() {
    return { uid: this.#uid, shard: { id: this.#shard } };
  }
}
