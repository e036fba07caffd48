import type { FilePart } from "../contracts.ts";
import type { Clock } from "../surroundings.ts";
import type { Position } from "./checkpoint.ts";
import { commitClosed, OutputFile } from "./file.ts";
import { dataPath } from "./layout.ts";
import { LineBuffer, type LineBufferOptions, type Lines } from "./lines.ts";
import type { Store } from "./store.ts";

export interface ShardOutputOptions extends LineBufferOptions {
  store: Store;
  shard: { id: string };
  /** Azure takes 50,000 blocks a blob, which is the default */
  maxBlocks?: number;
  clock: Pick<Clock, "now" | "monotonic">;
}

/** What the files of a shard need of the shard's writer, which keeps the checkpoint. */
interface CheckpointKeeper {
  /** 8 hex digits that begin the id of each block of this writer */
  nonce(): string;
  /** `count` lines more are in the output, but not durable yet. */
  tookLines(count: number): void;
  /** The place behind the last line that the output took. */
  position(): Position;
  /** Everything before `position` is durable. */
  reached(position: Position): void;
  /** Writes a checkpoint now. */
  checkpoint(): Promise<unknown>;
  /** Writes a checkpoint if the last one is old enough. */
  checkpointIfDue(): Promise<void>;
}

/** The files of one shard. Lines gather in a slab until they are a block. A block is staged while the next page is
 *  read, one at a time; what it holds is durable when it has arrived. A file that has reached its size is closed: its
 *  last block is staged, a checkpoint names its blocks, and only then is it committed. So a writer that is killed at
 *  any moment leaves nothing that its successor does not know of. */
export class ShardOutput {
  readonly #options: ShardOutputOptions;
  readonly #keeper: CheckpointKeeper;
  readonly #buffer: LineBuffer;
  #done: FilePart[] = [];
  /** number of the last file that was begun, and of the last one that a checkpoint has named */
  #sequence = 0;
  #named = 0;
  /** sums of #done */
  #closed = { lines: 0, bytes: 0 };
  #file: OutputFile | undefined;
  /** the block that travels */
  #staging: Promise<void> = Promise.resolve();
  #stagedAt: number;

  /** @param openedAt the time by `clock.monotonic`, as if a block had been staged then */
  constructor(options: ShardOutputOptions, keeper: CheckpointKeeper, openedAt: number) {
    this.#options = options;
    this.#keeper = keeper;
    this.#stagedAt = openedAt;
    this.#buffer = new LineBuffer(options, (bytes) => this.#file?.content(bytes));
  }

