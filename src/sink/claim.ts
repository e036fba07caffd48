/** A writer's claim to its shard: the shard's checkpoint, which only the writer that wrote it last can replace.
 *
 *  Claim
 *  1. The writer creates the checkpoint, if there is none; then the shard is its own.
 *  2. Or there is a checkpoint. The writer reads it with its tag, and claims the shard with its first `write`, which
 *     the writer before it notices at its own next write.
 *  3. Behind the first checkpoint of its own, the writer looks for the plan and the manifest. Without a plan the export
 *     was removed, with a manifest it is complete: a writer that stood still until then takes its checkpoint back and
 *     stops.
 *
 *  Lose. A claim is lost when the checkpoint has another tag at a `write`: a successor has replaced it, a purge has
 *  fenced it, or it is gone because the export has ended. A writer may have been frozen for any time before it notices,
 *  so it must expect that everything has changed.
 *
 *  What a writer that lost its claim deletes
 *  1. The segments that it made since its last checkpoint. Their names hold its nonce, so nobody else makes them, and
 *     nobody else can have read of them.
 *  2. When the shard is over, the uncommitted blocks of its open file. Otherwise they stay, since its successor may
 *     continue with them.
 *
 *  No writer removes or overwrites a file of the output, not even one of its own shard: the seal removes what its
 *  manifest does not name. */
import type { Checkpoint } from "../contracts.ts";
import { type FailureError, terminal, transient } from "../failure.ts";
import { readCheckpoint } from "./checkpoint.ts";
import { checkpointPath, manifestPath, planPath } from "./layout.ts";
import type { Store } from "./store.ts";

/** A file with uncommitted blocks. */
export interface Begun {
  name: string;
  /** of the upload */
  key: string;
}

export async function abandonAll(store: Store, begun: readonly Begun[]): Promise<void> {
  for (const { name, key } of begun) await store.abandon(name, key);
}

export class ShardClaim {
  readonly #store: Store;
  readonly #uid: string;
  readonly #shard: string;
  readonly #path: string;
  #tag = "";
  /** segments that no checkpoint of this writer names yet */
  #made: string[] = [];
  #checked = false;

  constructor(store: Store, uid: string, shard: string) {
    this.#store = store;
    this.#uid = uid;
    this.#shard = shard;
    this.#path = checkpointPath(shard);
  }

  /** Claims a new shard with its first checkpoint, or finds the checkpoint of an earlier writer.
   *  @returns that of the earlier writer, which keeps its claim until this one's next `write`; undefined for a new
   *  shard
   *  @throws terminal Fenced, ForeignOutput, TaskVersion; transient Internal when the shard is done */
  async take(first: Buffer): Promise<Checkpoint | undefined> {
    const tag = await this.#store.create(this.#path, first);
    if (tag !== undefined) {
      this.#tag = tag;
      await this.#checkExport();
      return undefined;
    }
    const found = await this.#store.read(this.#path);
    if (!found)
      throw transient(
        "Internal",
        `the checkpoint of shard ${this.#shard} was removed as soon as it was made; another writer is at work`,
      );
    this.#tag = found.tag;
    const checkpoint = readCheckpoint(found.bytes, this.#identity);
    if (checkpoint.ended) throw this.#finished();
    return checkpoint;
  }

  /** Replaces the checkpoint.
   *  @param open the files that have uncommitted blocks
   *  @throws when the claim is lost, after this writer's objects are deleted */
  async write(checkpoint: Buffer, open: readonly Begun[]): Promise<void> {
    const tag = await this.#store.replace(this.#path, checkpoint, this.#tag);
    if (tag === undefined) throw await this.#loseClaim(open);
    this.#tag = tag;
    this.#made = [];
    if (!this.#checked) await this.#checkExport();
  }

  /** The writer stops before the shard has ended. Its successor continues, unless somebody else has the shard by now:
   *  then this writer's objects are deleted. @param open as of `write` */
  async leave(open: readonly Begun[]): Promise<void> {
    const found = await this.#store.read(this.#path);
    if (found?.tag !== this.#tag) await this.#loseClaim(open).catch(() => {});
  }

  /** Writes a segment. @param path has the writer's nonce in it */
  async put(path: string, bytes: Uint8Array): Promise<void> {
    if ((await this.#store.create(path, bytes, "application/octet-stream")) === undefined)
      throw transient("Internal", `another writer of shard ${this.#shard} has the same nonce`);
    this.#made.push(path);
  }

  /** Nothing may be made without a plan, which a purge removes, or beside a manifest, which a seal writes last. */
  async #checkExport(): Promise<void> {
    const [plan, manifest] = await Promise.all([planPath, manifestPath].map((path) => this.#store.size(path)));
    this.#checked = true;
    if (plan !== undefined && manifest === undefined) return;
    await this.#store.remove(this.#path);
    throw manifest === undefined
      ? terminal("Fenced", "the export was cancelled, and its output is removed")
      : this.#finished();
  }

  async #loseClaim(open: readonly Begun[]): Promise<FailureError> {
    const found = await this.#store.read(this.#path);
    const checkpoint = found && (JSON.parse(found.bytes.toString()) as Checkpoint);
    const named = new Set([...(checkpoint?.fingerprints ?? []), ...(checkpoint?.tail ?? []).map(([path]) => path)]);
    for (const path of this.#made) if (!named.has(path)) await this.#store.remove(path);
    if (!checkpoint || checkpoint.fenced || checkpoint.ended) await abandonAll(this.#store, open);
    if (!checkpoint)
      return transient("Internal", `shard ${this.#shard} was ended or removed while its writer stood still`);
    readCheckpoint(found.bytes, this.#identity);
    return checkpoint.ended
      ? this.#finished()
      : transient("Internal", `another writer has taken shard ${this.#shard} over`);
  }

  #finished(): FailureError {
    return transient("Internal", `shard ${this.#shard} was finished by another writer`);
  }

  get #identity() {
    return { uid: this.#uid, shard: { id: this.#shard } };
  }
}
