import { transient } from "../failure.ts";
import { printer } from "../scan/print.ts";
import type { ShardClaim } from "./claim.ts";
import { fingerprintPath, linesOfSegment } from "./layout.ts";
import type { Store } from "./store.ts";

export const fingerprintBytes = 16;
const wordsPer = fingerprintBytes / 4;
const leastExpected = 1024;
/** A shard has about 100,000 resources. */
const mostExpected = 131_072;

/** Makes fingerprints. A fingerprint stands for a resource's id in the working files, which must not hold ids: 16 bytes
 *  of a keyed hash (SipHash-2-4-128), here as a latin1 string. With 128 bits, no two of 10^12 ids are likely to have
 *  the same one.
 *  @param key Plan.key */
export function fingerprinter(key: string): (id: string) => string {
  const print = printer(key);
  return (id) => print(id).toString("latin1");
}

/** A fingerprint as the four 32-bit words that `ShownResources` works with. */
export const wordsOf = (print: string): Uint32Array =>
  new Uint32Array(new Uint8Array(Buffer.from(print, "latin1")).buffer);

/** Calls `visit` for each fingerprint of a shard's segments, with one segment in memory at a time.
 *  @throws transient Internal when a segment is missing: what it holds would be exported a second time */
export async function eachFingerprint(
  store: Store,
  segments: readonly string[],
  visit: (print: string) => void,
): Promise<void> {
  for (const segment of segments) {
    const bytes = await readSegment(store, segment);
    for (let at = 0; at < bytes.length; at += fingerprintBytes)
      visit(bytes.toString("latin1", at, at + fingerprintBytes));
  }
}

async function readSegment(store: Store, segment: string): Promise<Buffer> {
  const found = await store.read(segment);
  if (!found) throw transient("Internal", `${segment} is missing; another worker has completed or removed the export`);
  return found.bytes;
}

/** Calls `visit` with the bytes of those fingerprints of a segment whose resources became lines of the output. */
export async function eachWritten(
  store: Store,
  segments: readonly string[],
  visit: (prints: Buffer) => void,
): Promise<void> {
  for (const segment of segments) {
    const bytes = await readSegment(store, segment);
    const lines = linesOfSegment(segment);
    visit(lines === undefined ? bytes : bytes.subarray(0, lines * fingerprintBytes));
  }
}

type Words = Uint32Array<ArrayBuffer>;
interface Spare {
  words: Words;
  /** all zero: every place is free */
  index: Words;
}
/** Arrays of shards that are done, for the next shards. They have 4 MB each, and the garbage collector would free them
 *  late: that costs a worker 10 MiB of RSS. */
const spare: Spare[] = [];
const mostSpare = 16;

/** The fingerprints of the resources that a shard has shown so far, in the order they were shown. Each takes 16 bytes
 *  and another 16 of index, in typed arrays with room to grow; in a Set of strings it would take about 100. They are
 *  stored in segments, each of them before a checkpoint names it. */
export class ShownResources {
  readonly #store: Store;
  readonly #shard: string;
  /** the fingerprints in their order, four words each */
  #words: Words;
  #count = 0;
  /** A hash table with open addressing. Each place has two words: the second word of a fingerprint, and 1 + its number
   *  in the order; 0 means that the place is free. The first of them nearly always tells two fingerprints apart without
   *  a look into #words, which is rarely in the caches. */
  #index: Words;
  #segments: string[] = [];
  /** Which of the fingerprints that are not stored yet are of resources that are not for the output, by their number in
   *  the order. */
  readonly #passed = new Set<number>();
  /** how many fingerprints the segments hold */
  #stored = 0;
  /** Keeps the JIT from dropping #touch's reads as dead code. */
  touched = 0;

  /** @param expected how many there will be; there is room for this many from the start, at most for a usual shard's */
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

  /** Leaves the arrays to the next shard. This object is then empty, as if nothing had been shown. */
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
  /** Adds a fingerprint.
   *  @param at index of its first word in `words`
   *  @returns false when it is known already */
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

  /** Adds the `count` fingerprints that lie one after the other from `at` on, up to the first that is known already.
   *  @returns how many were added */
  addRun(words: Uint32Array, at: number, count: number): number {
    this.#touch(words, at, count);
    let added = 0;
    while (added < count && this.add(words, at + added * wordsPer)) added++;
    return added;
  }

  /** The resource of the last fingerprint is not for the output. */
  pass(): void {
    this.#passed.add(this.#count - 1);
  }

  /** Stores the first `count` fingerprints, as far as they are not in segments yet. In a segment those of lines come
   *  first, and its name says how many they are, so that it can be told later what was written.
   *  @param nonce of the writer, so that the name is new: a writer that was killed before its checkpoint may have left
   *  a segment
   *  @param put writes an object */
  async store(count: number, nonce: string, put: ShardClaim["put"]): Promise<void> {
    if (count <= this.#stored) return;
    // a copy, since #grow may move the words while they are sent
    const fresh = this.#words.slice(this.#stored * wordsPer, count * wordsPer);
    const lines = this.#linesFirst(fresh, count);
    const name = fingerprintPath(this.#shard, this.#stored, nonce, lines);
    await put(name, Buffer.from(fresh.buffer));
    this.#segments.push(name);
    this.#stored = count;
  }

  /** Reads the segments that a checkpoint names, and continues behind them. */
  async restore(segments: readonly string[]): Promise<void> {
    this.clear();
    for (const segment of segments) {
      const bytes = await readSegment(this.#store, segment);
      const words = new Uint32Array(new Uint8Array(bytes).buffer);
      for (let at = 0; at < words.length; at += wordsPer) this.add(words, at);
    }
    this.#segments = [...segments];
    this.#stored = this.#count;
  }

  /** Sorts fresh fingerprints, the last of the first `count`: those of lines, then the others. Within each the order
   *  stays. @returns how many are of lines; undefined: all */
  #linesFirst(fresh: Words, count: number): number | undefined {
    const passed: number[] = [];
    for (const at of this.#passed) if (at < count) passed.push(at);
    if (passed.length === 0) return undefined;
    const others = new Uint32Array(passed.length * wordsPer);
    let [lines, other] = [0, 0];
    for (let at = this.#stored; at < count; at++) {
      const from = (at - this.#stored) * wordsPer;
      if (this.#passed.delete(at)) others.set(fresh.subarray(from, from + wordsPer), wordsPer * other++);
      else fresh.copyWithin(wordsPer * lines++, from, from + wordsPer);
    }
    fresh.set(others, lines * wordsPer);
    return lines;
  }

  clear(): void {
    this.#passed.clear();
    this.#index.fill(0);
    this.#count = this.#stored = 0;
    this.#segments = [];
  }

  /** The place in the index where the fingerprint at `at` is, or the free place where it belongs. */
  #find(words: Uint32Array, at: number): number {
    const index = this.#index;
    const known = this.#words;
    const mask = index.length - 2;
    const part = words[at + 1]!;
    // a fingerprint is a hash already: its first word says where to begin
    for (let place = (words[at]! << 1) & mask; ; place = (place + 2) & mask) {
      const found = index[place + 1]!;
      if (found === 0) return place;
      if (index[place] !== part) continue;
      const from = (found - 1) * wordsPer;
      if (known[from] === words[at] && known[from + 2] === words[at + 2] && known[from + 3] === words[at + 3])
        return place;
    }
  }

  /** Reads the places of all `count` fingerprints in advance. They lie anywhere in an index that is larger than most
   *  caches; read in one loop, they are fetched from memory at the same time instead of one after the other. */
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