  /** files that are closed; those that still have `blocks` may not be committed yet */
  get done(): FilePart[] {
    return this.#done;
  }
  get closed(): { readonly lines: number; readonly bytes: number } {
    return this.#closed;
  }
  /** the file that is being written, with the blocks that have arrived */
  get open(): FilePart | undefined {
    const part = this.#file?.part;
    return part && { ...part, blocks: part.blocks.slice() };
  }
  /** The number of the last file that a checkpoint has named, the one included that is being made. It counts on when
   *  files are forgotten, so that no name is used twice. */
  get named(): number {
    const isNamed = this.#file === undefined || this.#file.part.blocks.length > 0;
    return Math.max(this.#named, isNamed ? this.#sequence : this.#sequence - 1);
  }
  /** names of the files that may have blocks but no commit */
  get uncommitted(): string[] {
    const closed = this.#done.filter(({ blocks }) => blocks);
    return [...closed, ...(this.#file ? [this.#file.part] : [])].map(({ name }) => name);
  }
  /** bytes that wait to be sent as a block */
  get waiting(): number {
    return this.#buffer.waiting;
  }
  get stagedAt(): number {
    return this.#stagedAt;
  }

  /** The resources `from` to `to` - 1 become lines.
   *  @returns what must be awaited before anything else, if anything */
  lines(lines: Lines, from: number, to: number): Promise<void> | undefined {
    const at = this.#fill(lines, from, to);
    return at === to && !this.#mayBeDue ? undefined : this.#drain(lines, at, to);
  }

  /** Resolves when every block that was sent has arrived. */
  arrived(): Promise<void> {
    return this.#staging;
  }

  /** Sends what waits as a block, however small. */
  async stage(): Promise<void> {
    const block = this.#file && this.#buffer.takeBlock();
    if (block) await this.#send(block.stored, block.release);
  }

  /** Closes the file that is open, and commits it. */
  async closeFile(): Promise<void> {
    const file = this.#file;
    const block = file && this.#buffer.takeBlock();
    if (file && (block || file.part.lines > 0)) {
      const end = [...(block?.stored ?? []), ...file.trailer];
      if (end.length > 0) await this.#send(end, block?.release ?? (() => {}), true);
    }
    await this.#staging;
    this.#file = undefined;
    if (!file) return;
    if (file.part.lines === 0) {
      this.#sequence--;
      return;
    }
    const part = file.close();
    this.#add(part);
    this.#keeper.reached(this.#keeper.position());
    await this.#keeper.checkpoint();
    await file.commit(part);
  }

  /** Takes over the closed files of an earlier writer. */
  restore(done: FilePart[], sequence: number): void {
    this.#sequence = this.#named = sequence;
    for (const part of done) this.#add(part);
  }

  /** Makes sure that everything exists that an earlier writer's checkpoint names: commits its closed files, continues
   *  the open one.
   *  @returns false when blocks are gone, so that the shard must begin again */
  async resume(open: FilePart | undefined): Promise<boolean> {
    const { store, gzip } = this.#options;
    for (const part of this.#done) if (part.blocks && !(await commitClosed(store, gzip, part))) return false;
    if (!open) return true;
    this.#file = new OutputFile(store, gzip, open.name, open);
    return this.#file.holds();
  }

  /** Forgets all files, when the block that travels has arrived or failed. */
  async abandon(): Promise<void> {
    await this.#staging.catch(() => {});
    this.#staging = Promise.resolve();
    this.#done = [];
    this.#closed = { lines: 0, bytes: 0 };
    this.#file = undefined;
    // It may have blocks that no checkpoint names.
    this.#named = this.#sequence;
    this.#buffer.close();
  }

  /** Gives the slab back. */
  close(): void {
    this.#buffer.close();
  }

  #add(part: FilePart): void {
    this.#done.push(part);
    this.#closed.lines += part.lines;
    this.#closed.bytes += part.bytes;
  }

  /** Takes the lines that fit. @returns the index behind the last one */
  #fill(lines: Lines, from: number, to: number): number {
    const file = (this.#file ??= this.#newFile());
    const at = this.#buffer.takeLines(lines, from, to, file.part.contentBytes);
    this.#count(at - from, this.#buffer.added);
    return at;
  }

  #count(lines: number, bytes: number): void {
    const { part } = this.#file!;
    part.lines += lines;
    part.contentBytes += bytes;
    this.#keeper.tookLines(lines);
  }

  /** There is a block to send, or with gzip perhaps a segment to compress. */
  get #mayBeDue(): boolean {
    return this.#buffer.full || this.#options.gzip;
  }

  /** Makes room for the lines `at` to `to` - 1 until all are taken: compresses, sends blocks and closes files as they
   *  fill up. */
  async #drain(lines: Lines, at: number, to: number): Promise<void> {
    for (let pending = at < to; ; pending = at < to) {
      const stoppedBy = pending ? this.#buffer.stoppedBy : undefined;
      if (stoppedBy === "limit") await this.closeFile();
      else if (stoppedBy === "large") await this.#sendLargeLine(lines, at++);
      else if (stoppedBy === "slab") {
        // the block that travels gives its slab back when it has arrived
        await this.#staging;
        await this.#options.slabs.free();
      } else {
        this.#buffer.compress(stoppedBy !== undefined);
        if (stoppedBy === "block" || this.#buffer.full) {
          await this.stage();
          await this.#keeper.checkpointIfDue();
        }
      }
      if (at === to) return;
      at = this.#fill(lines, at, to);
      if (at === to && !this.#mayBeDue) return;
    }
  }

  /** Sends a line that is larger than a slab as a block of its own. */
  async #sendLargeLine(lines: Lines, index: number): Promise<void> {
    const room = lines.room(index, index + 1);
    const { part } = this.#file!;
    if (part.contentBytes > 0 && part.contentBytes + room > this.#options.maxFileBytes) {
      await this.closeFile();
      this.#file = this.#newFile();
    }
    const { block, length } = this.#buffer.takeLargeLine(lines, index);
    this.#count(1, length);
    await this.#send(block.stored, block.release);
  }

  #newFile(): OutputFile {
    const { store, shard, gzip } = this.#options;
    return new OutputFile(store, gzip, dataPath(shard.id, ++this.#sequence, gzip));
  }

  /** Sends a block when the one before it has arrived; the next page is read while this one travels.
   *  @param last nothing comes behind it in the file, so no successor may continue the file there */
  async #send(stored: readonly Uint8Array[], release: () => void, last = false): Promise<void> {
    const file = this.#file!;
    this.#stagedAt = this.#options.clock.monotonic();
    const at = this.#keeper.position();
    try {
      await this.#staging;
    } catch (error) {
      release();
      throw error;
    }
    const { part } = file;
    this.#staging = file
      .stage(this.#keeper.nonce(), this.#sequence, stored)
      .then(() => {
        if (!last)
          this.#keeper.reached({ ...at, open: { ...at.open!, bytes: part.bytes, blocks: part.blocks.slice() } });
      })
      .finally(release);
    // A failure is thrown where #staging is awaited next. Until then it would count as an unhandled rejection.
    this.#staging.catch(() => {});
    // the trailer of gzip may need a block of its own
    if (!last && file.blocks >= (this.#options.maxBlocks ?? 50_000) - file.trailer.length) await this.closeFile();
  }
}
