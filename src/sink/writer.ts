import type { Checkpoint, FilePart, ShardResult } from "../contracts.ts";
import { sha256Of } from "../digest.ts";
import { Claim } from "./claim.ts";
import { commitClosed, OutputFile } from "./file.ts";
import { ShownResources } from "./fingerprints.ts";
import { contentType, dataPath, errorPath, resultPath } from "./layout.ts";
import { LineBuffer, type Lines } from "./lines.ts";
import type { Slabs } from "./slabs.ts";
import type { Store } from "./store.ts";

export interface ShardWriterOptions {
  store: Store;
  slabs: Slabs;
  uid: string;
  /** `expected` resources, as far as that is known */
  shard: { id: string; type: string; expected?: number };
  gzip: boolean;
  /** uncompressed bytes */
  maxFileBytes: number;
  blockBytes: number;
  /** Azure takes 50,000 a blob */
  maxBlocks?: number;
  /** 8 hex digits, new at each call: block ids of different writers never meet */
  nonce: () => string;
  /** monotonic milliseconds */
  now: () => number;
}

/** A kill repeats at most this much work, plus one page (DESIGN section 13). */
const shardCheckpointMs = 2000;
/** early cuts stay below 40,000, so that there is room for those at full blocks */
export const maxEarlyBlocks = 40_000;
const maxErrorLines = 100;

/** The place in the source up to which everything is durable. */
interface Position {
  page: string | undefined;
  taken: number;
  search: number;
  ids: number;
  errors: number;
  errorLines: number;
  open: FilePart | undefined;
}

/** Turns the resources of one shard into committed files, and keeps the checkpoint that lets a successor go on (DESIGN section 6).
 *  For each entry of a page, in order: `show` and then `lines` or `pass`; or `skip`, `foreign` or `error`. What `lines` answers must be awaited before the next call. */
export class ShardWriter {
  /** where to go on: the URL of the page that is being read, of which of the shard's searches it is, and how many of its resources are dealt with */
  get position(): { page: string | undefined; taken: number; search: number } {
    return { page: this.#page, taken: this.#taken, search: this.#search };
  }
  /** distinct resources that were shown so far, those that could not be had included */
  get seen(): number {
    return this.#prints.count + this.#errors;
  }
  get errors(): number {
    return this.#errors;
  }
  /** Whether a resource was dealt with already, by this writer or the one before it. */
  has(fingerprint: string): boolean {
    return this.#prints.has(fingerprint);
  }
  /** what is durable, for the progress report */
  get durable(): { files: number; resources: number; bytes: number; errors: number; checkpointAt: string | undefined } {
    const { open, errors } = this.#at;
    return {
      files: this.#done.length,
      resources: this.#closed.lines + (open?.lines ?? 0),
      bytes: this.#closed.bytes + (open?.bytes ?? 0),
      errors,
      checkpointAt: this.#checkpointAt,
    };
  }

  readonly #options: ShardWriterOptions;
  readonly #claim: Claim;
  #nonce: string;
  #done: FilePart[] = [];
  /** sums of #done */
  #closed = { lines: 0, bytes: 0 };
  #file: OutputFile | undefined;
  #at: Position;
  #page: string | undefined;
  #taken = 0;
  #search = 0;
  #foreign = false;
  readonly #prints: ShownResources;
  /** shown, but not yet a line or passed over */
  #ahead = 0;
  #errors = 0;
  #errorLines: string[] = [];
  readonly #buffer: LineBuffer;
  #staging: Promise<void> = Promise.resolve();
  #stagedAt: number;
  #checkpointedAt: number;
  #checkpointAt: string | undefined;
  /** the position stays at the page where it is: what is read now is not the way to go on from there */
  #detour = false;

  private constructor(options: ShardWriterOptions) {
    this.#options = options;
    this.#claim = new Claim(options.store, options.uid, options.shard.id);
    this.#prints = new ShownResources(options.store, options.shard.id, options.shard.expected);
    this.#nonce = options.nonce();
    this.#buffer = new LineBuffer(options.slabs, options.blockBytes, options.gzip, (bytes) =>
      this.#file?.content(bytes),
    );
    this.#stagedAt = this.#checkpointedAt = options.now();
    this.#at = this.#snapshot();
  }

