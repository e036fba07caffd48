/** Writes the files of one shard, so that its writer may be killed at any moment and another one continues.
 *
 *  1. Open. The writer creates the shard's checkpoint; then the shard is new, and it begins at its first page. Or it
 *     finds the checkpoint of an earlier writer, and takes the shard over (see below).
 *  2. Claim. The checkpoint can be replaced only by the writer that wrote it last. A writer whose checkpoint was
 *     replaced has lost the shard: it deletes what it made since its last checkpoint, and stops (claim.ts).
 *  3. Write lines. For each entry of a page, in order, the caller says what it is: `show` and then `lines` or `pass`
 *     for a resource; else `skip`, `foreign` or `error`. Lines gather until they are a block, which is staged while the
 *     next page is read (output.ts).
 *  4. Checkpoint. At most every 2 s the writer stores the new fingerprints, and then a checkpoint that names them, the
 *     closed files, the blocks of the open file, and the place in the source up to which all of that is durable.
 *  5. Commit. A file that has reached its size is closed. A checkpoint names its blocks first; then they are committed,
 *     which makes the file visible.
 *  6. Finish. The last file is closed, the errors become a file, and the shard's result is written. The writer then
 *     reads its checkpoint once more, to be sure that the shard was still its own.
 *
 *  The successor of a writer that was killed
 *  1. restores what the checkpoint says, and lists the files that the checkpoint does not name: a writer that was
 *     killed while it began the shard again has left them;
 *  2. replaces the checkpoint, so that an earlier writer that still runs loses the shard at its next write;
 *  3. removes the files that it has listed;
 *  4. commits closed files whose commit did not happen, and continues the open file behind its last block. Where blocks
 *     are gone, because Azure drops them after a week, it removes all files and begins the shard again;
 *  5. reads on at the page and the entry that the checkpoint names. What the earlier writer wrote behind that place is
 *     written once more, into other blocks. */
import type { Checkpoint, FilePart, ShardResult } from "../contracts.ts";
import { sha256Of } from "../digest.ts";
import type { Position } from "./checkpoint.ts";
import { ShardClaim } from "./claim.ts";
import { ShownResources } from "./fingerprints.ts";
import { contentType, errorPath, resultPath } from "./layout.ts";
import type { Lines } from "./lines.ts";
import { ShardOutput, type ShardOutputOptions } from "./output.ts";

export interface ShardWriterOptions extends ShardOutputOptions {
  uid: string;
  /** `expected`: how many resources it has, as far as that is known */
  shard: { id: string; type: string; expected?: number };
  /** 8 hex digits, new at each call: the block ids of different writers never meet */
  nonce: () => string;
}

/** A kill repeats at most this much work, plus one page. */
const shardCheckpointMs = 2000;
/** Blocks that are staged before they are full stay below 40,000, so that 10,000 of the 50,000 that Azure takes remain
 *  for full ones. */
export const maxEarlyBlocks = 40_000;
const maxErrorLines = 100;

/** Turns the resources of one shard into committed files. What `lines` returns must be awaited before the next call. */
export class ShardWriter {
  readonly #options: ShardWriterOptions;
  readonly #claim: ShardClaim;
  readonly #prints: ShownResources;
  readonly #output: ShardOutput;
  #nonce: string;
  /** where the writer is: the page and how many of its entries are dealt with, and which of the shard's searches the
   *  page is of */
  #page: string | undefined;
  #taken = 0;
  #search = 0;
  /** While parts of the shard are read in another order than its pages, the place does not move. */
  #detour = false;
  /** resources that were shown, but are not a line yet and not passed over */
  #ahead = 0;
  #foreign = false;
  #errors = 0;
  #errorLines: string[] = [];
  /** the place up to which everything is durable */
  #durable: Position;
  #checkpointedAt: number;
  /** the same as an instant */
  #checkpointAt: string | undefined;

