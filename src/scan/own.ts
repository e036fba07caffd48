import { pickScanner, tableBytes } from "./simd.ts";
import { type Expected, type PageTable, reservedBytes, slack } from "./table.ts";

/** A memory of its own for pages that do not fit where others lie, used again for the next. Memories go back late (when the garbage collector sees to
 *  it): few of these should be made, and one that is too small for a page is replaced. */
export class OwnMemory {
  #pageBytes = 0;
  #place: { table: PageTable; memory: WebAssembly.Memory; out: number } | undefined;

  /** Reads a page from wherever it lies. What is answered is good until the next call: its table, and where in `memory` any one of its rows can be
   *  emitted, or the fingerprints of all be written: at `out`, a multiple of 8.
   *  @throws ScanError */
  read(bytes: Uint8Array, expected?: Expected): { table: PageTable; memory: WebAssembly.Memory; out: number } {
    if (!this.#place || this.#pageBytes < bytes.length) {
      // dropped first: else both would have to fit
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
