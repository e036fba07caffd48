import { slack } from "../scan/table.ts";

/** A place in memory for one block of lines: `size` bytes at offset `at`. */
export interface Slab {
  at: number;
  size: number;
}

/** The slabs of one worker. They lie in the memory that pages are read into, so each line is copied once: from its page
 *  into the block that is sent. */
export class Slabs {
  readonly memory: Buffer;
  /** bytes of each */
  readonly size: number;
  readonly #free: Slab[] = [];
  readonly #waiting: (() => void)[] = [];

  /** @param at offset of the first slab; each has `size` bytes, and `slack` bytes behind it, which PageTable.emit may
   *  overwrite */
  constructor(memory: Buffer, at: number, size: number, count: number) {
    this.memory = memory;
    this.size = size;
    // The slab that was given back last is taken first. So only as many slabs are ever touched, and take memory, as are
    // in use at a time.
    for (let i = count - 1; i >= 0; i--) this.#free.push({ at: at + i * slabSpace(size), size });
  }

  /** A slab; undefined when none is free. */
  take(): Slab | undefined {
    return this.#free.pop();
  }
  give(slab: Slab): void {
    this.#free.push(slab);
    this.#waiting.shift()?.();
  }
  /** Resolves when a slab may be free; another caller may take it first. */
  async free(): Promise<void> {
    if (this.#free.length === 0) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }
}

/** The bytes that a slab of `size` takes in memory. */
export const slabSpace = (size: number): number => Math.ceil((size + slack) / 8) * 8;
