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
    const [low, high] = halves(this.#print(id));
    return this.#words[this.#find(low, high) + 1] !== 0;
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

export const randomKey = (): string => randomBytes(16).toString("hex");

/** the second is never 0 */
const halves = (print: Buffer): [low: number, high: number] => [print.readInt32LE(0), print.readInt32LE(4) || 1];
