import { beginning, checkExpected, type Expected, nothingExpected, plainId, plainInstant } from "./expected.ts";
import type { Page } from "./page.ts";
import { copyResource, memberSpan, scanPage } from "./plain.ts";
import { printBytes, printer } from "./print.ts";

export type { Expected };

/** A value in the page: offsets from the page's first byte, `to` is behind it. */
export interface Span {
  from: number;
  to: number;
}

/** What a page holds: a row for each entry with a resource. A row holds offsets, counted from the page's first byte;
 *  its texts are read from the page when they are asked for, so the page must stay where it is until its rows are done
 *  with. A table is used again: each scan overwrites the one before. */
export interface PageTable {
  /** Reads the page of `length` bytes at `offset` in the memory. The memory must extend by `slack` bytes on both sides
   *  of the page, and the page must lie behind the `reservedBytes`.
   *  @throws ScanError when the page is no search page
   *  @throws RangeError when its place is wrong */
  scan(offset: number, length: number): void;
  /** The SIMD scanner has handed the last page over to its plain twin, which takes some ten times as long. */
  readonly handedOver: boolean;
  /** rows */
  readonly count: number;
  /** links and total of the Bundle, as in `Page` */
  readonly next: string | undefined;
  readonly self: string | undefined;
  readonly total: number | undefined;
  /** offset of the resource's `{`, and behind its `}` */
  start(row: number): number;
  end(row: number): number;
  /** The resource has no white space outside strings: its bytes are its line. */
  isCompact(row: number): boolean;
  type(row: number): string;
  id(row: number): string;
  lastUpdated(row: number): string | undefined;
  versionId(row: number): string | undefined;
  mode(row: number): string | undefined;
  /** The resource's bytes, where they lie. */
  resource(row: number): Buffer;
  /** Copies the rows `from` to `to` - 1 as lines to `out` in the memory, and returns the offset behind the last one.
   *  The lines take at most `room` bytes; the `slack` bytes behind them may be overwritten, too. */
  emit(from: number, to: number, out: number): number;
  /** The most bytes of lines that `emit` can write. */
  room(from: number, to: number): number;
  /** Says what the next scans are for. @throws RangeError when it is not as `Expected` says */
  expect(expected: Expected): void;
  /** The first of the rows `from` to `to` - 1 that is not plainly a match; `to` when all are. A row is plainly a match
   *  when its search mode is absent or `match`, it has the expected type, its id is 1 to 64 of [A-Za-z0-9.-], and its
   *  lastUpdated has the form `dddd-dd-ddTdd:dd:dd.dddZ` and lies before `till` and not before `from`. A row whose
   *  texts are spelled with escapes may count as not plain. */
  plainRows(from: number, to: number): number;
  /** Writes the fingerprints of the rows `from` to `to` - 1 to `out` in the memory, one after the other: 16 bytes each,
   *  as print.ts makes them of the id. */
  prints(from: number, to: number, out: number): void;
  /** Where the value of the resource's member `Expected.members[index]` lies; the last one, if there are
   *  several. */
  member(row: number, index: number): Span | undefined;
  /** Which patient that value refers to. A Span is the patient's id, where the value is like
   *  `{"reference":"Patient/x","display":"…"}`, or a list of one such object; the reference may also be a URL below
   *  `Expected.base`. "none": it refers to no patient. "parse": only parsing the value can tell; the plain twin says
   *  this of every value. */
  reference(row: number, index: number): Span | "none" | "parse";
  /** The page's bytes, where they lie. */
  readonly bytes: Buffer;
  /** The page as objects. */
  page(): Page;
}

/** The scanner works on 64 bytes at a time, so it reads up to this many bytes beyond a page, and writes up to this many
 *  behind lines. */
export const slack = 64;

/** Bytes at the start of the memory that the scanner needs for itself. */
export const reservedBytes = 131_072;

/** The table of the plain twin, which reads a page by plain.ts. */
export class PlainTable implements PageTable {
  readonly handedOver = false;
  readonly #memory: Buffer;
  #bytes: Buffer;
  #page: Page = { entries: [], next: undefined, self: undefined, total: undefined };
  #expected = nothingExpected;
  #print = printer(nothingExpected.key);

