/** Walks over JSON byte by byte, and checks its whole grammar. This is the plain way to read a page: it replaces
 *  the SIMD scanner where that cannot run or gives a page up, so it is always the one that says what is wrong with a
 *  page. It makes no objects: what its caller does not ask for is passed over.
 *
 *  `#string` is its hot loop, since most bytes of a page are inside strings. So its escapes are checked apart, and it
 *  works on local variables. */
import { ScanError } from "./page.ts";
import { decodeUTF8 } from "./text.ts";

/** JSON that is nested deeper is no FHIR resource. The bound keeps a hostile page from exhausting the stack. */
const maxDepth = 256;

export const quote = 0x22;
export const backslash = 0x5c;
export const isSpace = (byte: number) => byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;
const isDigit = (byte: number) => byte >= 0x30 && byte <= 0x39;

/** A callback returns this when nothing more is to be read. */
export const stopReading = Symbol("stopReading");

/** A cursor over JSON bytes. Each method reads one value or token at the cursor, checks its grammar and leaves the
 *  cursor behind it. Every method may throw a ScanError: `truncated` where the bytes end too early, `syntax` where they
 *  are not JSON. */
export class Walker {
  at = 0;
  /** how many bytes of white space outside strings were passed over so far */
  spaces = 0;
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** The byte at the cursor. */
  peek(): number {
    const byte = this.#bytes[this.at];
    if (byte === undefined) throw new ScanError("truncated", "the page ends too early");
    return byte;
  }

