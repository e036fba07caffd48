import { segment } from "./gzip.ts";
import type { Slab, Slabs } from "./slabs.ts";

/** Resources that become lines, one after the other, e.g. the rows of a page. */
export interface Lines {
  /** the most that the lines `from` to `to` - 1 can take, their line ends included */
  room(from: number, to: number): number;
  /** Writes them into `memory` at `at`, and answers the offset behind the last. */
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

/** compressed by itself, so that a successor can go on behind it (gzip.ts) */
const segmentBytes = 1 << 20;
/** Digests are made while lines are still in the processor's cache, a page or so at a time: a block's worth at once keeps the source waiting. */
const digestBytes = 1 << 16;

/** What goes into storage at a time. `release` when it has arrived. */
export interface Block {
  stored: Uint8Array[];
  /** before gzip, where that is on */
  bytes: number;
  release(): void;
}

/** Gathers lines in a slab until they are a block. */
export class LineBuffer {
  readonly #slabs: Slabs;
  readonly #blockBytes: number;
  readonly #gzip: boolean;
  readonly #content: (bytes: Uint8Array) => void;
  #slab: Slab | undefined;
  #used = 0;
  /** of #used, what #content has seen */
  #seen = 0;
  #segments: Buffer[] = [];
  #segmentBytes = 0;
  /** bytes that the last `add` took */
  added = 0;
  /** why it took no more: the slab is full (`segment`: and may be compressed), the limit is reached, a line is larger than any slab, or none is free */
  stop: "block" | "segment" | "limit" | "large" | "slab" | undefined;

  /** @param content sees all that is taken, before gzip and before it is in a block, for the digest */
  constructor(slabs: Slabs, blockBytes: number, gzip: boolean, content: (bytes: Uint8Array) => void) {
    this.#slabs = slabs;
    this.#blockBytes = blockBytes;
    this.#gzip = gzip;
    this.#content = content;
  }

  /** bytes that wait, as they will be stored where that is known */
  get waiting(): number {
    return this.#used + this.#segmentBytes;
  }
  /** it is time to send a block */
  get full(): boolean {
    return (this.#gzip ? this.#segmentBytes : this.#used) >= this.#blockBytes;
  }

  /** Takes lines while they fit into the slab and, together, into `limit` bytes.
   *  @param first the first line is taken even if it alone is more than `limit`
   *  @returns behind the last one that was taken; if that is not `to`, `stop` says why */
  add(lines: Lines, from: number, to: number, limit: number, first: boolean): number {
    this.added = 0;
    this.stop = undefined;
    while (from < to) {
      if (!this.#slab) {
        this.#slab = this.#slabs.take();
        if (!this.#slab) {
          this.stop = "slab";
          return from;
        }
      }
      const free = Math.min(this.#slab.size, this.#gzip ? Number.POSITIVE_INFINITY : this.#blockBytes) - this.#used;
      const till = fitting(lines, from, to, Math.min(free, limit - this.added));
      if (till > from) {
        this.#take(this.#emit(lines, from, till));
        from = till;
        continue;
      }
      if (lines.room(from, from + 1) > free) {
        this.stop = this.#gzip && this.#used > 0 ? "segment" : this.waiting > 0 ? "block" : "large";
        return from;
      }
      // white space goes, so the line may still be short enough
      const length = this.#emit(lines, from, from + 1);
      if (this.added + length > limit && !(first && this.added === 0)) {
        this.stop = "limit";
        return from;
      }
      this.#take(length);
      from++;
    }
    return from;
  }

  /** Compresses what has gathered, if it is a segment's worth. @param all whatever there is */
  compress(all: boolean): void {
    if (!this.#gzip || this.#used === 0 || (!all && this.#used < segmentBytes)) return;
    this.#show();
    this.#addSegment(this.#bytes(0));
    this.#used = this.#seen = 0;
  }

  /** What waits, as a block; nothing waits then. */
  take(): Block | undefined {
    this.compress(true);
    this.#show();
    const slab = this.#slab;
    const block = this.#gzip
      ? { stored: this.#segments, bytes: this.#segmentBytes, release: () => {} }
      : {
          stored: slab ? [this.#bytes(0)] : [],
          bytes: this.#used,
          release: () => slab && this.#slabs.give(slab),
        };
    if (block.bytes === 0) return undefined;
    if (!this.#gzip) this.#slab = undefined;
    this.#segments = [];
    this.#segmentBytes = this.#used = this.#seen = 0;
    return block;
  }

  /** A line that no slab holds, as a block of its own. */
  large(lines: Lines, index: number): { block: Block; length: number } {
    const line = Buffer.allocUnsafe(lines.room(index, index + 1));
    const length = lines.emit(index, index + 1, line, 0);
    const content = line.subarray(0, length);
    this.#content(content);
    if (!this.#gzip) return { block: { stored: [content], bytes: length, release: () => {} }, length };
    this.#addSegment(content);
    return { block: this.take()!, length };
  }

  /** Forgets what waits, and gives the slab back. */
  close(): void {
    if (this.#slab) this.#slabs.give(this.#slab);
    this.#slab = undefined;
    this.#segments = [];
    this.#segmentBytes = this.#used = this.#seen = 0;
  }

  #emit(lines: Lines, from: number, to: number): number {
    const at = this.#slab!.at + this.#used;
    return lines.emit(from, to, this.#slabs.memory, at) - at;
  }

  #take(length: number): void {
    this.#used += length;
    this.added += length;
    if (this.#used - this.#seen >= digestBytes) this.#show();
  }

  /** what waits in the slab, from `from` on */
  #bytes(from: number): Buffer {
    const { at } = this.#slab!;
    return this.#slabs.memory.subarray(at + from, at + this.#used);
  }

  #show(): void {
    if (this.#seen === this.#used) return;
    this.#content(this.#bytes(this.#seen));
    this.#seen = this.#used;
  }

  #addSegment(content: Uint8Array): void {
    const made = segment(content);
    this.#segments.push(made);
    this.#segmentBytes += made.length;
  }
}

/** The most lines from `from` on whose room is at most `room`. */
function fitting(lines: Lines, from: number, to: number, room: number): number {
  if (lines.room(from, to) <= room) return to;
  let [low, high] = [from, to - 1];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (lines.room(from, middle) <= room) low = middle;
    else high = middle - 1;
  }
  return low;
}
