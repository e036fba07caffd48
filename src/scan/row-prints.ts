import { printBytes } from "./print.ts";
import type { PageTable } from "./table.ts";

const wordsPerPrint = printBytes / 4;

/** The fingerprints of some neighbouring rows of a page, where PageTable.prints writes them. */
export class RowPrints {
  /** the memory that they lie in, as 32-bit words */
  readonly words: Uint32Array;
  readonly #at: number;
  #from = 0;

  /** @param words the whole memory of the page
   *  @param at offset in bytes of a place in it that has room for 16 bytes per row, a multiple of 4 */
  constructor(words: Uint32Array, at: number) {
    this.words = words;
    this.#at = at;
  }

  /** Makes the fingerprints of the rows `from` to `to` - 1; those of other rows are gone. */
  make(table: PageTable, from: number, to: number): void {
    this.#from = from;
    table.prints(from, to, this.#at);
  }

  /** Where the four words of a row's fingerprint begin in `words`. Those of the next row lie behind them. */
  wordOf(row: number): number {
    return (this.#at >> 2) + (row - this.#from) * wordsPerPrint;
  }

  /** A row's fingerprint as a latin1 string of 16 characters, as sets and maps hold it. */
  text(row: number): string {
    const { buffer, byteOffset } = this.words;
    return Buffer.from(buffer, byteOffset + this.wordOf(row) * 4, printBytes).toString("latin1");
  }
}
