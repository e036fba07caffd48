import type { MemoryBudget } from "./memory-budget.ts";

/** 512 bits, which are fetched from memory at once */
const blockWords = 16;
/** 32-bit words of a fingerprint */
export const printWords = 4;
/** at which 1 of 500 others is taken for one that was added; with half of it, 1 of 30 */
const bitsPerPrint = 16;
const leastBytes = 1 << 18;
/** enough for 17 million fingerprints at its best, and for 50 million at 1 of 8 */
const mostBytes = 32 << 20;

/** A Bloom filter of fingerprints: what it says no to was never added. It grows as long as there is memory for it, and
 *  then says yes more often than need be. */
export class PrintFilter {
  readonly #budget: MemoryBudget;
  #bits = new Uint32Array(leastBytes / 4);

  constructor(budget: MemoryBudget) {
    this.#budget = budget;
  }

  /** Makes room for `count` fingerprints. @returns true where it is empty now, so that all must be added again */
  grow(count: number): boolean {
    let bytes = this.#bits.length * 4;
    while (bytes < mostBytes && bytes * 8 < count * bitsPerPrint) bytes *= 2;
    const more = bytes - this.#bits.length * 4;
    if (more === 0 || !this.#budget.take(more)) return false;
    this.#bits = new Uint32Array(bytes / 4);
    return true;
  }

  /** Adds the first `count` of some fingerprints. */
  add(words: Uint32Array, count: number): void {
    const bits = this.#bits;
    const mask = bits.length / blockWords - 1;
    for (let at = 0; at < count * printWords; at += printWords) {
      const block = (words[at + 2]! & mask) * blockWords;
      // each 9 bits of two words name a bit of the block
      for (let word = words[at + 3]!, round = 0; round < 2; round++, word = words[at + 1]!)
        for (let shift = 0; shift < 27; shift += 9) {
          const bit = (word >>> shift) & 511;
          bits[block + (bit >>> 5)]! |= 1 << (bit & 31);
        }
    }
  }

  /** Whether a fingerprint may have been added. @param at index of its first word in `words` */
  mayHave(words: Uint32Array, at: number): boolean {
    const bits = this.#bits;
    const block = (words[at + 2]! & (bits.length / blockWords - 1)) * blockWords;
    for (let word = words[at + 3]!, round = 0; round < 2; round++, word = words[at + 1]!)
      for (let shift = 0; shift < 27; shift += 9) {
        const bit = (word >>> shift) & 511;
        if ((bits[block + (bit >>> 5)]! & (1 << (bit & 31))) === 0) return false;
      }
    return true;
  }

  /** Gives the memory back. Nothing is in the filter then. */
  close(): void {
    this.#budget.give(this.#bits.length * 4 - leastBytes);
    this.#bits = new Uint32Array(leastBytes / 4);
  }
}