  /** Takes the shard over: from its start, or from the checkpoint of an earlier writer, which notices at its next write.
   *  @throws terminal Fenced, ForeignOutput */
  static async open(options: ShardWriterOptions): Promise<ShardWriter> {
    const writer = new ShardWriter(options);
    const checkpoint = await writer.#claim.take(writer.#render());
    if (!checkpoint) return writer;
    await writer.#restore(checkpoint);
    const strays = await writer.#claim.strays(new Set(checkpoint.done.map(({ name }) => name)));
    await writer.#write();
    await writer.#claim.remove(strays);
    await writer.#resume(checkpoint);
    return writer;
  }

  /** The pages from here on are of this search of the shard. */
  beginSearch(index: number): void {
    if (!this.#detour) this.#search = index;
  }

  /** A page begins; `taken` of it are dealt with already. */
  begin(page: string): void {
    if (page !== this.#page) this.#taken = 0;
    if (!this.#detour) this.#page = page;
  }

  /** A resource of the shard is there. @param at of its fingerprint's first word
   *  @returns false when it was shown before; then `skip` it */
  show(words: Uint32Array, at: number): boolean {
    if (!this.#prints.add(words, at)) return false;
    this.#ahead++;
    return true;
  }

  /** Likewise of `count` resources, one after the other, up to the first that was shown before. @returns how many were not */
  showRun(words: Uint32Array, at: number, count: number): number {
    const shown = this.#prints.addRun(words, at, count);
    this.#ahead += shown;
    return shown;
  }

  /** The resources `from` to `to` - 1 become lines. @returns what must be awaited before anything else, if anything */
  lines(lines: Lines, from: number, to: number): Promise<void> | undefined {
    const at = this.#fill(lines, from, to);
    return at === to && !this.#isDue ? undefined : this.#drain(lines, at, to);
  }

  /** The resource is not for the output. */
  pass(): void {
    this.#taken++;
    this.#ahead--;
  }

  /** The entry is no data, or was had before. */
  skip(): void {
    this.#taken++;
  }

  /** The resource is another shard's, or nobody knows whose. */
  foreign(): void {
    this.#taken++;
    this.#foreign = true;
  }

  /** The entry cannot be had: an OperationOutcome line instead, without a line end. @param resources how many it stands for */
  error(outcome: string, resources = 1): void {
    this.#taken++;
    // a window is read again after a kill, and fails again
    if (this.#detour && this.#errorLines.includes(outcome)) return;
    this.#errors += resources;
    if (this.#errorLines.length < maxErrorLines) this.#errorLines.push(outcome);
  }

  /** The page is at its end; `next` is the URL of the one behind it, if any. */
  async pageDone(next: string | undefined): Promise<void> {
    // behind the last page the position stays at its end: no page at all would mean the shard's start
    if (next !== undefined && !this.#detour) [this.#page, this.#taken] = [next, 0];
    const { waiting } = this.#buffer;
    if (waiting === 0) {
      await this.#staging;
      this.#at = this.#snapshot();
    } else if (
      this.#options.now() - this.#stagedAt >= shardCheckpointMs &&
      waiting >= this.#options.maxFileBytes / maxEarlyBlocks
    )
      await this.#stage();
    if (next !== undefined) await this.#checkpointIfDue();
  }

  /** The shard is read from its start once more; what is known is passed over by `show`. */
  rewind(): void {
    this.#page = undefined;
    this.#taken = this.#search = 0;
  }

  /** From now on parts of the shard are read in another order than its pages: a successor begins at the shard's start, knowing what was shown. */
  leaveThePages(): void {
    this.rewind();
    this.#detour = true;
  }

  /** Commits what is open and writes the shard's result, once. @param doubts ShardResult.doubts */
  async finish(doubts: string[] = []): Promise<ShardResult> {
    const { uid, shard } = this.#options;
    await this.#closeFile();
    this.#buffer.close();
    this.#at = this.#snapshot();
    await this.#storePrints();
    const result: ShardResult = {
      v: 1,
      uid,
      shard: shard.id,
      type: shard.type,
      files: this.#done,
      errorFiles: await this.#writeErrors(),
      resources: this.#closed.lines,
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

  /** Throws away what was written and begins at the shard's start, e.g. when the source does not know the next link any more. */
  async restart(): Promise<void> {
    await this.#staging.catch(() => {});
    this.#staging = Promise.resolve();
    const files = await this.#claim.strays(new Set());
    this.#done = [];
    this.#closed = { lines: 0, bytes: 0 };
    this.#file = undefined;
    this.#nonce = this.#options.nonce();
    this.#page = undefined;
    this.#detour = false;
    this.#prints.clear();
    this.#foreign = false;
    this.#taken = this.#search = this.#errors = this.#ahead = 0;
    this.#errorLines = [];
    this.#buffer.close();
    this.#at = this.#snapshot();
    await this.#write();
    await this.#claim.remove(files);
  }

  /** Gives back the memory it holds. Needed once, whatever happened; what was not finished is for a successor. */
  close(): void {
    this.#buffer.close();
    this.#prints.close();
  }

  /** Takes what fits; @returns behind the last */
  #fill(lines: Lines, from: number, to: number): number {
    const file = (this.#file ??= this.#newFile());
    const { part } = file;
    const at = this.#buffer.add(
      lines,
      from,
      to,
      this.#options.maxFileBytes - part.contentBytes,
      part.contentBytes === 0,
    );
    this.#count(at - from, this.#buffer.added);
    return at;
  }

  #count(lines: number, bytes: number): void {
    const { part } = this.#file!;
    part.lines += lines;
    part.contentBytes += bytes;
    this.#taken += lines;
    this.#ahead -= lines;
  }

  get #isDue(): boolean {
    return this.#buffer.full || this.#options.gzip;
  }

  async #drain(lines: Lines, at: number, to: number): Promise<void> {
    for (let pending = at < to; ; pending = at < to) {
      const stop = pending ? this.#buffer.stop : undefined;
      if (stop === "limit") await this.#closeFile();
      else if (stop === "large") await this.#large(lines, at++);
      else if (stop === "slab") {
        // that of the block before comes back
        await this.#staging;
        await this.#options.slabs.free();
      } else {
        this.#buffer.compress(stop !== undefined);
        if (stop === "block" || this.#buffer.full) {
          await this.#stage();
          await this.#checkpointIfDue();
        }
      }
      if (at === to) return;
      at = this.#fill(lines, at, to);
      if (at === to && !this.#isDue) return;
    }
  }

  /** A line of more than a slab goes into storage by itself. */
  async #large(lines: Lines, index: number): Promise<void> {
    const room = lines.room(index, index + 1);
    const { part } = this.#file!;
    if (part.contentBytes > 0 && part.contentBytes + room > this.#options.maxFileBytes) {
      await this.#closeFile();
      this.#file = this.#newFile();
    }
    const { block, length } = this.#buffer.large(lines, index);
    this.#count(1, length);
    await this.#send(block.stored, block.release);
  }

  #newFile(): OutputFile {
    const { store, shard, gzip } = this.#options;
    return new OutputFile(store, gzip, dataPath(shard.id, this.#done.length + 1, gzip));
  }

  async #stage(): Promise<void> {
    const block = this.#file && this.#buffer.take();
    if (block) await this.#send(block.stored, block.release);
  }

  /** Sends a block; the block before it must have arrived, so the next page is read while this one travels.
   *  @param last nothing comes behind it: no successor may go on there */
  async #send(stored: readonly Uint8Array[], release: () => void, last = false): Promise<void> {
    const file = this.#file!;
    this.#stagedAt = this.#options.now();
    const at = this.#snapshot();
    try {
      await this.#staging;
    } catch (error) {
      release();
      throw error;
    }
    const { part } = file;
    this.#staging = file
      .stage(this.#nonce, this.#done.length + 1, stored)
      .then(() => {
        if (!last) this.#at = { ...at, open: { ...at.open!, bytes: part.bytes, blocks: part.blocks.slice() } };
      })
      .finally(release);
    // reported at the next await; without this it would count as unhandled until then
    this.#staging.catch(() => {});
    // the trailer of gzip may be one more
    if (!last && file.blocks >= (this.#options.maxBlocks ?? 50_000) - file.trailer.length) await this.#closeFile();
  }

  async #closeFile(): Promise<void> {
    const file = this.#file;
    const block = file && this.#buffer.take();
    if (file && (block || file.part.lines > 0)) {
      const end = [...(block?.stored ?? []), ...file.trailer];
      if (end.length > 0) await this.#send(end, block?.release ?? (() => {}), true);
    }
    await this.#staging;
    this.#file = undefined;
    if (!file || file.part.lines === 0) return;
    const part = file.close();
    this.#done.push(part);
    this.#closed.lines += part.lines;
    this.#closed.bytes += part.bytes;
    this.#at = this.#snapshot();
    await this.#write();
    await file.commit(part);
  }

  async #writeErrors(): Promise<FilePart[]> {
    if (this.#errorLines.length === 0) return [];
    const bytes = Buffer.from(this.#errorLines.map((line) => `${line}\n`).join(""));
    const name = errorPath(this.#options.shard.id);
    await this.#claim.put(name, bytes, contentType);
    return [
      {
        name,
        lines: this.#errorLines.length,
        bytes: bytes.length,
        sha256: sha256Of(bytes),
      },
    ];
  }

  #snapshot(): Position {
    const part = this.#file?.part;
    return {
      page: this.#page,
      taken: this.#taken,
      search: this.#search,
      ids: this.#prints.count - this.#ahead,
      errors: this.#errors,
      errorLines: this.#errorLines.length,
      open: part && { ...part, blocks: part.blocks.slice() },
    };
  }

  async #checkpointIfDue(): Promise<void> {
    if (this.#options.now() - this.#checkpointedAt < shardCheckpointMs) return;
    await this.#staging;
    await this.#write();
  }

  async #write(): Promise<void> {
    // before the checkpoint that names them
    await this.#storePrints();
    const open = this.#file?.part ?? this.#done.find(({ blocks }) => blocks);
    await this.#claim.write(this.#render(), open?.name);
    this.#checkpointedAt = this.#options.now();
    this.#checkpointAt = new Date().toISOString();
  }

  #storePrints(): Promise<void> {
    return this.#prints.store(this.#at.ids, this.#nonce, (...object) => this.#claim.put(...object));
  }

  #render(): Buffer {
    const { uid, shard } = this.#options;
    const { page, taken, search, errors, errorLines, open } = this.#at;
    const checkpoint: Checkpoint = {
      v: 1,
      uid,
      shard: shard.id,
      writer: this.#nonce,
      ...(page !== undefined && { next: page, taken, ...(search > 0 && { search }) }),
      done: this.#done,
      ...(open && open.blocks!.length > 0 && { open }),
      fingerprints: [...this.#prints.segments],
      errors,
      ...(this.#foreign && { foreign: true }),
      ...(errorLines > 0 && { errorLines: this.#errorLines.slice(0, errorLines) }),
    };
    return Buffer.from(JSON.stringify(checkpoint));
  }

  async #restore({
    next,
    taken = 0,
    search = 0,
    done,
    open,
    fingerprints,
    errors,
    foreign,
    errorLines = [],
  }: Checkpoint): Promise<void> {
    await this.#prints.restore(fingerprints);
    this.#done = done;
    for (const { lines, bytes } of done) {
      this.#closed.lines += lines;
      this.#closed.bytes += bytes;
    }
    this.#page = next;
    this.#taken = taken;
    this.#search = search;
    this.#foreign = foreign ?? false;
    this.#errors = errors;
    this.#errorLines = [...errorLines];
    this.#at = { page: next, taken, search, ids: this.#prints.count, errors, errorLines: errorLines.length, open };
  }

  /** After a takeover: makes sure that what the checkpoint names is there, else begins again. */
  async #resume({ done, open }: Checkpoint): Promise<void> {
    const { store, gzip } = this.#options;
    for (const part of done) if (part.blocks && !(await commitClosed(store, gzip, part))) return this.restart();
    if (!open) return;
    this.#file = new OutputFile(store, gzip, open.name, open);
    if (!(await this.#file.holds())) await this.restart();
  }
}
