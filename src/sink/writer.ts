import { createHash, type Hash } from "node:crypto";
import { gzipSync } from "node:zlib";
import type { Checkpoint, FilePart, ShardResult } from "../contracts.ts";
import { transient } from "../failure.ts";
import type { Entry } from "../scan/page.ts";
import { copyResource } from "../scan/plain.ts";
import { readCheckpoint } from "./checkpoint.ts";
import { digestsOf } from "./digest.ts";
import { ShownResources } from "./fingerprints.ts";
import { checkpointPath, contentType, dataPath, errorPath, resultPath } from "./layout.ts";
import type { BlockWriter, Store } from "./store.ts";

export interface ShardWriterOptions {
  store: Store;
  uid: string;
  shard: { id: string; type: string };
  gzip: boolean;
  /** uncompressed bytes */
  maxFileBytes: number;
  blockBytes: number;
  /** 8 hex digits, new at each call: block ids of different writers never meet */
  nonce: () => string;
  /** monotonic milliseconds */
  now: () => number;
}

/** A kill repeats at most this much work, plus one page (DESIGN section 13). */
const checkpointMs = 2000;
/** Azure takes 50,000 blocks a blob; early cuts stay below 40,000 */
const maxEarlyBlocks = 40_000;
/** one gzip member, so that a reader and a resume can start at many places (DESIGN section 6) */
const memberBytes = 1 << 20;
const maxErrorLines = 100;

interface OpenFile {
  part: Required<Pick<FilePart, "name" | "lines" | "bytes" | "blocks">> & { contentBytes: number };
  writer: BlockWriter;
  nextBlock: number;
  /** undefined: the file was begun by an earlier writer and is read back after its commit */
  hash: Hash | undefined;
  contentHash: Hash | undefined;
}

/** The place in the source up to which everything is durable. */
interface Position {
  page: string | undefined;
  taken: number;
  ids: number;
  errors: number;
  errorLines: number;
  open: FilePart | undefined;
}

/** Turns the lines of one shard into committed files, and keeps the checkpoint that lets a successor go on (DESIGN section 6).
 *  Lines go in by `line` (no waiting); when it answers true, `drain` must be awaited before the next one. */
