import { ScanError } from "./page.ts";
import { decodeUTF8 } from "./text.ts";

// Deeper JSON than this is no FHIR resource; the bound keeps a hostile page from exhausting the stack.
const maxDepth = 256;

export const quote = 0x22;
export const backslash = 0x5c;
export const isSpace = (byte: number) => byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;
const isDigit = (byte: number) => byte >= 0x30 && byte <= 0x39;

/** What a callback answers when no more is to be read. */
export const stopReading = Symbol("stopReading");

/** A cursor over JSON bytes; each method reads one thing, checks its grammar and leaves the cursor behind it. */
export class Walker {
  at = 0;
  /** white space bytes met outside strings so far */
  spaces = 0;
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  peek(): number {
    const byte = this.#bytes[this.at];
    if (byte === undefined) throw new ScanError("truncated", "the page ends too early");
    return byte;
  }

  space(): void {
    const from = this.at;
    while (this.at < this.#bytes.length && isSpace(this.#bytes[this.at]!)) this.at++;
    this.spaces += this.at - from;
  }

  /** An object; `onMember` must read the member's value, or answer `stopReading`: the cursor stays where it is then. */
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

  /** An object as `members`; any other value is passed over and answers false. */
  objectOr(depth: number, onMember: (key: string) => void): boolean {
    if (this.peek() !== 0x7b) {
      this.value(depth);
      return false;
    }
    this.members(onMember);
    return true;
  }

  /** An array; `onElement` must read one value. Any other value is passed over. */
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

  /** A string, decoded; any other value is passed over and answers undefined. */
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

  integer(): number | undefined {
    const from = this.at;
    this.value(2);
    const value = Number(decodeUTF8(this.#bytes, from, this.at));
    return Number.isSafeInteger(value) ? value : undefined;
  }

  /** Any value, passed over. */
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

  /** As `members`, without decoding the keys: most of a page is passed over by this. */
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

  /** true: it holds escapes */
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
        const kind = bytes[++at];
        if (kind === undefined) throw new ScanError("truncated", "the page ends inside a string");
        if (kind === 0x75) {
          for (let i = 1; i <= 4; i++) {
            const hex = bytes[at + i];
            if (hex === undefined) throw new ScanError("truncated", "the page ends inside a string");
            if (!isDigit(hex) && !((hex | 0x20) >= 0x61 && (hex | 0x20) <= 0x66)) this.#fail();
          }
          at += 4;
        } else if (!`"\\/bfnrt`.includes(String.fromCharCode(kind))) this.#fail();
      }
      at++;
    }
    this.at = at + 1;
    return escaped;
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
