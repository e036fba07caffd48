import { isUtf8 } from "node:buffer";
import { readFileSync } from "node:fs";
import { type Expected, expectedBytes, nothingExpected, writeExpected } from "./expected.ts";
import type { Entry, Page } from "./page.ts";
import { printBytes, printer } from "./print.ts";
import { checkPlace, checkRows, type PageTable, PlainTable, reservedBytes, type Span } from "./table.ts";
import { ascii } from "./text.ts";

// The module fills a table in the memory; assembly/scan.ts describes it. The class here reads it.

/** 32-bit words at the start of the table's head: count, links and total of the page */
const foundWords = 8;
const tableHeadBytes = foundWords * 4 + expectedBytes;
const entryBytes = 64;
/** This bit of a text's end says that the text is not plain ASCII, or has escapes. */
const coded = 0x8000_0000;
const modes = [undefined, "match", "include", "outcome"];

/** Reads pages that lie in one memory, whose first `reservedBytes` are the scanner's own. */
interface Scanner {
  kind: "simd" | "plain";
  /** Makes a table for pages of up to `pageBytes`. It takes `tableBytes(pageBytes)` of the memory at `offset`, which is
   *  a multiple of 8. */
  table(offset: number, pageBytes: number): PageTable;
}

// for each 64 bytes of the page, 64 bits say where white space is
const maskBytes = (pageBytes: number) => Math.ceil(pageBytes / 64) * 8;
// The table has a row for each 256 bytes of the largest page. No real entry is smaller; a page of smaller ones is given
// up to the twin.
const leastEntryBytes = 256;
const rowsFor = (pageBytes: number) => Math.ceil(pageBytes / leastEntryBytes) + 1;

// Spans of the members that are looked for: 32 bytes for each row. No type has more than four members for its
// compartment; where more than two are looked for, `expect` allows fewer rows.
const spanBytes = 12;
const spansFor = (pageBytes: number) => Math.ceil((rowsFor(pageBytes) * 32) / spanBytes);

/** The bytes that a table takes, about half of the page. */
export const tableBytes = (pageBytes: number): number =>
  maskBytes(pageBytes) +
  tableHeadBytes +
  rowsFor(pageBytes) * entryBytes +
  Math.ceil((spansFor(pageBytes) * spanBytes) / 8) * 8;

// a module with the function `(func (result v128) i32.const 0 i8x16.splat)`, the smallest one that needs SIMD
const simdProbe = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 8, 1, 6, 0, 65, 0, 253, 15, 11];

/** Whether this machine has the instructions that the scanner uses. */
export const hasSimd = (): boolean => WebAssembly.validate(new Uint8Array(simdProbe));

/** The fastest scanner that this machine can run. The memory must not grow any more, since growth would detach the
 *  views that the scanner has of it.
 *  @param simd false takes the plain twin, for tests */
export function pickScanner(memory: WebAssembly.Memory, simd: boolean = hasSimd()): Scanner {
  if (!simd) return { kind: "plain", table: () => new PlainTable(memory) };
  const module = instantiate(memory);
  return { kind: "simd", table: (offset, pageBytes) => new SimdTable(memory, module, offset, pageBytes) };
}

interface Module {
  scan(page: number, length: number, table: number, maskBytes: number, rows: number, spans: number): number;
  emit(page: number, table: number, maskBytes: number, from: number, to: number, out: number): number;
  plainRows(page: number, table: number, maskBytes: number, from: number, to: number): number;
  prints(page: number, table: number, maskBytes: number, from: number, to: number, out: number): number;
}

let compiled: WebAssembly.Module | undefined;

function instantiate(memory: WebAssembly.Memory): Module {
  compiled ??= new WebAssembly.Module(readFileSync(new URL("./scan.wasm", import.meta.url)));
  return new WebAssembly.Instance(compiled, { env: { memory } }).exports as unknown as Module;
}

