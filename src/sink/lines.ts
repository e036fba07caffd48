import { deflateSegment } from "./gzip.ts";
import type { Slab, Slabs } from "./slabs.ts";

/** Resources that become lines, one after the other, e.g. the rows of a page. */
export interface Lines {
  /** The most bytes that the lines `from` to `to` - 1 can take, their line ends included. */
  room(from: number, to: number): number;
  /** Writes them into `memory` at `at`, and returns the offset behind the last. */
  emit(from: number, to: number, memory: Buffer, at: number): number;
}

/** A line that is made already, without its line end. */
export const oneLine = (line: Uint8Array): Lines => ({
  room: () => line.length + 1,
  emit: (_, __, memory, at) => {
    memory.set(line, at);
    memory[at + line.length] = 0x0a;
    return at + line.length + 1;
  },
});

/** Content of this size is compressed by itself, so that a successor can continue behind it (gzip.ts). */
const segmentBytes = 1 << 20;
/** Digests are computed over a page or so at a time, while the lines are still in the processor's cache. To compute
 *  them over a whole block at once would keep the source waiting. */
const digestBytes = 1 << 16;

/** What goes into storage at a time. */
interface Block {
  stored: Uint8Array[];
  /** Call it when the block has arrived. */
  release(): void;
}

export interface LineBufferOptions {
  slabs: Slabs;
  /** All blocks of a file have this size, but for the last. Without gzip a block is a slab, so it is not larger. */
  blockBytes: number;
  gzip: boolean;
  /** the most content of one file, before gzip */
  maxFileBytes: number;
}

const nothing = Buffer.alloc(0);

/** Cuts lines into blocks of exactly one size. Lines are written into a slab, which is a block when it is full. A line
 *  that does not fit into the slab any more fills it, and goes on in the next block, or in the next few. With gzip the
 *  slab's content is compressed whenever it is a segment, and blocks are cut out of what comes out of that. */
export class LineBuffer {
  readonly #slabs: Slabs;
  readonly #blockBytes: number;
  readonly #gzip: boolean;
  readonly #maxFileBytes: number;
  readonly #onContent: (bytes: Uint8Array) => void;
  #slab: Slab | undefined;
  /** bytes of lines in the slab */
  #used = 0;
  /** how many of them #onContent has been given */
  #digested = 0;
  /** what follows the slab's content: the rest of a line, or what an earlier writer has left */
  #rest: Buffer = nothing;
  /** with gzip: what is compressed and not sent yet */
  #segments: Uint8Array[] = [];
  #segmentBytes = 0;
  /** how much of what waits `newTail` has given out already */
  #tailed = 0;
  /** bytes that the last `takeLines` took */
  added = 0;
  /** Why it took no more. `block`: a block is full. `limit`: the file is full. `slab`: no slab is free. */
  stoppedBy: "block" | "limit" | "slab" | undefined;

  /** @param onContent is given all content in order, before gzip and before it is part of a block, for the digests */
  constructor(options: LineBufferOptions, onContent: (bytes: Uint8Array) => void) {
    this.#slabs = options.slabs;
    this.#blockBytes = options.gzip ? options.blockBytes : Math.min(options.blockBytes, options.slabs.size);
    this.#gzip = options.gzip;
    this.#maxFileBytes = options.maxFileBytes;
    this.#onContent = onContent;
  }