  /** Passes over white space. */
  space(): void {
    const from = this.at;
    while (this.at < this.#bytes.length && isSpace(this.#bytes[this.at]!)) this.at++;
    this.spaces += this.at - from;
  }

  /** Reads an object. `onMember` must read the member's value, or return `stopReading`: then the cursor stays where it
   *  is. */
  members(onMember: (key: string) => unknown): void {
    this.#expect(0x7b);
    this.space();
    if (this.peek() === 0x7d) {
      this.at++;
      return;
    }
    for (;;) {
      if (this.peek() !== quote) this.#fail();
      const key = this.#key();
      this.space();
      this.#expect(0x3a);
      this.space();
      if (onMember(key) === stopReading) return;
      this.space();
      if (this.#closes(0x7d)) return;
      this.space();
    }
  }

  /** Reads an object as `members` does; passes over any other value.
   *  @param depth how deep the value lies
   *  @returns whether it was an object */
  objectOr(depth: number, onMember: (key: string) => void): boolean {
    if (this.peek() !== 0x7b) {
      this.value(depth);
      return false;
    }
    this.members(onMember);
    return true;
  }

  /** Reads an array; `onElement` must read one value. Passes over any other value. */
  elements(onElement: () => void): void {
    if (this.peek() !== 0x5b) {
      this.value(2);
      return;
    }
    this.at++;
    this.space();
    if (this.peek() === 0x5d) {
      this.at++;
      return;
    }
    for (;;) {
      onElement();
      this.space();
      if (this.#closes(0x5d)) return;
      this.space();
    }
  }

  /** Reads a string. @returns its text; undefined for any other value, which is passed over */
  text(): string | undefined {
    if (this.peek() !== quote) {
      this.value(5);
      return undefined;
    }
    const from = this.at;
    const escaped = this.#string();
    return escaped
      ? (JSON.parse(decodeUTF8(this.#bytes, from, this.at)) as string)
      : decodeUTF8(this.#bytes, from + 1, this.at - 1);
  }

  /** Reads a whole number. @returns undefined for any other value, which is passed over */
  integer(): number | undefined {
    const from = this.at;
    this.value(2);
    const value = Number(decodeUTF8(this.#bytes, from, this.at));
    return Number.isSafeInteger(value) ? value : undefined;
  }

  /** Passes over any value. @param depth how deep it lies */
  value(depth: number): void {
    const byte = this.peek();
    if (byte === quote) this.#string();
    else if (byte === 0x7b) this.#skipObject(depth);
    else if (byte === 0x5b) {
      if (depth > maxDepth) throw new ScanError("syntax", `the page is nested deeper than ${maxDepth}`);
      this.elements(() => this.value(depth + 1));
    } else if (byte === 0x74) this.#literal("true");
    else if (byte === 0x66) this.#literal("false");
    else if (byte === 0x6e) this.#literal("null");
    else this.#number();
  }

  /** Passes over an object without decoding its keys: most of a page is read by this. */
  #skipObject(depth: number): void {
    if (depth > maxDepth) throw new ScanError("syntax", `the page is nested deeper than ${maxDepth}`);
    this.at++;
    this.space();
    if (this.peek() === 0x7d) {
      this.at++;
      return;
    }
    for (;;) {
      if (this.peek() !== quote) this.#fail();
      this.#string();
      this.space();
      this.#expect(0x3a);
      this.space();
      this.value(depth + 1);
      this.space();
      if (this.#closes(0x7d)) return;
      this.space();
    }
  }

  #key(): string {
    const from = this.at;
    return this.#string()
      ? (JSON.parse(decodeUTF8(this.#bytes, from, this.at)) as string)
      : decodeUTF8(this.#bytes, from + 1, this.at - 1);
  }

  /** Passes over a string. @returns whether it has escapes */
  #string(): boolean {
    const bytes = this.#bytes;
    let escaped = false;
    let at = this.at + 1;
    for (;;) {
      const byte = bytes[at];
      if (byte === quote) break;
      if (byte === undefined) throw new ScanError("truncated", "the page ends inside a string");
      if (byte < 0x20) throw new ScanError("syntax", "a string holds a raw control character");
      if (byte === backslash) {
        escaped = true;
        at = this.#escape(at);
      } else at++;
    }
    this.at = at + 1;
    return escaped;
  }

  /** Checks the escape whose backslash is at `at`. @returns the offset behind it */
  #escape(at: number): number {
    const bytes = this.#bytes;
    const kind = bytes[at + 1];
    if (kind === undefined) throw new ScanError("truncated", "the page ends inside a string");
    if (kind !== 0x75) {
      if (!`"\\/bfnrt`.includes(String.fromCharCode(kind))) this.#fail();
      return at + 2;
    }
    for (let i = at + 2; i < at + 6; i++) {
      const hex = bytes[i];
      if (hex === undefined) throw new ScanError("truncated", "the page ends inside a string");
      if (!isDigit(hex) && !((hex | 0x20) >= 0x61 && (hex | 0x20) <= 0x66)) this.#fail();
    }
    return at + 6;
  }

  #number(): void {
    const bytes = this.#bytes;
    let at = this.at;
    const digits = () => {
      const from = at;
      while (at < bytes.length && isDigit(bytes[at]!)) at++;
      if (at === from) {
        if (at >= bytes.length) throw new ScanError("truncated", "the page ends inside a number");
        this.#fail();
      }
    };
    if (bytes[at] === 0x2d) at++;
    if (bytes[at] === 0x30) at++;
    else digits();
    if (bytes[at] === 0x2e) {
      at++;
      digits();
    }
    if (bytes[at] === 0x65 || bytes[at] === 0x45) {
      at++;
      if (bytes[at] === 0x2b || bytes[at] === 0x2d) at++;
      digits();
    }
    this.at = at;
  }

  #literal(word: string): void {
    for (let i = 0; i < word.length; i++, this.at++) if (this.peek() !== word.charCodeAt(i)) this.#fail();
  }

  /** Passes over `close` or a comma. @returns whether it was `close` */
  #closes(close: number): boolean {
    const byte = this.peek();
    this.at++;
    if (byte === close) return true;
    if (byte !== 0x2c) this.#fail();
    return false;
  }

  #expect(byte: number): void {
    if (this.peek() !== byte) this.#fail();
    this.at++;
  }

  #fail(): never {
    throw new ScanError("syntax", `the page is not JSON at byte ${this.at}`);
  }
}