class SimdTable implements PageTable {
  readonly #module: Module;
  readonly #memory: Buffer;
  readonly #words: Uint32Array;
  readonly #at: number;
  readonly #pageBytes: number;
  readonly #maskBytes: number;
  /** where the spans of members begin, in #words */
  readonly #spansWord: number;
  readonly #twin: PlainTable;
  #handedOver = false;
  #page = 0;
  #bytes: Buffer = Buffer.alloc(0);
  #print = printer(nothingExpected.key);
  #members = 0;
  /** how many rows a page may have; fewer when many members are looked for */
  #rows = 0;

  constructor(memory: WebAssembly.Memory, module: Module, offset: number, pageBytes: number) {
    this.#module = module;
    this.#memory = Buffer.from(memory.buffer);
    if (offset % 8 !== 0 || offset < reservedBytes || offset + tableBytes(pageBytes) > this.#memory.length)
      throw new RangeError(`no place for a table of ${tableBytes(pageBytes)} bytes at ${offset}`);
    this.#at = offset;
    this.#pageBytes = pageBytes;
    this.#maskBytes = maskBytes(pageBytes);
    this.#words = new Uint32Array(
      memory.buffer,
      offset + this.#maskBytes,
      (tableBytes(pageBytes) - this.#maskBytes) >> 2,
    );
    this.#words.fill(0, 0, foundWords);
    this.#spansWord = (tableHeadBytes + rowsFor(pageBytes) * entryBytes) >> 2;
    this.#twin = new PlainTable(memory);
    this.expect(nothingExpected);
  }

  scan(offset: number, length: number): void {
    checkPlace(this.#memory, offset, length);
    if (length > this.#pageBytes)
      throw new RangeError(`a page of ${length} bytes, the table is for ${this.#pageBytes}`);
    this.#page = offset;
    this.#bytes = this.#memory.subarray(offset, offset + length);
    this.#handedOver = false;
    // isUtf8 reads 26 to 60 GB/s, so it costs next to nothing
    if (
      isUtf8(this.#bytes) &&
      this.#module.scan(
        offset,
        length,
        this.#at,
        this.#maskBytes,
        this.#rows,
        this.#at + this.#maskBytes + this.#spansWord * 4,
      ) !== 0
    )
      return;
    this.#words.fill(0, 0, foundWords);
    this.#handedOver = true;
    this.#twin.scan(offset, length);
  }
  get handedOver(): boolean {
    return this.#handedOver;
  }
  get count(): number {
    return this.#handedOver ? this.#twin.count : this.#words[0]!;
  }
  get next(): string | undefined {
    return this.#handedOver ? this.#twin.next : this.#text(1);
  }
  get self(): string | undefined {
    return this.#handedOver ? this.#twin.self : this.#text(3);
  }
  get total(): number | undefined {
    if (this.#handedOver) return this.#twin.total;
    if (this.#words[5] === 0) return undefined;
    const value = Number(this.#memory.toString("latin1", this.#page + this.#words[5]!, this.#page + this.#words[6]!));
    return Number.isSafeInteger(value) ? value : undefined;
  }
  start(row: number): number {
    return this.#handedOver ? this.#twin.start(row) : this.#words[this.#word(row)]!;
  }
  end(row: number): number {
    return this.#handedOver ? this.#twin.end(row) : this.#words[this.#word(row) + 1]!;
  }
  isCompact(row: number): boolean {
    return this.#handedOver ? this.#twin.isCompact(row) : this.#words[this.#word(row) + 2] !== 0;
  }
  mode(row: number): string | undefined {
    if (this.#handedOver) return this.#twin.mode(row);
    const word = this.#word(row);
    const mode = this.#words[word + 3]!;
    return mode < modes.length ? modes[mode] : this.#text(word + 4);
  }
  type(row: number): string {
    return this.#handedOver ? this.#twin.type(row) : (this.#text(this.#word(row) + 6) ?? "");
  }
  id(row: number): string {
    return this.#handedOver ? this.#twin.id(row) : (this.#text(this.#word(row) + 8) ?? "");
  }
  lastUpdated(row: number): string | undefined {
    return this.#handedOver ? this.#twin.lastUpdated(row) : this.#text(this.#word(row) + 10);
  }
  versionId(row: number): string | undefined {
    return this.#handedOver ? this.#twin.versionId(row) : this.#text(this.#word(row) + 12);
  }
  resource(row: number): Buffer {
    return this.#memory.subarray(this.#page + this.start(row), this.#page + this.end(row));
  }
  emit(from: number, to: number, out: number): number {
    if (this.#handedOver) return this.#twin.emit(from, to, out);
    checkRows(this, from, to);
    checkPlace(this.#memory, out, this.room(from, to));
    return this.#module.emit(this.#page, this.#at, this.#maskBytes, from, to, out);
  }
  room(from: number, to: number): number {
    return from < to ? this.end(to - 1) - this.start(from) + 1 : 0;
  }
  expect(expected: Expected): void {
    this.#twin.expect(expected);
    this.#print = printer(expected.key);
    const { members } = expected;
    writeExpected(expected, this.#memory.subarray(this.#at + this.#maskBytes + foundWords * 4));
    this.#members = members.length;
    this.#rows = Math.min(
      rowsFor(this.#pageBytes),
      members.length ? Math.floor(spansFor(this.#pageBytes) / members.length) : Infinity,
    );
  }
  plainRows(from: number, to: number): number {
    if (this.#handedOver) return this.#twin.plainRows(from, to);
    checkRows(this, from, to);
    return this.#module.plainRows(this.#page, this.#at, this.#maskBytes, from, to);
  }
  prints(from: number, to: number, out: number): void {
    checkRows(this, from, to);
    checkPlace(this.#memory, out, (to - from) * printBytes);
    for (let row = from; row < to; row++) {
      const at = out + (row - from) * printBytes;
      if (!this.#handedOver) row = this.#module.prints(this.#page, this.#at, this.#maskBytes, row, to, at);
      if (row < to) this.#memory.set(this.#print(this.id(row)), out + (row - from) * printBytes);
    }
  }
  member(row: number, index: number): Span | undefined {
    if (this.#handedOver) return this.#twin.member(row, index);
    if (index >= this.#members) return undefined;
    const word = this.#span(row, index);
    const from = this.#words[word]!;
    return from === 0 ? undefined : { from, to: this.#words[word + 1]! };
  }
  reference(row: number, index: number): Span | "none" | "parse" {
    if (this.#handedOver) return this.#twin.reference(row, index);
    if (index >= this.#members) return "none";
    const word = this.#span(row, index);
    const found = this.#words[word + 2]!;
    if (found < 2) return found === 0 ? "none" : "parse";
    const from = this.#words[word]! + (found >>> 7);
    return { from, to: from + (found & 0x7f) };
  }
  get bytes(): Buffer {
    return this.#bytes;
  }
  page(): Page {
    if (this.#handedOver) return this.#twin.page();
    const { next, self, total } = this;
    const entries = Array.from({ length: this.count }, (_, row) => this.#entry(row));
    return { entries, next, self, total };
  }

  #entry(row: number): Entry {
    return {
      start: this.start(row),
      end: this.end(row),
      compact: this.isCompact(row),
      type: this.type(row),
      id: this.id(row),
      lastUpdated: this.lastUpdated(row),
      mode: this.mode(row),
    };
  }

  #span(row: number, index: number): number {
    return this.#spansWord + ((row * this.#members + index) * spanBytes) / 4;
  }

  #word(row: number): number {
    return (tableHeadBytes + row * entryBytes) >> 2;
  }

  /** The text whose span begins at `word`; undefined where there is none. */
  #text(word: number): string | undefined {
    const from = this.#words[word]!;
    const to = this.#words[word + 1]!;
    if (from === 0) return undefined;
    if (to < coded) return ascii(this.#memory, this.#page + from, this.#page + to);
    // It is not plain ASCII, or has escapes: JSON.parse decodes it, with the quotes around it.
    return JSON.parse(this.#memory.toString("utf8", this.#page + from - 1, this.#page + to - coded + 1)) as string;
  }
}