  /** A block can be sent. */
  get full(): boolean {
    if (this.#gzip) return this.#segmentBytes >= this.#blockBytes;
    return this.#used === this.#blockBytes || (this.#used === 0 && this.#rest.length >= this.#blockBytes);
  }

  /** With gzip, compresses all content so far. */
  flush(): void {
    if (this.#gzip) this.#compress();
  }

  /** Adds stored bytes that are no content: the header and the trailer of gzip. */
  frame(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.#segments.push(bytes);
    this.#segmentBytes += bytes.length;
  }

  /** Continues behind the last block of an earlier writer. @param tail what follows that block, as it is stored */
  restore(tail: Buffer): void {
    if (this.#gzip) this.frame(tail);
    else this.#rest = tail;
    this.#tailed = tail.length;
  }

  /** Takes lines until a block is full, or the file. An empty file takes its first line whatever its size.
   *  @param fileBytes content that the file has so far
   *  @returns the index behind the last line that was taken; where that is not `to`, `stoppedBy` says why */
  takeLines(lines: Lines, from: number, to: number, fileBytes: number): number {
    const limit = this.#maxFileBytes - fileBytes;
    this.added = 0;
    this.stoppedBy = undefined;
    while (from < to) {
      if (!this.#prepare()) return from;
      const free = this.#free;
      const till = fittingLines(lines, from, to, Math.min(free, limit - this.added));
      if (till > from) {
        this.#took(this.#emit(lines, from, till));
        from = till;
        continue;
      }
      if (lines.room(from, from + 1) > free) {
        if (this.#gzip && this.#used > 0) {
          this.#compress();
          continue;
        }
        if (!this.#takeLargeLine(lines, from, limit, fileBytes)) return from;
        from++;
        continue;
      }
      // White space is dropped, so the line may be shorter than its room, and fit into the file.
      const length = this.#emit(lines, from, from + 1);
      if (this.#isBeyond(limit, length, fileBytes)) return from;
      this.#took(length);
      from++;
    }
    if (this.#gzip && this.#used >= segmentBytes) this.#compress();
    return from;
  }

  /** The next block, if one is full. @param all also what is no full block yet */
  takeBlock(all: boolean): Block | undefined {
    if (this.#gzip) return this.#takeCompressed(all);
    this.#digest();
    if (this.#used === this.#blockBytes || (all && this.#used > 0)) {
      const slab = this.#slab!;
      const stored = [this.#slabBytes(0)];
      this.#slab = undefined;
      this.#used = this.#digested = this.#tailed = 0;
      return { stored, release: () => this.#slabs.give(slab) };
    }
    if (this.#rest.length < this.#blockBytes && (!all || this.#rest.length === 0)) return undefined;
    const block = this.#rest.subarray(0, this.#blockBytes);
    this.#rest = this.#rest.subarray(block.length);
    this.#tailed = 0;
    this.#onContent(block);
    return { stored: [block], release: () => {} };
  }

  /** What waits for its block, as it will be stored, without what this has given before. With it a successor can
   *  continue here. */
  newTail(): Buffer {
    this.flush();
    const waiting = this.#gzip
      ? Buffer.concat(this.#segments)
      : Buffer.concat([this.#slab ? this.#slabBytes(0) : nothing, this.#rest]);
    const tail = waiting.subarray(this.#tailed);
    this.#tailed = waiting.length;
    return tail;
  }

  /** Forgets what waits, and gives the slab back. */
  close(): void {
    if (this.#slab) this.#slabs.give(this.#slab);
    this.#slab = undefined;
    this.#rest = nothing;
    this.#segments = [];
    this.#segmentBytes = this.#used = this.#digested = this.#tailed = 0;
  }

  /** bytes that the slab still takes */
  get #free(): number {
    return (this.#gzip ? this.#slab!.size : this.#blockBytes) - this.#used;
  }

  /** Makes sure that there is a slab with room in it.
   *  @returns false, and says in `stoppedBy` why, when there is none */
  #prepare(): boolean {
    this.stoppedBy = this.full ? "block" : undefined;
    if (this.stoppedBy) return false;
    this.#slab ??= this.#slabs.take();
    if (!this.#slab) this.stoppedBy = "slab";
    else if (this.#rest.length > 0) {
      // It is smaller than a block, and the slab is empty.
      this.#slabs.memory.set(this.#rest, this.#slab.at);
      this.#used = this.#rest.length;
      this.#rest = nothing;
    }
    return this.#slab !== undefined;
  }

  /** Takes a line that does not fit into the slab: the slab is full then, and the rest of the line follows. With gzip
   *  it is a segment of its own.
   *  @returns false when it does not fit into the file either */
  #takeLargeLine(lines: Lines, index: number, limit: number, fileBytes: number): boolean {
    const memory = Buffer.allocUnsafe(lines.room(index, index + 1));
    const line = memory.subarray(0, lines.emit(index, index + 1, memory, 0));
    if (this.#isBeyond(limit, line.length, fileBytes)) return false;
    this.added += line.length;
    if (this.#gzip) {
      this.#onContent(line);
      this.frame(deflateSegment(line));
      return true;
    }
    const fits = line.subarray(0, this.#free);
    this.#slabs.memory.set(fits, this.#slab!.at + this.#used);
    this.#used += fits.length;
    this.#rest = line.subarray(fits.length);
    return true;
  }

  /** Whether a line more would make the file too large. */
  #isBeyond(limit: number, length: number, fileBytes: number): boolean {
    if (this.added + length <= limit || fileBytes + this.added === 0) return false;
    this.stoppedBy = "limit";
    return true;
  }

  #emit(lines: Lines, from: number, to: number): number {
    const at = this.#slab!.at + this.#used;
    return lines.emit(from, to, this.#slabs.memory, at) - at;
  }

  #took(length: number): void {
    this.#used += length;
    this.added += length;
    if (this.#used - this.#digested >= digestBytes) this.#digest();
  }

  /** The slab's content from `from` on. */
  #slabBytes(from: number): Buffer {
    const { at } = this.#slab!;
    return this.#slabs.memory.subarray(at + from, at + this.#used);
  }

  #digest(): void {
    if (this.#digested === this.#used) return;
    this.#onContent(this.#slabBytes(this.#digested));
    this.#digested = this.#used;
  }

  /** Compresses the content of the slab. */
  #compress(): void {
    if (this.#used === 0) return;
    this.#digest();
    this.frame(deflateSegment(this.#slabBytes(0)));
    this.#used = this.#digested = 0;
  }

  #takeCompressed(all: boolean): Block | undefined {
    if (all) this.#compress();
    if (this.#segmentBytes < this.#blockBytes && (!all || this.#segmentBytes === 0)) return undefined;
    const waiting = Buffer.concat(this.#segments);
    const block = waiting.subarray(0, this.#blockBytes);
    const rest = waiting.subarray(block.length);
    this.#segments = rest.length > 0 ? [rest] : [];
    this.#segmentBytes = rest.length;
    this.#tailed = 0;
    return { stored: [block], release: () => {} };
  }
}

/** How far lines fit into `room` bytes, from `from` on: the index behind the last one that does. */
function fittingLines(lines: Lines, from: number, to: number, room: number): number {
  if (lines.room(from, to) <= room) return to;
  let [low, high] = [from, to - 1];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (lines.room(from, middle) <= room) low = middle;
    else high = middle - 1;
  }
  return low;
}