  private constructor(options: ShardWriterOptions) {
    this.#options = options;
    this.#claim = new ShardClaim(options.store, options.uid, options.shard.id);
    this.#prints = new ShownResources(options.store, options.shard.id, options.shard.expected);
    this.#nonce = options.nonce();
    this.#checkpointedAt = options.clock.monotonic();
    this.#output = new ShardOutput(
      options,
      {
        nonce: () => this.#nonce,
        tookLines: (count) => {
          this.#taken += count;
          this.#ahead -= count;
        },
        position: () => this.#position(),
        reached: (position) => {
          this.#durable = position;
        },
        checkpoint: () => this.#writeCheckpoint(),
        checkpointIfDue: () => this.#checkpointIfDue(),
      },
      this.#checkpointedAt,
    );
    this.#durable = this.#position();
  }

  /** Begins the shard, or takes it over from an earlier writer.
   *  @throws terminal Fenced, ForeignOutput, TaskVersion */
  static async open(options: ShardWriterOptions): Promise<ShardWriter> {
    const writer = new ShardWriter(options);
    const checkpoint = await writer.#claim.take(writer.#render());
    if (!checkpoint) return writer;
    await writer.#restore(checkpoint);
    const strays = await writer.#claim.strays(new Set(checkpoint.done.map(({ name }) => name)));
    await writer.#writeCheckpoint();
    await writer.#claim.remove(strays);
    if (!(await writer.#output.resume(checkpoint.open))) await writer.restart();
    return writer;
  }

  /** Where to continue: the URL of the page that is being read, how many of its entries are dealt with, and which
   *  search of the shard it is of. */
  get position(): { page: string | undefined; taken: number; search: number } {
    return { page: this.#page, taken: this.#taken, search: this.#search };
  }
  /** How many different resources the source has shown so far, with those that could not be read. */
  get seen(): number {
    return this.#prints.count + this.#errors;
  }
  get errors(): number {
    return this.#errors;
  }
  /** Whether a resource was shown already, to this writer or to the ones before it. */
  has(fingerprint: string): boolean {
    return this.#prints.has(fingerprint);
  }
  /** What is durable, for the progress report. */
  get durable(): { files: number; resources: number; bytes: number; errors: number; checkpointAt: string | undefined } {
    const { open, errors } = this.#durable;
    const { done, closed } = this.#output;
    return {
      files: done.length,
      resources: closed.lines + (open?.lines ?? 0),
      bytes: closed.bytes + (open?.bytes ?? 0),
      errors,
      checkpointAt: this.#checkpointAt,
    };
  }

  /** The pages from here on are of this search of the shard. */
  beginSearch(index: number): void {
    if (!this.#detour) this.#search = index;
  }

  /** A page begins. When it is the page that the position names, the first `position.taken` of its entries are dealt
   *  with already. */
  begin(page: string): void {
    if (page !== this.#page) this.#taken = 0;
    if (!this.#detour) this.#page = page;
  }

  /** The source shows a resource of the shard.
   *  @param at index of the first of its fingerprint's four words
   *  @returns false when it was shown before; then `skip` it */
  show(words: Uint32Array, at: number): boolean {
    if (!this.#prints.add(words, at)) return false;
    this.#ahead++;
    return true;
  }

  /** The source shows `count` resources, whose fingerprints lie one after the other.
   *  @returns how many of them are new, up to the first that was shown before */
  showRun(words: Uint32Array, at: number, count: number): number {
    const shown = this.#prints.addRun(words, at, count);
    this.#ahead += shown;
    return shown;
  }

  /** The resources `from` to `to` - 1 become lines. @returns what must be awaited before anything else, if anything */
  lines(lines: Lines, from: number, to: number): Promise<void> | undefined {
    return this.#output.lines(lines, from, to);
  }

  /** The resource that was shown is not for the output. */
  pass(): void {
    this.#taken++;
    this.#ahead--;
  }

  /** The entry is no resource of the shard, or was shown before. */
  skip(): void {
    this.#taken++;
  }

  /** The resource belongs to another shard, or only its server knows where it belongs. */
  foreign(): void {
    this.#taken++;
    this.#foreign = true;
  }

  /** The entry cannot be read: an OperationOutcome is written instead.
   *  @param outcome its line, without a line end
   *  @param resources how many resources the entry is in place of */
  error(outcome: string, resources = 1): void {
    this.#taken++;
    // a window is read once more after a kill, and fails once more
    if (this.#detour && this.#errorLines.includes(outcome)) return;
    this.#errors += resources;
    if (this.#errorLines.length < maxErrorLines) this.#errorLines.push(outcome);
  }

  /** The page ends. @param next URL of the page behind it, if there is one */
  async pageDone(next: string | undefined): Promise<void> {
    // Behind the last page the place stays at that page's end: no page at all would mean the shard's start.
    if (next !== undefined && !this.#detour) [this.#page, this.#taken] = [next, 0];
    const { waiting } = this.#output;
    if (waiting === 0) {
      await this.#output.arrived();
      this.#durable = this.#position();
    } else if (
      this.#options.clock.monotonic() - this.#output.stagedAt >= shardCheckpointMs &&
      waiting >= this.#options.maxFileBytes / maxEarlyBlocks
    )
      await this.#output.stage();
    if (next !== undefined) await this.#checkpointIfDue();
  }

  /** The shard is read from its start once more; `show` then answers false for resources that were shown before. */
  rewind(): void {
    this.#page = undefined;
    this.#taken = this.#search = 0;
  }

  /** From now on parts of the shard are read in another order than its pages. A successor reads the shard from its
   *  start, and knows what was shown. */
  leaveThePages(): void {
    this.rewind();
    this.#detour = true;
  }

  /** Commits the open file and writes the shard's result; the last call but `close`.
   *  @param doubts ShardResult.doubts */
  async finish(doubts: string[] = []): Promise<ShardResult> {
    const { uid, shard } = this.#options;
    await this.#output.closeFile();
    this.#output.close();
    this.#durable = this.#position();
    await this.#storePrints();
    const { done, closed } = this.#output;
    const result: ShardResult = {
      v: 1,
      uid,
      shard: shard.id,
      type: shard.type,
      files: done,
      errorFiles: await this.#writeErrors(),
      resources: closed.lines,
      errors: this.#errors,
      seen: this.seen,
      ...(this.#foreign && { foreign: true }),
      fingerprints: [...this.#prints.segments],
      ...(doubts.length > 0 && { doubts }),
    };
    await this.#claim.put(resultPath(shard.id), Buffer.from(JSON.stringify(result)));
    await this.#claim.confirm();
    return result;
  }

  /** Removes what was written, and begins at the shard's start, e.g. when the source does not know a next link any
   *  more. */
  async restart(): Promise<void> {
    await this.#output.abandon();
    const files = await this.#claim.strays(new Set());
    this.#nonce = this.#options.nonce();
    this.rewind();
    this.#detour = false;
    this.#prints.clear();
    this.#foreign = false;
    this.#errors = this.#ahead = 0;
    this.#errorLines = [];
    this.#durable = this.#position();
    await this.#writeCheckpoint();
    await this.#claim.remove(files);
  }

  /** Gives back the memory that the writer holds. It must be called once, whatever happened; a successor continues what
   *  was not finished. */
  close(): void {
    this.#output.close();
    this.#prints.close();
  }

  #position(): Position {
    return {
      page: this.#page,
      taken: this.#taken,
      search: this.#search,
      prints: this.#prints.count - this.#ahead,
      errors: this.#errors,
      errorLines: this.#errorLines.length,
      open: this.#output.open,
    };
  }

  async #checkpointIfDue(): Promise<void> {
    if (this.#options.clock.monotonic() - this.#checkpointedAt < shardCheckpointMs) return;
    await this.#output.arrived();
    await this.#writeCheckpoint();
  }

  async #writeCheckpoint(): Promise<void> {
    // before the checkpoint that names them
    await this.#storePrints();
    await this.#claim.write(this.#render(), this.#output.uncommittedName);
    this.#checkpointedAt = this.#options.clock.monotonic();
    this.#checkpointAt = new Date(this.#options.clock.now()).toISOString();
  }

  #storePrints(): Promise<void> {
    return this.#prints.store(this.#durable.prints, this.#nonce, (...object) => this.#claim.put(...object));
  }

  #render(): Buffer {
    const { uid, shard } = this.#options;
    const { page, taken, search, errors, errorLines, open } = this.#durable;
    const checkpoint: Checkpoint = {
      v: 1,
      uid,
      shard: shard.id,
      writer: this.#nonce,
      ...(page !== undefined && { next: page, taken, ...(search > 0 && { search }) }),
      done: this.#output.done,
      ...(open && open.blocks!.length > 0 && { open }),
      fingerprints: [...this.#prints.segments],
      errors,
      ...(this.#foreign && { foreign: true }),
      ...(errorLines > 0 && { errorLines: this.#errorLines.slice(0, errorLines) }),
    };
    return Buffer.from(JSON.stringify(checkpoint));
  }

  async #restore(checkpoint: Checkpoint): Promise<void> {
    const { next, taken = 0, search = 0, done, open, fingerprints, errors, foreign, errorLines = [] } = checkpoint;
    await this.#prints.restore(fingerprints);
    this.#output.restore(done);
    this.#page = next;
    this.#taken = taken;
    this.#search = search;
    this.#foreign = foreign ?? false;
    this.#errors = errors;
    this.#errorLines = [...errorLines];
    // #position() would not name the open file, which is continued only when this writer has claimed the shard
    this.#durable = { ...this.#position(), open };
  }

  async #writeErrors(): Promise<FilePart[]> {
    if (this.#errorLines.length === 0) return [];
    const bytes = Buffer.from(this.#errorLines.map((line) => `${line}\n`).join(""));
    const name = errorPath(this.#options.shard.id);
    await this.#claim.put(name, bytes, contentType);
    return [{ name, lines: this.#errorLines.length, bytes: bytes.length, sha256: sha256Of(bytes) }];
  }
}
