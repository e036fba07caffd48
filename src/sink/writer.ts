/** Writes the files of one shard, so that its writer may be killed at any moment and another one continues.
 *
 *  1. Open. The writer creates the shard's checkpoint; then the shard is new, and it begins at its first page. Or it
 *     finds the checkpoint of an earlier writer, and takes the shard over (see below).
 *  2. Claim. The checkpoint can be replaced only by the writer that wrote it last. A writer whose checkpoint was
 *     replaced has lost the shard: it deletes what it made since its last checkpoint, and stops (claim.ts).
 *  3. Write lines. For each entry of a page, in order, the caller says what it is: `show` and then `lines` or `pass`
 *     for a resource that was not shown before; else `foreign` or `error`. Lines gather until they are a block, which
 *     is staged while the next page is read (output.ts).
 *  4. Checkpoint. At most every 2 s the writer stores the new fingerprints, and then a checkpoint that names them, the
 *     closed files, the blocks of the open file, and the page that was being read when all of that was durable.
 *  5. Commit. A file that has reached its size is closed. A checkpoint names its blocks first; then they are committed,
 *     which makes the file visible.
 *  6. Finish. The last file is closed, and a last checkpoint says that the shard has ended: it is the shard's result.
 *     A writer that has lost the shard cannot write it, and so changes nothing.
 *
 *  The successor of a writer that was killed
 *  1. restores what the checkpoint says;
 *  2. replaces the checkpoint, so that an earlier writer that still runs loses the shard at its next write;
 *  3. commits closed files whose commit did not happen, and continues the open file behind its last block. Where blocks
 *     are gone, because Azure drops them after a week, it begins the shard again, with files of other names;
 *  4. reads on at the page that the checkpoint names. By the fingerprints it knows what of that page is in the blocks,
 *     whatever order the source gives it now. What the earlier writer wrote behind that is written once more, into
 *     other blocks. */
import type { Checkpoint, ShardEnding, ShardResult } from "../contracts.ts";
import type { SearchEvidence } from "../evidence.ts";
import { type Position, resultOf } from "./checkpoint.ts";
import { abandonAll, ShardClaim } from "./claim.ts";
import { ShownResources } from "./fingerprints.ts";
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
/** A blob takes 50,000 blocks. The rest is for what gzip adds to content that cannot be compressed. */
export const maxBlocks = 40_000;
const maxErrorLines = 100;

