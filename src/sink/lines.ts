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
  /** bytes of `stored` together: after gzip, where that is on */
  bytes: number;
  /** Call it when the block has arrived. */
  release(): void;
}

export interface LineBufferOptions {
  slabs: Slabs;
  blockBytes: number;
  gzip: boolean;
  /** the most content of one file, before gzip */
  maxFileBytes: number;
}

/** Gathers lines in a slab until they are a block. With gzip the slab's content is compressed whenever it is a segment,
 *  and a block is several segments. */
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
  #segments: Buffer[] = [];
  #segmentBytes = 0;
  /** bytes that the last `takeLines` took */
  added = 0;
  /** Why it took no more. `block`: the slab is full. `segment`: it is full and may be compressed. `limit`: the file is
   *  full. `large`: the line is larger than any slab. `slab`: no slab is free. */
  stoppedBy: "block" | "segment" | "limit" | "large" | "slab" | undefined;

  /** @param onContent is given all content in order, before gzip and before it is part of a block, for the digests */
  constructor(options: LineBufferOptions, onContent: (bytes: Uint8Array) => void) {
    this.#slabs = options.slabs;
    this.#blockBytes = options.blockBytes;
    this.#gzip = options.gzip;
    this.#maxFileBytes = options.maxFileBytes;
    this.#onContent = onContent;
  }

  /** Bytes that wait to be sent: their stored size where they are compressed already or need not be. */
  get waiting(): number {
    return this.#used + this.#segmentBytes;
  }
  /** It is time to send a block. */
  get full(): boolean {
    return (this.#gzip ? this.#segmentBytes : this.#used) >= this.#blockBytes;
  }

  /** Takes lines while they fit into the slab and into the file. An empty file takes its first line whatever its size.
   *  @param fileBytes content that the file has so far
   *  @returns the index behind the last line that was taken; where that is not `to`, `stoppedBy` says why */
  takeLines(lines: Lines, from: number, to: number, fileBytes: number): number {
    const limit = this.#maxFileBytes - fileBytes;
    this.added = 0;
    this.stoppedBy = undefined;
    while (from < to) {
      if (!this.#slab) {
        this.#slab = this.#slabs.take();
        if (!this.#slab) {
          this.stoppedBy = "slab";
          return from;
        }
      }
      const free = Math.min(this.#slab.size, this.#gzip ? Number.POSITIVE_INFINITY : this.#blockBytes) - this.#used;
      const till = fittingLines(lines, from, to, Math.min(free, limit - this.added));
      if (till > from) {
        this.#took(this.#emit(lines, from, till));
        from = till;
        continue;
      }
      if (lines.room(from, from + 1) > free) {
        this.stoppedBy = this.#gzip && this.#used > 0 ? "segment" : this.waiting > 0 ? "block" : "large";
        return from;
      }
      // White space is dropped, so the line may be shorter than its room, and fit into the file.
      const length = this.#emit(lines, from, from + 1);
      if (this.added + length > limit && fileBytes + this.added > 0) {
        this.stoppedBy = "limit";
        return from;
      }
      this.#took(length);
      from++;
    }
    return from;
  }

  /** Compresses the content of the slab, if it is as much as a segment. @param all compresses it whatever its size */
  compress(all: boolean): void {
    if (!this.#gzip || this.#used === 0 || (!all && this.#used < segmentBytes)) return;
    this.#digest();
    this.#addSegment(this.#slabBytes(0));
    this.#used = this.#digested = 0;
  }

  /** All that waits, as a block; undefined when nothing waits. */
  takeBlock(): Block | undefined {
    this.compress(true);
    this.#digest();
    const slab = this.#slab;
    const block = this.#gzip
      ? { stored: this.#segments, bytes: this.#segmentBytes, release: () => {} }
      : {
          stored: slab ? [this.#slabBytes(0)] : [],
          bytes: this.#used,
          release: () => slab && this.#slabs.give(slab),
        };
    if (block.bytes === 0) return undefined;
    if (!this.#gzip) this.#slab = undefined;
    this.#segments = [];
    this.#segmentBytes = this.#used = this.#digested = 0;
    return block;
  }

  /** A line that is larger than any slab, as a block of its own. @returns also the line's length, with its line end */
  takeLargeLine(lines: Lines, index: number): { block: Block; length: number } {
    const line = Buffer.allocUnsafe(lines.room(index, index + 1));
    const length = lines.emit(index, index + 1, line, 0);
    const content = line.subarray(0, length);
    this.#onContent(content);
    if (!this.#gzip) return { block: { stored: [content], bytes: length, release: () => {} }, length };
    this.#addSegment(content);
    return { block: this.takeBlock()!, length };
  }

  /** Forgets what waits, and gives the slab back. */
  close(): void {
    if (this.#slab) this.#slabs.give(this.#slab);
    this.#slab = undefined;
    this.#segments = [];
    this.#segmentBytes = this.#used = this.#digested = 0;
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

  #addSegment(content: Uint8Array): void {
    const segment = deflateSegment(content);
    this.#segments.push(segment);
    this.#segmentBytes += segment.length;
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
