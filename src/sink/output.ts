import type { Checkpoint, FilePart } from "../contracts.ts";
import type { Clock } from "../surroundings.ts";
import type { Begun } from "./claim.ts";
import { commitClosed, OutputFile } from "./file.ts";
import { dataPath, tailPath } from "./layout.ts";
import { LineBuffer, type LineBufferOptions, type Lines } from "./lines.ts";
import type { Store } from "./store.ts";

export interface ShardOutputOptions extends LineBufferOptions {
  store: Store;
  shard: { id: string };
  clock: Pick<Clock, "now" | "monotonic">;
}

/** What the files of a shard need of the shard's writer, which keeps the checkpoint. */
interface CheckpointKeeper {
  /** 8 hex digits that begin the id of each block of this writer */
  nonce(): string;
  /** `count` lines more are in the output. */
  tookLines(count: number): void;
  /** Writes an object of the shard with the writer's nonce in its name. */
  put(path: string, bytes: Uint8Array): Promise<void>;
  /** Writes a checkpoint now. */
  checkpoint(): Promise<unknown>;
  /** Writes a checkpoint if the last one is old enough. */
  checkpointIfDue(): Promise<void>;
}

/** The files of one shard. Lines gather in a slab until they are a block. A block is staged while the next page is
 *  read, one at a time. What waits for its block is stored beside the files when a checkpoint is written, as the file's
 *  tail: so the checkpoint holds all lines up to its place, wherever blocks end. A file that has reached its size is
 *  closed: its last block is staged, a checkpoint names its blocks, and only then is it committed. So a writer that is
 *  killed at any moment leaves nothing that its successor does not know of. */
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
  /** what follows the last block of the open file, in segments that are stored */
  #tail: [path: string, bytes: number][] = [];
  /** how many segments this writer has stored */
  #segments = 0;
  /** segments of this writer that the next checkpoint does not name any more */
  #staleTail: string[] = [];

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
  /** The file that is being written, when all blocks that were sent have arrived. */
  get open(): FilePart | undefined {
    const part = this.#file?.part;
    return part && { ...part, blocks: part.blocks.slice() };
  }
  /** Segments with what follows the blocks of the open file. `storeTail` has made it complete. */
  get tail(): [path: string, bytes: number][] {
    return this.#tail.slice();
  }
  /** The number of the last file that a checkpoint has named, the one included that is being made. It counts on when
   *  files are forgotten, so that no name is used twice. */
  get named(): number {
    const isNamed = this.#file === undefined || this.#file.part.lines > 0;
    return Math.max(this.#named, isNamed ? this.#sequence : this.#sequence - 1);
  }
  /** the files that may have blocks but no commit */
  get uncommitted(): Begun[] {
    const closed = this.#done.filter(({ blocks }) => blocks);
    const all: FilePart[] = [...closed, ...(this.#file ? [this.#file.part] : [])];
    return all.flatMap(({ name, key }) => (key === undefined ? [] : [{ name, key }]));
  }
  get stagedAt(): number {
    return this.#stagedAt;
  }

  /** The resources `from` to `to` - 1 become lines.
   *  @returns what must be awaited before anything else, if anything */
  lines(lines: Lines, from: number, to: number): Promise<void> | undefined {
    const at = this.#fill(lines, from, to);
    return at === to && !this.#buffer.full ? undefined : this.#drain(lines, at, to);
  }

  /** Resolves when the block that was sent has arrived. */
  arrived(): Promise<void> {
    return this.#staging;
  }

  /** Makes all lines so far durable: waits for the block that travels, and stores what waits for the next one, as far
   *  as that is new. */
  async settle(): Promise<void> {
    await this.#staging;
    if (!this.#file) return;
    const bytes = this.#buffer.newTail();
    if (bytes.length === 0) return;
    const path = tailPath(this.#options.shard.id, this.#keeper.nonce(), ++this.#segments);
    await this.#keeper.put(path, bytes);
    this.#tail.push([path, bytes.length]);
  }

  /** Segments of this writer that no checkpoint names any more; each is given once. */
  takeStale(): string[] {
    return this.#staleTail.splice(0);
  }

  /** Closes the file that is open, and commits it. */
  async closeFile(): Promise<void> {
    const file = this.#file;
    if (file && file.part.lines > 0) {
      this.#buffer.flush();
      this.#buffer.frame(file.trailer);
      while (await this.#sendBlock(true));
    }
    await this.#staging;
    this.#file = undefined;
    if (!file) return;
    if (file.part.lines === 0) {
      this.#sequence--;
      this.#buffer.close();
      return;
    }
    const part = file.close();
    this.#add(part);
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
  async resume({ open, tail = [] }: Pick<Checkpoint, "open" | "tail">): Promise<boolean> {
    const { store, gzip } = this.#options;
    for (const part of this.#done) if (part.blocks && !(await commitClosed(store, gzip, part))) return false;
    if (!open) return true;
    this.#file = new OutputFile(store, gzip, open.name, open);
    const segments = await Promise.all(tail.map(([path]) => store.read(path)));
    if (segments.includes(undefined) || !(await this.#file.holds())) return false;
    this.#buffer.restore(Buffer.concat(segments.map((segment) => segment!.bytes)));
    this.#tail = [...tail];
    return true;
  }

  /** Forgets all files, when the block that travels has arrived or failed. */
  async abandon(): Promise<void> {
    await this.#staging.catch(() => {});
    this.#staging = Promise.resolve();
    this.#done = [];
    this.#closed = { lines: 0, bytes: 0 };
    this.#file = undefined;
    this.#tail = [];
    this.#staleTail = [];
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

  /** Makes room for the lines `at` to `to` - 1 until all are taken: sends blocks and closes files as they fill up. */
  async #drain(lines: Lines, at: number, to: number): Promise<void> {
    for (;;) {
      const stoppedBy = at < to ? this.#buffer.stoppedBy : undefined;
      if (this.#buffer.full) {
        await this.#sendBlock(false);
        await this.#keeper.checkpointIfDue();
      } else if (stoppedBy === "limit") await this.closeFile();
      else if (stoppedBy === "slab") {
        // the block that travels gives its slab back when it has arrived
        await this.#staging;
        await this.#options.slabs.free();
      }
      if (at === to && !this.#buffer.full) return;
      if (at < to) at = this.#fill(lines, at, to);
    }
  }

  #newFile(): OutputFile {
    const { store, shard, gzip } = this.#options;
    const file = new OutputFile(store, gzip, dataPath(shard.id, ++this.#sequence, gzip));
    this.#buffer.frame(file.header);
    return file;
  }

  /** Sends a block when the one before it has arrived; the next page is read while this one travels.
   *  @param all also what is no full block yet: the file's last
   *  @returns false when there is none */
  async #sendBlock(all: boolean): Promise<boolean> {
    const block = this.#buffer.takeBlock(all);
    if (!block) return false;
    const { stored, release } = block;
    const file = this.#file!;
    // What follows the block is not stored yet.
    const own = `tail-${this.#keeper.nonce()}-`;
    this.#staleTail.push(...this.#tail.map(([path]) => path).filter((path) => path.includes(own)));
    this.#tail = [];
    this.#stagedAt = this.#options.clock.monotonic();
    try {
      await this.#staging;
    } catch (error) {
      release();
      throw error;
    }
    this.#staging = file.stage(this.#keeper.nonce(), stored).finally(release);
    // A failure is thrown where #staging is awaited next. Until then it would count as an unhandled rejection.
    this.#staging.catch(() => {});
    return true;
  }
}