/** Turns the resources of one shard into committed files. What `lines` returns must be awaited before the next call. */
export class ShardWriter {
  readonly #options: ShardWriterOptions;
  readonly #claim: ShardClaim;
  readonly #prints: ShownResources;
  readonly #output: ShardOutput;
  #nonce: string;
  /** where the writer is: the page, and which of the shard's searches it is of */
  #page: string | undefined;
  #search = 0;
  /** of the shard's searches, as it was when the page began */
  #evidence: readonly SearchEvidence[] = [];
  /** While parts of the shard are read in another order than its pages, the place does not move. */
  #detour = false;
  /** resources that were shown, but are not a line yet and not passed over */
  #ahead = 0;
  #foreign = false;
  #errors = 0;
  #left = 0;
  #errorLines: string[] = [];
  /** What lies before the page of the errors that were met since the shard's start. A successor meets the others
   *  again. */
  #settled = { from: { errors: 0, lines: 0 }, to: { errors: 0, lines: 0 } };
  #ending: ShardEnding | undefined;
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
          this.#ahead -= count;
        },
        put: (...object) => this.#claim.put(...object),
        checkpoint: () => this.#settle(),
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
    const checkpoint = await writer.#claim.take(render(writer.#checkpoint()));
    if (!checkpoint) return writer;
    await writer.#restore(checkpoint);
    await writer.#writeCheckpoint();
    if (!(await writer.#output.resume(checkpoint))) await writer.restart();
    return writer;
  }

  /** Where to continue: the URL of the page that is being read, and which search of the shard it is of. */
  get position(): { page: string | undefined; search: number } {
    return { page: this.#page, search: this.#search };
  }
  /** How many different resources the source has shown so far, with those that could not be read. */
  get seen(): number {
    return this.#prints.count + this.#errors;
  }
  /** How many different resources the source has shown so far. */
  get shown(): number {
    return this.#prints.count;
  }
  /** What is known of the shard's searches, in their order, up to the page that the position names. */
  get evidence(): readonly SearchEvidence[] {
    return this.#evidence;
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

  /** A page begins. When it is the page that the position names, some of it may have been shown before. */
  begin(page: string): void {
    if (!this.#detour && page !== this.#page) this.#moveTo(page);
  }

  /** The source shows a resource of the shard.
   *  @param at index of the first of its fingerprint's four words
   *  @returns false when it was shown before */
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

  /** The resource that was shown last is not for the output. */
  pass(): void {
    this.#prints.pass();
    this.#ahead--;
  }

  /** The resource that was shown last may be for the output, which nobody can tell: it is left out, and told. */
  leave(): void {
    this.pass();
    this.#left++;
  }

  /** The resource belongs to another shard, or only its server knows where it belongs. */
  foreign(): void {
    this.#foreign = true;
  }

  /** The entry cannot be read: an OperationOutcome is written instead.
   *  @param outcome its line, without a line end
   *  @param resources how many resources the entry is in place of */
  error(outcome: string, resources = 1): void {
    // A window is read once more after a kill, and fails once more. What stands for no resource is said once.
    if ((this.#detour || resources === 0) && this.#errorLines.includes(outcome)) return;
    this.#errors += resources;
    if (this.#errorLines.length < maxErrorLines) this.#errorLines.push(outcome);
  }

  /** Something that the user should know of resources that are written all the same. It is said once. */
  notice(outcome: string): void {
    if (this.#errorLines.length < maxErrorLines && !this.#errorLines.includes(outcome)) this.#errorLines.push(outcome);
  }

  /** The page ends.
   *  @param next URL of the page behind it, if there is one
   *  @param evidence what is known of the search by now */
  async pageDone(next: string | undefined, evidence: SearchEvidence): Promise<void> {
    // Behind the last page the place stays at that page, until `endSearch`.
    if (next === undefined) return;
    if (!this.#detour) {
      this.#moveTo(next);
      this.#note(this.#search, evidence);
    }
    // Where blocks close often, a checkpoint at the end of a block is cheaper: less waits for the next one.
    const since = Math.max(this.#checkpointedAt, this.#output.stagedAt);
    if (this.#options.clock.monotonic() - since >= shardCheckpointMs) await this.#settle();
  }

  /** The search with this index ends. The place is then the first page of the next one. */
  endSearch(index: number, evidence: SearchEvidence): void {
    if (this.#detour) return;
    this.#note(index, evidence);
    this.#moveTo(undefined);
    this.#search = index + 1;
  }

  #note(index: number, evidence: SearchEvidence): void {
    this.#evidence = [...this.#evidence.slice(0, index), evidence, ...this.#evidence.slice(index + 1)];
  }

  /** The shard is read from its start once more; `show` then answers false for resources that were shown before. */
  rewind(): void {
    this.#page = undefined;
    this.#search = 0;
    this.#evidence = [];
    this.#settled.from = this.#settled.to = this.#metErrors;
  }

  /** From now on parts of the shard are read in another order than its pages. A successor reads the shard from its
   *  start, and knows what was shown. */
  leaveThePages(): void {
    this.rewind();
    this.#detour = true;
  }

  /** Commits the open file and writes the shard's last checkpoint, which is its result; the last call but `close`. */
  async finish(known: Omit<ShardEnding, "type" | "seen">): Promise<ShardResult> {
    await this.#output.closeFile();
    this.#output.close();
    this.#ending = { type: this.#options.shard.type, seen: this.seen, ...known };
    return resultOf(await this.#settle())!;
  }

  /** Forgets what was written, and begins at the shard's start, e.g. when the source does not know a next link any
   *  more. The files that are committed stay until the seal, and the new ones get other names. */
  async restart(): Promise<void> {
    const begun = this.#output.uncommitted;
    await this.#output.abandon();
    this.#nonce = this.#options.nonce();
    this.#prints.clear();
    this.#foreign = this.#detour = false;
    this.#errors = this.#left = this.#ahead = 0;
    this.#errorLines = [];
    this.rewind();
    this.#durable = this.#position();
    await this.#writeCheckpoint();
    await abandonAll(this.#options.store, begun);
  }

  /** Call it when the shard cannot be read to its end. A writer that stood still may have made objects since the shard
   *  ended without it, and they must not stay. */
  async giveUp(): Promise<void> {
    await this.#output.arrived().catch(() => {});
    await this.#claim.leave(this.#output.uncommitted);
  }

  /** Gives back the memory that the writer holds. It must be called once, whatever happened; a successor continues what
   *  was not finished. */
  close(): void {
    this.#output.close();
    this.#prints.close();
  }

  /** The place is at the start of this page now; undefined: of the first page of a search. */
  #moveTo(page: string | undefined): void {
    this.#page = page;
    this.#settled.to = this.#metErrors;
  }

  get #metErrors() {
    return { errors: this.#errors, lines: this.#errorLines.length };
  }

  #position(): Position {
    // In the end there is nothing that a successor would meet again.
    const { from, to } = this.#ending ? { from: { errors: 0, lines: 0 }, to: this.#metErrors } : this.#settled;
    return {
      page: this.#page,
      search: this.#search,
      // A successor begins the shard at its start then.
      evidence: this.#detour ? [] : this.#evidence,
      prints: this.#prints.count - this.#ahead,
      errors: to.errors - from.errors,
      errorLines: this.#errorLines.slice(from.lines, to.lines),
      left: this.#left,
      open: this.#output.open,
      tail: this.#output.tail,
    };
  }

  async #checkpointIfDue(): Promise<void> {
    if (this.#options.clock.monotonic() - this.#checkpointedAt >= shardCheckpointMs) await this.#settle();
  }

  /** Makes everything durable up to where the writer is, and writes a checkpoint that says so. */
  async #settle(): Promise<Checkpoint> {
    await this.#output.settle();
    this.#durable = this.#position();
    const checkpoint = await this.#writeCheckpoint();
    for (const path of this.#output.takeStale()) await this.#options.store.remove(path);
    return checkpoint;
  }

  async #writeCheckpoint(): Promise<Checkpoint> {
    // before the checkpoint that names them
    await this.#storePrints();
    const checkpoint = this.#checkpoint();
    await this.#claim.write(render(checkpoint), this.#output.uncommitted);
    this.#checkpointedAt = this.#options.clock.monotonic();
    this.#checkpointAt = new Date(this.#options.clock.now()).toISOString();
    return checkpoint;
  }

  #storePrints(): Promise<void> {
    return this.#prints.store(this.#durable.prints, this.#nonce, (...object) => this.#claim.put(...object));
  }

  #checkpoint(): Checkpoint {
    const { uid, shard } = this.#options;
    const { page, search, evidence, errors, left, errorLines, open, tail } = this.#durable;
    return {
      v: 2,
      uid,
      shard: shard.id,
      writer: this.#nonce,
      ...(page !== undefined && !this.#ending && { next: page }),
      ...(search > 0 && !this.#ending && { search }),
      ...(evidence.length > 0 && !this.#ending && { evidence: [...evidence] }),
      sequence: this.#output.named,
      done: this.#output.done,
      ...(open && open.lines > 0 && { open, ...(tail.length > 0 && { tail }) }),
      fingerprints: [...this.#prints.segments],
      errors,
      ...(this.#foreign && { foreign: true }),
      ...(left > 0 && { left }),
      ...(errorLines.length > 0 && { errorLines: [...errorLines] }),
      ...(this.#ending && { ended: this.#ending }),
    };
  }

  async #restore(checkpoint: Checkpoint): Promise<void> {
    const { next, search = 0, evidence = [], done, open, tail = [], fingerprints } = checkpoint;
    const { errors, left = 0, foreign, errorLines = [], sequence } = checkpoint;
    await this.#prints.restore(fingerprints);
    this.#output.restore(done, sequence);
    this.#page = next;
    this.#search = search;
    this.#evidence = evidence;
    this.#foreign = foreign ?? false;
    this.#errors = errors;
    this.#left = left;
    this.#errorLines = [...errorLines];
    this.#settled.to = this.#metErrors;
    // #position() would not name the open file, which is continued only when this writer has claimed the shard
    this.#durable = { ...this.#position(), open, tail };
  }
}

const render = (checkpoint: Checkpoint) => Buffer.from(JSON.stringify(checkpoint));
