import { randomBytes } from "node:crypto";
import { printer } from "../scan/print.ts";

/** Ids, as 8 bytes of a keyed hash each, in 11 to 22 bytes of typed arrays (a Set of strings takes about 100). Two of 10 million ids meet once in 400,000 sets,
 *  and as the key is random nobody can make them: whoever needs to be sure looks at the ids of the two. */
export class IdSet {
  readonly #print: (id: string) => Buffer;
  /** open addressing, two words each; both 0 = free */
  #words: Int32Array;
  #count = 0;

  /** @param expected ids for which it does not have to grow */
  constructor(expected = 0, key = randomKey()) {
    this.#print = printer(key);
    this.#words = new Int32Array(2 * Math.max(1024, 2 ** Math.ceil(Math.log2((expected * 4) / 3))));
  }

  get size(): number {
    return this.#count;
  }
  get bytes(): number {
    return this.#words.byteLength;
  }

  has(id: string): boolean {
    return this.hasPrint(this.#print(id));
  }

  hasPrint(print: Buffer): boolean {
    const [low, high] = halves(print);
    return this.#words[this.#find(low, high) + 1] !== 0;
  }

  /** keeps its memory */
  clear(): void {
    this.#words.fill(0);
    this.#count = 0;
  }

  /** @returns false when it, or one with the same hash, was there */
  add(id: string): boolean {
    return this.addPrint(this.#print(id));
  }

  /** @param print of `printer` with the set's key */
  addPrint(print: Buffer): boolean {
    const [low, high] = halves(print);
    const place = this.#find(low, high);
    if (this.#words[place + 1] !== 0) return false;
    this.#words[place] = low;
    this.#words[place + 1] = high;
    if (++this.#count * 8 > this.#words.length * 3) this.#grow();
    return true;
  }

  #find(low: number, high: number): number {
    const words = this.#words;
    const mask = words.length - 2;
    for (let place = (low << 1) & mask; ; place = (place + 2) & mask)
      if (words[place + 1] === 0 || (words[place] === low && words[place + 1] === high)) return place;
  }

  #grow(): void {
    const old = this.#words;
    this.#words = new Int32Array(old.length * 2);
    for (let at = 0; at < old.length; at += 2)
      if (old[at + 1] !== 0) {
        const place = this.#find(old[at]!, old[at + 1]!);
        this.#words[place] = old[at]!;
        this.#words[place + 1] = old[at + 1]!;
      }
  }
}

/** a set that has this many places per id has room for them all without growing, also where residue classes are not quite even */
const placesPerId = 1 / 0.7;
/** so many ids with the hash of another are no accident any more: one look at them is enough */
const enough = 100;

/** Finds ids that come twice among more than memory holds: whoever looks shows all ids once a pass, and each pass keeps those of one residue class. */
export class Doubles {
  readonly #places: number;
  readonly #print: (id: string) => Buffer;
  readonly #ids: IdSet;
  readonly #suspects = new IdSet();
  #pass = 0;
  #passes = 1;

  /** @param most ids of one kind that will be shown
   *  @param bytes that they may take, a power of two from 8,192 on
   *  @param print for tests */
  constructor(most: number, bytes: number, print = printer(randomKey())) {
    this.#places = bytes / 8;
    this.#print = print;
    this.#ids = new IdSet(Math.min(most, this.#places * 0.75));
  }

  /** how often `count` ids have to be shown */
  passesFor(count: number): number {
    return Math.max(1, Math.ceil((count * placesPerId) / this.#places));
  }

  /** Ids that are shown from now on are of one kind and one pass. */
  begin(pass: number, passes: number): void {
    if (pass === 0) this.#suspects.clear();
    this.#ids.clear();
    this.#pass = pass;
    this.#passes = passes;
  }

  see(id: string): void {
    const print = this.#print(id);
    // the set takes its places by the first half
    if (print.readUInt32LE(4) % this.#passes !== this.#pass || this.#suspects.size >= enough) return;
    if (!this.#ids.addPrint(print)) this.#suspects.addPrint(print);
  }

  /** whether there may be ids that were shown twice */
  get suspected(): boolean {
    return this.#suspects.size > 0;
  }

  /** whether this one, or another with its hash, was shown twice */
  suspects(id: string): boolean {
    return this.#suspects.size > 0 && this.#suspects.hasPrint(this.#print(id));
  }
}

export const randomKey = (): string => randomBytes(16).toString("hex");

/** the second is never 0 */
const halves = (print: Buffer): [low: number, high: number] => [print.readInt32LE(0), print.readInt32LE(4) || 1];
