import { slack } from "../scan/table.ts";

/** A place for one block of lines. */
export interface Slab {
  at: number;
  size: number;
}

/** The blocks' part of the memory that pages are read into, so that lines are copied once: from the page into the block that is sent. */
export class Slabs {
  readonly memory: Buffer;
  readonly #free: Slab[] = [];
  readonly #waiting: (() => void)[] = [];

  /** @param at of the first, `size` bytes each and `slack` behind it (see PageTable.emit) */
  constructor(memory: Buffer, at: number, size: number, count: number) {
    this.memory = memory;
    // the last one given back is taken first: only as many are ever touched as are in use at a time
    for (let i = count - 1; i >= 0; i--) this.#free.push({ at: at + i * slabSpace(size), size });
  }

  take(): Slab | undefined {
    return this.#free.pop();
  }
  give(slab: Slab): void {
    this.#free.push(slab);
    this.#waiting.shift()?.();
  }
  /** resolves when there may be one */
  async free(): Promise<void> {
    if (this.#free.length === 0) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }
}

/** Bytes that a slab takes. */
export const slabSpace = (size: number): number => Math.ceil((size + slack) / 8) * 8;
