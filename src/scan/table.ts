import { beginning, checkExpected, type Expected, nothingExpected, plainId, plainInstant } from "./expected.ts";
import { type Page, ScanError } from "./page.ts";
import { copyResource, memberSpan, scanPage } from "./plain.ts";
import { printBytes, printer } from "./print.ts";

export type { Expected };

/** A value in the page: offsets from the page's first byte, `to` is behind it. */
export interface Span {
  from: number;
  to: number;
}

/** What a page holds, row by row, read from the page's bytes when it is asked for. One table per chain: a scan overwrites the one before. The page must
 *  stay where it is until its rows are done with. Offsets count from the page's first byte. */
export interface PageTable {
  /** Reads the page of `length` bytes at `offset` of the memory; `slack` bytes before and behind it must lie in the memory too, behind `reservedBytes`.
   *  @throws ScanError */
  scan(offset: number, length: number): void;
  /** the last page was one for the twin, which is some ten times slower */
  readonly handedOver: boolean;
  readonly count: number;
  readonly next: string | undefined;
  readonly self: string | undefined;
  readonly total: number | undefined;
  start(row: number): number;
  end(row: number): number;
  /** the resource's bytes are its line: no white space outside strings */
  isCompact(row: number): boolean;
  type(row: number): string;
  id(row: number): string;
  lastUpdated(row: number): string | undefined;
  versionId(row: number): string | undefined;
  mode(row: number): string | undefined;
  /** The resource's bytes where they lie. */
  resource(row: number): Buffer;
  /** Copies the rows `from` to `to` - 1 as lines to `out` in the memory, and returns the offset behind the last one. The lines take at most `room`
   *  bytes; what stands in the `slack` bytes behind them is lost. */
  emit(from: number, to: number, out: number): number;
  /** The most that `emit` can write. */
  room(from: number, to: number): number;
  /** What the following scans are for. @throws RangeError when it is not as `Expected` says */
  expect(expected: Expected): void;
  /** The first row from `from` to `to` - 1 that is not plainly a match, else `to`. Plainly: search mode absent or `match`; the expected type; an id of 1 to
   *  64 of [A-Za-z0-9.-]; a lastUpdated of the form `dddd-dd-ddTdd:dd:dd.dddZ` before `till`, not before `from`. What is spelled with escapes may be said not to be plain. */
  plainRows(from: number, to: number): number;
  /** Writes a fingerprint of 16 bytes per row to `out` in the memory: of the id in UTF-8, as print.ts makes it. */
  prints(from: number, to: number, out: number): void;
  /** The value of the resource's own member `Expected.members[index]`, the last one if it stands more than once. */
  member(row: number, index: number): Span | undefined;
  /** What that value says of patients: `none` refers to one; or where the id lies when it is like `{"reference":"Patient/x","display":"…"}`, or a list of one
   *  such (also below `Expected.base`); of all others (and in the twin) `parse`. */
  reference(row: number, index: number): Span | "none" | "parse";
  /** The page's bytes where they lie. */
  readonly bytes: Buffer;
  /** The page as objects. */
  page(): Page;
}

/** Bytes around a page, and behind lines, that are touched although they hold nothing: the scanner works by 64 bytes. */
export const slack = 64;

/** What the scanner itself needs of the memory, at its start. */
export const reservedBytes = 131_072;

/** Whether a resource is JSON, to be asked of every Nth one: the SIMD scanner does not look at the order of tokens inside a resource, nor at the
 *  spelling of numbers and literals there.
 *  @param bytes the resource as it lies (`resource`), not its line: without white space `1 2` is a number
 *  @throws ScanError */
export function checkLine(bytes: Uint8Array): void {
  try {
    JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString());
  } catch {
    // its own message would show content
    throw new ScanError("syntax", "a resource of the page is not JSON");
  }
}

/** The table of the plain twin. */
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

/** A wrong place is a mistake of the caller and would be read or written without a fault. */
export function checkPlace(memory: Buffer, offset: number, length: number): void {
  if (offset < reservedBytes + slack || offset + length + slack > memory.length)
    throw new RangeError(
      `${length} bytes at ${offset}: a memory of ${memory.length} has place from ${reservedBytes + slack} till ${slack} before its end`,
    );
}

export function checkRows({ count }: PageTable, from: number, to: number): void {
  if (from < 0 || to > count) throw new RangeError(`rows ${from} to ${to} of ${count}`);
}