  constructor(memory: WebAssembly.Memory) {
    this.#memory = this.#bytes = Buffer.from(memory.buffer);
  }

  scan(offset: number, length: number): void {
    checkPlace(this.#memory, offset, length);
    this.#bytes = this.#memory.subarray(offset, offset + length);
    this.#page = { entries: [], next: undefined, self: undefined, total: undefined };
    this.#page = scanPage(this.#bytes);
  }

  get count(): number {
    return this.#page.entries.length;
  }
  get next(): string | undefined {
    return this.#page.next;
  }
  get self(): string | undefined {
    return this.#page.self;
  }
  get total(): number | undefined {
    return this.#page.total;
  }
  start(row: number): number {
    return this.#page.entries[row]!.start;
  }
  end(row: number): number {
    return this.#page.entries[row]!.end;
  }
  isCompact(row: number): boolean {
    return this.#page.entries[row]!.compact;
  }
  type(row: number): string {
    return this.#page.entries[row]!.type;
  }
  id(row: number): string {
    return this.#page.entries[row]!.id;
  }
  lastUpdated(row: number): string | undefined {
    return this.#page.entries[row]!.lastUpdated;
  }
  versionId(row: number): string | undefined {
    const { meta } = JSON.parse(this.resource(row).toString()) as { meta?: { versionId?: unknown } };
    return typeof meta?.versionId === "string" ? meta.versionId : undefined;
  }
  mode(row: number): string | undefined {
    return this.#page.entries[row]!.mode;
  }
  resource(row: number): Buffer {
    return this.#bytes.subarray(this.start(row), this.end(row));
  }
  emit(from: number, to: number, out: number): number {
    checkRows(this, from, to);
    checkPlace(this.#memory, out, this.room(from, to));
    for (let row = from; row < to; row++) {
      out = copyResource(this.#bytes, this.#page.entries[row]!, this.#memory, out);
      this.#memory[out++] = 0x0a;
    }
    return out;
  }
  room(from: number, to: number): number {
    return from < to ? this.end(to - 1) - this.start(from) + 1 : 0;
  }
  expect(expected: Expected): void {
    checkExpected(expected);
    this.#print = printer(expected.key);
    this.#expected = expected;
  }
  plainRows(from: number, to: number): number {
    checkRows(this, from, to);
    for (let row = from; row < to; row++) if (!this.#isPlain(row)) return row;
    return Math.max(from, to);
  }
  prints(from: number, to: number, out: number): void {
    checkRows(this, from, to);
    checkPlace(this.#memory, out, (to - from) * printBytes);
    for (let row = from; row < to; row++) this.#memory.set(this.#print(this.id(row)), out + (row - from) * printBytes);
  }
  member(row: number, index: number): Span | undefined {
    const name = this.#expected.members[index];
    return name === undefined ? undefined : memberSpan(this.#bytes, this.start(row), name);
  }
  reference(row: number, index: number): Span | "none" | "parse" {
    return this.member(row, index) ? "parse" : "none";
  }
  get bytes(): Buffer {
    return this.#bytes;
  }
  page(): Page {
    return this.#page;
  }

  #isPlain(row: number): boolean {
    const { mode, type, id, lastUpdated } = this.#page.entries[row]!;
    return (
      (mode === undefined || mode === "match") &&
      type === this.#expected.type &&
      plainId.test(id) &&
      lastUpdated !== undefined &&
      plainInstant.test(lastUpdated) &&
      lastUpdated < this.#expected.till &&
      lastUpdated >= (this.#expected.from ?? beginning)
    );
  }
}

/** Checks a place in the memory, since the scanner would read or write a wrong one without an error.
 *  @throws RangeError: it is a mistake of the caller */
export function checkPlace(memory: Buffer, offset: number, length: number): void {
  if (offset < reservedBytes + slack || offset + length + slack > memory.length)
    throw new RangeError(
      `${length} bytes at ${offset}: a memory of ${memory.length} has place from ${reservedBytes + slack} till ${slack} before its end`,
    );
}

/** @throws RangeError when the table does not have the rows: it is a mistake of the caller */
export function checkRows({ count }: PageTable, from: number, to: number): void {
  if (from < 0 || to > count) throw new RangeError(`rows ${from} to ${to} of ${count}`);
}
