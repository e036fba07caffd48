import { pickScanner, tableBytes } from "./simd.ts";
import { type Expected, type PageTable, reservedBytes, slack } from "./table.ts";

/** A memory of its own for pages that do not fit into a slot. It is used again for the next page, and replaced by a
 *  larger one where that does not fit. Few of these should be made, because a memory is freed late, by the garbage
 *  collector. */
export class OwnMemory {
  #pageBytes = 0;
  #place: { table: PageTable; memory: WebAssembly.Memory; out: number } | undefined;

  /** Reads a page from wherever it lies, and returns its table, which is valid until the next call.
   *  @returns `out`: an offset in `memory`, a multiple of 8, where there is room for any one row as a line, or for the
   *  fingerprints of all rows
   *  @throws ScanError */
  read(bytes: Uint8Array, expected?: Expected): { table: PageTable; memory: WebAssembly.Memory; out: number } {
    if (!this.#place || this.#pageBytes < bytes.length) {
      // dropped first, so that the old one can be freed before the new one is made
      this.#place = undefined;
      this.#pageBytes = Math.max(1 << 20, Math.ceil(bytes.length / 65_536) * 65_536);
      const out = ownPageAt + this.#pageBytes + slack;
      const tableAt = out + this.#pageBytes + slack;
      const pages = Math.ceil((tableAt + tableBytes(this.#pageBytes)) / 65_536);
      const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
      this.#place = { table: pickScanner(memory).table(tableAt, this.#pageBytes), memory, out };
    }
    const { table, memory } = this.#place;
    if (expected) table.expect(expected);
    Buffer.from(memory.buffer).set(bytes, ownPageAt);
    table.scan(ownPageAt, bytes.length);
    return this.#place;
  }
}

const ownPageAt = reservedBytes + slack;
