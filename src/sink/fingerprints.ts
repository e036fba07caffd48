import { printer } from "../scan/print.ts";
import type { Claim } from "./claim.ts";
import { fingerprintPath } from "./layout.ts";
import type { Store } from "./store.ts";

export const fingerprintBytes = 16;
const wordsPer = fingerprintBytes / 4;
const leastExpected = 1024;
/** a shard is of about 100,000 (DESIGN section 7) */
const mostExpected = 131_072;

/** Stands for a resource's id in the working files, which are no place for ids: 16 bytes of a keyed hash (SipHash-2-4-128), here as a latin1 string.
 *  128 bits: no two of 10^12 ids are likely to meet.
 *  @param key Plan.key */
export function fingerprinter(key: string): (id: string) => string {
  const print = printer(key);
  return (id) => print(id).toString("latin1");
}

/** A fingerprint as the four words that `ShownResources` works with. */
export const wordsOf = (print: string): Uint32Array =>
  new Uint32Array(new Uint8Array(Buffer.from(print, "latin1")).buffer);

/** Calls for each fingerprint of a shard's segments, one segment in memory at a time. */
export async function eachFingerprint(
  store: Store,
  segments: readonly string[],
  visit: (print: string) => void,
): Promise<void> {
  for (const segment of segments) {
    const bytes = (await store.read(segment))?.bytes ?? Buffer.alloc(0);
    for (let at = 0; at < bytes.length; at += fingerprintBytes)
      visit(bytes.toString("latin1", at, at + fingerprintBytes));
  }
}

type Words = Uint32Array<ArrayBuffer>;
interface Spare {
  words: Words;
  /** free throughout */
  index: Words;
}
/** Of shards that are done, for those that come: 4 MB each, which the garbage collector would leave lying about (10 MiB of a worker's RSS). */
const spare: Spare[] = [];
const mostSpare = 16;

/** What a shard has shown so far, in that order: 16 bytes each and as many of index, with room to grow, in typed arrays (a Set of strings takes about 100). Goes into
 *  segments, each of which is in storage before a checkpoint names it. */
export class ShownResources {
  readonly #store: Store;
  readonly #shard: string;
  /** in their order */
  #words: Words;
  #count = 0;
  /** open addressing, two words each: a part of the fingerprint, and 1 + its place in the order; 0 = free. The part spares a look into the order, which is
   *  rarely in the caches */
  #index: Words;
  #segments: string[] = [];
  #stored = 0;
  /** of no use but that what is read for it is not left out */
  touched = 0;

  /** @param expected there is room for so many at once, up to a usual shard's; for more it grows */
  constructor(store: Store, shard: string, expected = 0) {
    this.#store = store;
    this.#shard = shard;
    const room = 2 ** Math.ceil(Math.log2(Math.min(mostExpected, Math.max(leastExpected, expected))));
    const kept = spare.findIndex(({ words }) => words.length === wordsPer * room);
    if (kept < 0) {
      this.#words = new Uint32Array(wordsPer * room);
      this.#index = new Uint32Array(4 * room);
    } else [{ words: this.#words, index: this.#index }] = spare.splice(kept, 1) as [Spare];
  }

  /** Leaves its arrays to another; nothing was shown then. */
  close(): void {
    this.clear();
    const [words, index] = [this.#words, this.#index];
    const isUsual =
      index.length === words.length &&
      words.length >= leastExpected * wordsPer &&
      words.length <= mostExpected * wordsPer;
    if (isUsual && spare.length < mostSpare) spare.push({ words, index });
    this.#words = new Uint32Array(wordsPer);
    this.#index = new Uint32Array(4);
  }

  get count(): number {
    return this.#count;
  }
  get segments(): readonly string[] {
    return this.#segments;
  }
  has(print: string): boolean {
    return this.#index[this.#find(wordsOf(print), 0) + 1] !== 0;
  }
  /** @param at of the fingerprint's first word
   *  @returns false when it was there */
  add(words: Uint32Array, at: number): boolean {
    const place = this.#find(words, at);
    if (this.#index[place + 1] !== 0) return false;
    const to = this.#count * wordsPer;
    if (to === this.#words.length) this.#grow();
    const known = this.#words;
    known[to] = words[at]!;
    known[to + 1] = words[at + 1]!;
    known[to + 2] = words[at + 2]!;
    known[to + 3] = words[at + 3]!;
    this.#index[place] = words[at + 1]!;
    this.#index[place + 1] = ++this.#count;
    if (this.#count * 4 > this.#index.length) this.#rehash();
    return true;
  }

  /** Adds the `count` fingerprints that lie one after the other from `at` on, up to the first that was there.
   *  @returns how many were added */
  addRun(words: Uint32Array, at: number, count: number): number {
    this.#touch(words, at, count);
    let added = 0;
    while (added < count && this.add(words, at + added * wordsPer)) added++;
    return added;
  }

  /** Stores the first `count`. @param nonce of the writer: one that was killed before its checkpoint may have left a segment
   *  @param put writes an object */
  async store(count: number, nonce: string, put: Claim["put"]): Promise<void> {
    if (count <= this.#stored) return;
    const name = fingerprintPath(this.#shard, this.#stored, nonce);
    // a copy: the words may move while they are sent
    const fresh = this.#words.slice(this.#stored * wordsPer, count * wordsPer);
    await put(name, Buffer.from(fresh.buffer), "application/octet-stream");
    this.#segments.push(name);
    this.#stored = count;
  }

  async restore(segments: readonly string[]): Promise<void> {
    this.clear();
    for (const segment of segments) {
      const bytes = (await this.#store.read(segment))?.bytes ?? Buffer.alloc(0);
      const words = new Uint32Array(new Uint8Array(bytes).buffer);
      for (let at = 0; at < words.length; at += wordsPer) this.add(words, at);
    }
    this.#segments = [...segments];
    this.#stored = this.#count;
  }

  clear(): void {
    this.#index.fill(0);
    this.#count = this.#stored = 0;
    this.#segments = [];
  }

  /** the place in the index where it is, or would go */
  #find(words: Uint32Array, at: number): number {
    const index = this.#index;
    const known = this.#words;
    const mask = index.length - 2;
    const part = words[at + 1]!;
    // a hash already: any of its words will do
    for (let place = (words[at]! << 1) & mask; ; place = (place + 2) & mask) {
      const found = index[place + 1]!;
      if (found === 0) return place;
      if (index[place] !== part) continue;
      const from = (found - 1) * wordsPer;
      if (known[from] === words[at] && known[from + 2] === words[at + 2] && known[from + 3] === words[at + 3])
        return place;
    }
  }

  /** The places lie anywhere in an index that is larger than most caches. Asked for together they come together, not one after the other. */
  #touch(words: Uint32Array, at: number, count: number): void {
    const index = this.#index;
    const mask = index.length - 2;
    let all = 0;
    for (let i = 0; i < count; i++) all ^= index[(words[at + i * wordsPer]! << 1) & mask]!;
    this.touched = all;
  }

  #grow(): void {
    const grown = new Uint32Array(this.#words.length * 2);
    grown.set(this.#words);
    this.#words = grown;
  }

  #rehash(): void {
    this.#index = new Uint32Array(this.#index.length * 2);
    const mask = this.#index.length - 2;
    for (let entry = 0; entry < this.#count; entry++) {
      const from = entry * wordsPer;
      let place = (this.#words[from]! << 1) & mask;
      while (this.#index[place + 1] !== 0) place = (place + 2) & mask;
      this.#index[place] = this.#words[from + 1]!;
      this.#index[place + 1] = entry + 1;
    }
  }
}
