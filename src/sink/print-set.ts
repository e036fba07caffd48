/** 32-bit words of a fingerprint */
export const printWords = 4;

const leastExpected = 1024;
/** A shard has about 100,000 resources. */
const mostExpected = 131_072;

/** A fingerprint as the four 32-bit words that `PrintSet` works with. */
export const wordsOf = (print: string): Uint32Array =>
  new Uint32Array(new Uint8Array(Buffer.from(print, "latin1")).buffer);

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

/** A set of fingerprints, in the order in which they were added. Each takes 16 bytes and another 16 of index, in typed
 *  arrays with room to grow; in a Set of strings it would take about 100. */
export class PrintSet {
  /** the fingerprints in their order, four words each */
  #words: Words;
  #count = 0;
  /** A hash table with open addressing. Each place has two words: the second word of a fingerprint, and 1 + its number
   *  in the order; 0 means that the place is free. The first of them nearly always tells two fingerprints apart without
   *  a look into #words, which is rarely in the caches. */
  #index: Words;
  /** Keeps the JIT from dropping #touch's reads as dead code. */
  touched = 0;

  /** @param expected how many there will be; there is room for this many from the start, at most for a usual shard's */
  constructor(expected = 0) {
    const room = 2 ** Math.ceil(Math.log2(Math.min(mostExpected, Math.max(leastExpected, expected))));
    const kept = spare.findIndex(({ words }) => words.length === printWords * room);
    if (kept < 0) {
      this.#words = new Uint32Array(printWords * room);
      this.#index = new Uint32Array(4 * room);
    } else [{ words: this.#words, index: this.#index }] = spare.splice(kept, 1) as [Spare];
  }

  /** Leaves the arrays to the next shard. This object is then empty, as if nothing had been shown. */
  close(): void {
    this.clear();
    const [words, index] = [this.#words, this.#index];
    const isUsual =
      index.length === words.length &&
      words.length >= leastExpected * printWords &&
      words.length <= mostExpected * printWords;
    if (isUsual && spare.length < mostSpare) spare.push({ words, index });
    this.#words = new Uint32Array(printWords);
    this.#index = new Uint32Array(4);
  }

  get count(): number {
    return this.#count;
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
    const to = this.#count * printWords;
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
    while (added < count && this.add(words, at + added * printWords)) added++;
    return added;
  }

  /** The words of the fingerprints `from` to `to` - 1, in a copy, since the arrays are replaced when they grow. */
  copy(from: number, to: number): Words {
    return this.#words.slice(from * printWords, to * printWords);
  }

  clear(): void {
    this.#index.fill(0);
    this.#count = 0;
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
      const from = (found - 1) * printWords;
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
    for (let i = 0; i < count; i++) all ^= index[(words[at + i * printWords]! << 1) & mask]!;
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
      const from = entry * printWords;
      let place = (this.#words[from]! << 1) & mask;
      while (this.#index[place + 1] !== 0) place = (place + 2) & mask;
      this.#index[place] = this.#words[from + 1]!;
      this.#index[place + 1] = entry + 1;
    }
  }
}
