import { randomBytes } from "node:crypto";
import { printer } from "../scan/print.ts";

/** A set of ids that keeps 8 bytes of a keyed hash of each, in 11 to 22 bytes of typed arrays. (A Set of strings takes
 *  about 100 bytes per id.) Of 400,000 sets of 10 million ids, one has two ids with the same hash. The key is random,
 *  so nobody can choose such ids. Who must be sure that two ids are equal compares them. */
export class IdSet {
  readonly #print: (id: string) => Buffer;
  /** open addressing: two words per place, the second of them 0 where the place is free */
  #words: Int32Array;
  #count = 0;

  /** @param expected how many ids it takes without growing */
  constructor(expected = 0, key = randomKey()) {
    this.#print = printer(key);
    this.#words = new Int32Array(2 * Math.max(1024, 2 ** Math.ceil(Math.log2((expected * 4) / 3))));
  }

  get size(): number {
    return this.#count;
  }

  has(id: string): boolean {
    return this.hasPrint(this.#print(id));
  }

  hasPrint(print: Buffer): boolean {
    const [low, high] = halves(print);
    return this.#words[this.#find(low, high) + 1] !== 0;
  }

  /** Removes all ids and keeps the memory. */
  clear(): void {
    this.#words.fill(0);
    this.#count = 0;
  }

  /** @returns false when the set already has this id, or another with the same hash */
  add(id: string): boolean {
    return this.addPrint(this.#print(id));
  }

  /** @param print what `printer` makes of an id, with the key of the set
   *  @returns false when the set already has this hash */
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

/** With this many places per id a set does not have to grow, even if residue classes differ a little in size. */
const placesPerId = 1 / 0.7;
/** This many ids with the hash of another are no accident any more. No further ones are collected, because comparing
 *  these finds a resource that comes twice. */
const maxSuspects = 100;

/** Finds ids that come twice among more ids than fit into memory. The caller shows all ids once in each pass, and each
 *  pass keeps those of one residue class of the hash. What it finds are suspects, because two ids may have one hash. */
export class DuplicateFinder {
  readonly #places: number;
  readonly #print: (id: string) => Buffer;
  readonly #ids: IdSet;
  readonly #suspects = new IdSet();
  #pass = 0;
  #passes = 1;

  /** @param most how many ids of one type will be shown at most
   *  @param bytes how much memory they may take: a power of two, at least 8,192
   *  @param print only tests change it */
  constructor(most: number, bytes: number, print = printer(randomKey())) {
    this.#places = bytes / 8;
    this.#print = print;
    this.#ids = new IdSet(Math.min(most, this.#places * 0.75));
  }

  /** How many passes `count` ids take. */
  passesFor(count: number): number {
    return Math.max(1, Math.ceil((count * placesPerId) / this.#places));
  }

  /** Begins a pass. The first pass also begins another type.
   *  @param pass from 0
   *  @param passes what `passesFor` says of the type */
  begin(pass: number, passes: number): void {
    if (pass === 0) this.#suspects.clear();
    this.#ids.clear();
    this.#pass = pass;
    this.#passes = passes;
  }

  /** Shows an id. */
  see(id: string): void {
    const print = this.#print(id);
    // the set places an id by the first half of its hash, so the residue class is of the second half
    if (print.readUInt32LE(4) % this.#passes !== this.#pass || this.#suspects.size >= maxSuspects) return;
    if (!this.#ids.addPrint(print)) this.#suspects.addPrint(print);
  }

  /** Whether any id may have been shown twice. */
  get suspected(): boolean {
    return this.#suspects.size > 0;
  }

  /** Whether this id, or another with its hash, was shown twice. */
  suspects(id: string): boolean {
    return this.#suspects.size > 0 && this.#suspects.hasPrint(this.#print(id));
  }
}

const randomKey = (): string => randomBytes(16).toString("hex");

/** The two words of a place. The second is never 0, which would mean that the place is free. */
const halves = (print: Buffer): [low: number, high: number] => [print.readInt32LE(0), print.readInt32LE(4) || 1];