export class ShardWriter {
  /** where to go on: the URL of the page that is being read, and how many of its resources are dealt with */
  get position(): { page: string | undefined; taken: number } {
    return { page: this.#page, taken: this.#taken };
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
    const parts = this.#at.open ? [...this.#done, this.#at.open] : this.#done;
    const sum = (of: (part: FilePart) => number) => parts.reduce((total, part) => total + of(part), 0);
    return {
      files: this.#done.length,
      resources: sum((part) => part.lines),
      bytes: sum((part) => part.bytes),
      errors: this.#at.errors,
      checkpointAt: this.#checkpointAt,
    };
  }

  readonly #options: ShardWriterOptions;
  #nonce: string;
  #etag = "";
  #done: FilePart[] = [];
  #file: OpenFile | undefined;
  #at: Position;
  #page: string | undefined;
  #taken = 0;
  readonly #prints: ShownResources;
  #errors = 0;
  #errorLines: string[] = [];
  #buffer: Buffer;
  #used = 0;
  /** bytes of a line at the end of the buffer that begins the next file */
  #carry = 0;
  /** compressed members that wait for their block */
  #members: Buffer[] = [];
  #memberBytes = 0;
  #staging: Promise<void> = Promise.resolve();
  #stagedAt: number;
  #checkpointedAt: number;
  #checkpointAt: string | undefined;

  private constructor(options: ShardWriterOptions) {
    this.#options = options;
    this.#prints = new ShownResources(options.store, options.shard.id);
    this.#nonce = options.nonce();
    this.#buffer = Buffer.allocUnsafe(options.blockBytes + (1 << 16));
    this.#stagedAt = this.#checkpointedAt = options.now();
    this.#at = this.#snapshot();
  }

  /** Takes the shard over: from its start, or from the checkpoint of an earlier writer, which notices at its next write.
   *  @throws terminal Fenced, ForeignOutput */
  static async open(options: ShardWriterOptions): Promise<ShardWriter> {
    const writer = new ShardWriter(options);
    const { store, shard } = options;
    const path = checkpointPath(shard.id);
    const etag = await store.create(path, writer.#render());
    if (etag !== undefined) {
      writer.#etag = etag;
      return writer;
    }
    const found = await store.read(path);
    if (!found) throw transient("Internal", `the checkpoint of shard ${shard.id} came and went; another writer is at work`);
    const checkpoint = readCheckpoint(found.bytes, options);
    writer.#etag = found.etag;
    await writer.#restore(checkpoint);
    await writer.#write();
    await writer.#resume(checkpoint);
    return writer;
  }

  /** A page begins; `taken` of it are dealt with already. */
  begin(page: string): void {
    if (page !== this.#page) this.#taken = 0;
    this.#page = page;
  }

  /** The resource at `taken` of the page becomes a line. True: await `drain` before the next call. */
  line(bytes: Uint8Array, entry: Entry, fingerprint: string): boolean {
    const room = entry.end - entry.start + 1;
    if (this.#used + room > this.#buffer.length) {
      const grown = Buffer.allocUnsafe(this.#used + room + this.#options.blockBytes);
      this.#buffer.copy(grown, 0, 0, this.#used);
      this.#buffer = grown;
    }
    const end = copyResource(bytes, entry, this.#buffer, this.#used);
    this.#buffer[end] = 0x0a;
    const length = end + 1 - this.#used;
    this.#taken++;
    this.#prints.add(fingerprint);
    const file = (this.#file ??= this.#newFile());
    if (file.part.contentBytes > 0 && file.part.contentBytes + length > this.#options.maxFileBytes) {
      this.#carry = length;
      return true;
    }
    this.#accept(file, length);
    return this.#used >= (this.#options.gzip ? memberBytes : this.#options.blockBytes);
  }

  /** The resource at `taken` of the page is not for the output. */
  pass(fingerprint: string): void {
    this.#taken++;
    this.#prints.add(fingerprint);
  }

  /** The entry at `taken` of the page is no data, or was had before. */
  skip(): void {
    this.#taken++;
  }

  /** The resource at `taken` cannot be had: an OperationOutcome line instead, without a line end. */
  error(outcome: string): void {
    this.#taken++;
    this.#errors++;
    if (this.#errorLines.length < maxErrorLines) this.#errorLines.push(outcome);
  }

  async drain(): Promise<void> {
    if (this.#carry > 0) {
      // the carried line is not in the file that is closed now: a successor must read it again
      this.#taken--;
      const shown = this.#prints.takeBack();
      const line = Buffer.from(this.#buffer.subarray(this.#used, this.#used + this.#carry));
      this.#carry = 0;
      await this.#closeFile();
      this.#taken++;
      this.#prints.add(shown);
      line.copy(this.#buffer, 0);
      this.#accept((this.#file = this.#newFile()), line.length);
    }
    if (this.#options.gzip && this.#used >= memberBytes) this.#compress();
    if ((this.#options.gzip ? this.#memberBytes : this.#used) >= this.#options.blockBytes) {
      await this.#stage();
      await this.#checkpointIfDue();
    }
  }

  /** The page is at its end; `next` is the URL of the one behind it, if any. */
  async pageDone(next: string | undefined): Promise<void> {
    // behind the last page the position stays at its end: no page at all would mean the shard's start
    if (next !== undefined) [this.#page, this.#taken] = [next, 0];
    const waiting = this.#used + this.#memberBytes;
    if (waiting === 0) {
      await this.#staging;
      this.#at = this.#snapshot();
    } else if (this.#options.now() - this.#stagedAt >= checkpointMs && waiting >= this.#options.maxFileBytes / maxEarlyBlocks)
      await this.#stage();
    if (next !== undefined) await this.#checkpointIfDue();
  }

  /** The shard is read from its start once more; what is known is passed over by `has`. */
  rewind(): void {
    this.#page = undefined;
    this.#taken = 0;
  }

  /** Commits what is open and writes the shard's result, once. @param doubts ShardResult.doubts */
  async finish(doubts: string[] = []): Promise<ShardResult> {
    const { store, uid, shard } = this.#options;
    await this.#closeFile();
    this.#at = this.#snapshot();
    await this.#prints.store(this.#at.ids, this.#nonce);
    const errorFiles: FilePart[] = [];
    if (this.#errorLines.length > 0) {
      const bytes = Buffer.from(this.#errorLines.map((line) => `${line}\n`).join(""));
      const name = errorPath(shard.id);
      await store.create(name, bytes, contentType);
      errorFiles.push({
        name,
        lines: this.#errorLines.length,
        bytes: bytes.length,
        sha256: createHash("sha256").update(bytes).digest("hex"),
      });
    }
    const resources = this.#done.reduce((sum, part) => sum + part.lines, 0);
    const result: ShardResult = {
      v: 1,
      uid,
      shard: shard.id,
      type: shard.type,
      files: this.#done,
      errorFiles,
      resources,
      errors: this.#errors,
      seen: this.seen,
      fingerprints: [...this.#prints.segments],
      ...(doubts.length > 0 && { doubts }),
    };
    await store.create(resultPath(shard.id), Buffer.from(JSON.stringify(result)));
    return result;
  }

  /** Throws away what was written and begins at the shard's start, e.g. when the source does not know the next link any more. */
  async restart(): Promise<void> {
    await this.#staging.catch(() => {});
    const names = [...this.#done.map((part) => part.name), ...(this.#file ? [this.#file.part.name] : [])];
    this.#done = [];
    this.#file = undefined;
    this.#nonce = this.#options.nonce();
    this.#page = undefined;
    this.#prints.clear();
    this.#taken = this.#errors = this.#used = this.#carry = this.#memberBytes = 0;
    this.#errorLines = [];
    this.#members = [];
    this.#at = this.#snapshot();
    await this.#write();
    for (const name of names) await this.#options.store.remove(name);
  }

  #accept(file: OpenFile, length: number): void {
    this.#used += length;
    file.part.lines++;
    file.part.contentBytes += length;
  }

  #newFile(): OpenFile {
    const { shard, gzip } = this.#options;
    const name = dataPath(shard.id, this.#done.length + 1, gzip);
    return {
      part: { name, lines: 0, bytes: 0, contentBytes: 0, blocks: [] },
      writer: this.#blockWriter(name),
      nextBlock: 0,
      hash: createHash("sha256"),
      contentHash: gzip ? createHash("sha256") : undefined,
    };
  }

  #blockWriter(name: string): BlockWriter {
    // the name says gzip; a Content-Encoding would make clients unpack it and break the SHA-256 of the stored bytes
    return this.#options.store.blocks(name, this.#options.gzip ? "application/gzip" : contentType);
  }

  /** Moves what is in the buffer behind the last member. */
  #compress(): void {
    if (this.#used === 0) return;
    const content = this.#buffer.subarray(0, this.#used);
    this.#file?.contentHash?.update(content);
    const member = gzipSync(content, { level: 1 });
    this.#members.push(member);
    this.#memberBytes += member.length;
    this.#used = 0;
  }

  /** Sends what waits as one block; the block before it must have arrived, so the next page is read while this one travels. */
  async #stage(): Promise<void> {
    const file = this.#file;
    if (this.#options.gzip) this.#compress();
    const bytes = this.#options.gzip ? Buffer.concat(this.#members) : this.#buffer.subarray(0, this.#used);
    if (!file || bytes.length === 0) return;
    if (!this.#options.gzip) this.#buffer = Buffer.allocUnsafe(this.#options.blockBytes + (1 << 16));
    this.#members = [];
    this.#memberBytes = this.#used = 0;
    this.#stagedAt = this.#options.now();
    const id = `${this.#nonce}-${String(this.#done.length + 1).padStart(5, "0")}-${String(file.nextBlock++).padStart(5, "0")}`;
    const at = this.#snapshot();
    const previous = this.#staging;
    await previous;
    file.hash?.update(bytes);
    this.#staging = file.writer.stage(id, bytes).then(() => {
      file.part.blocks.push([id, bytes.length]);
      file.part.bytes += bytes.length;
      this.#at = { ...at, open: { ...at.open!, bytes: file.part.bytes, blocks: [...file.part.blocks] } };
    });
    // reported at the next await; without this it would count as unhandled until then
    this.#staging.catch(() => {});
  }

  async #closeFile(): Promise<void> {
    const file = this.#file;
    await this.#stage();
    await this.#staging;
    this.#file = undefined;
    if (!file || file.part.lines === 0) return;
    const { contentBytes, ...rest } = file.part;
    const part: FilePart = this.#options.gzip ? { ...rest, contentBytes } : rest;
    this.#done.push(part);
    this.#at = this.#snapshot();
    await this.#write();
    await this.#commit(part, file.writer);
    if (!file.hash) return this.#readBack(part);
    part.sha256 = file.hash.digest("hex");
    if (file.contentHash) part.contentSha256 = file.contentHash.digest("hex");
  }

  async #commit(part: FilePart, writer: BlockWriter): Promise<void> {
    if ((await writer.commit(part.blocks!)) === "other")
      throw transient("TargetUnreachable", `${part.name} was committed by another writer with other content; the shard is looked at again`);
    delete part.blocks;
  }

  #snapshot(): Position {
    const part = this.#file?.part;
    return {
      page: this.#page,
      taken: this.#taken,
      ids: this.#prints.count,
      errors: this.#errors,
      errorLines: this.#errorLines.length,
      open: part && { ...part, blocks: [...part.blocks] },
    };
  }

  async #checkpointIfDue(): Promise<void> {
    if (this.#options.now() - this.#checkpointedAt < checkpointMs) return;
    await this.#staging;
    await this.#write();
  }

  async #write(): Promise<void> {
    const { store, shard } = this.#options;
    // before the checkpoint that names them
    await this.#prints.store(this.#at.ids, this.#nonce);
    const etag = await store.replace(checkpointPath(shard.id), this.#render(), this.#etag);
    if (etag === undefined) {
      const found = await store.read(checkpointPath(shard.id));
      if (found) readCheckpoint(found.bytes, this.#options);
      throw transient("Internal", `another writer has taken shard ${shard.id} over`);
    }
    this.#etag = etag;
    this.#checkpointedAt = this.#options.now();
    this.#checkpointAt = new Date().toISOString();
  }

  #render(): Buffer {
    const { uid, shard } = this.#options;
    const { page, taken, ids, errors, errorLines, open } = this.#at;
    const checkpoint: Checkpoint = {
      v: 1,
      uid,
      shard: shard.id,
      writer: this.#nonce,
      ...(page !== undefined && { next: page, taken }),
      seen: ids + errors,
      done: this.#done,
      ...(open && open.blocks!.length > 0 && { open }),
      fingerprints: [...this.#prints.segments],
      errors,
      ...(errorLines > 0 && { errorLines: this.#errorLines.slice(0, errorLines) }),
    };
    return Buffer.from(JSON.stringify(checkpoint));
  }

  async #restore({ next, taken = 0, done, open, fingerprints, errors, errorLines = [] }: Checkpoint): Promise<void> {
    await this.#prints.restore(fingerprints);
    this.#done = done;
    this.#page = next;
    this.#taken = taken;
    this.#errors = errors;
    this.#errorLines = [...errorLines];
    this.#at = { page: next, taken, ids: this.#prints.count, errors, errorLines: errorLines.length, open };
  }

  /** After a takeover: makes sure that what the checkpoint names is there, else begins again. */
  async #resume({ done, open }: Checkpoint): Promise<void> {
    for (const part of done) {
      if (!part.blocks) continue;
      const writer = this.#blockWriter(part.name);
      if (!(await this.#isCommitted(part)) && !(await writer.holds(part.blocks))) return this.restart();
      await this.#commit(part, writer);
      await this.#readBack(part);
    }
    if (!open) return;
    const writer = this.#blockWriter(open.name);
    this.#file = {
      part: { name: open.name, lines: open.lines, bytes: open.bytes, blocks: open.blocks!, contentBytes: open.contentBytes ?? open.bytes },
      writer,
      nextBlock: open.blocks!.length,
      hash: undefined,
      contentHash: undefined,
    };
    if (!(await writer.holds(open.blocks!))) await this.restart();
  }

  async #isCommitted(part: FilePart): Promise<boolean> {
    const found = await this.#options.store.stream(part.name, { start: 0, count: 1 });
    found?.body.destroy();
    return found?.size === part.bytes;
  }

  async #readBack(part: FilePart): Promise<void> {
    Object.assign(part, await digestsOf(this.#options.store, part));
  }
}
