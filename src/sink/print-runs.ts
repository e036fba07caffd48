import type { MemoryBudget } from "./memory-budget.ts";
import { PrintFilter, printWords } from "./print-filter.ts";
import { ScratchFile } from "./scratch.ts";

/** so many fingerprints a part has on average, so that one read of 4 KiB finds any of them */
const partPrints = 256;
/** After so many fingerprints were found in a run, it is read into memory: what is shown again comes in the order in
 *  which it came first. */
const hitsToLoad = 1024;
const visitedAtATime = 65_536;

/** Fingerprints that were moved to disk together, in parts by hash. */
interface PrintRun {
  /** where it begins in the file, in bytes */
  at: number;
  /** index of the first fingerprint of each part, and behind the last */
  starts: Uint32Array;
  /** the bits of a fingerprint's first word below those that say its part */
  shift: number;
  /** how many were found in it since a run was read into memory */
  hits: number;
}

/** Fingerprints on the pod's disk. Each call of `add` makes a run, which lies in parts by the first bits of the
 *  fingerprints. In memory are where the parts begin (a 64th of a byte for each fingerprint), a filter that says of
 *  nearly all others that they are none of these, and at most one run. */
export class PrintRuns {
  readonly #budget: MemoryBudget;
  readonly #file = new ScratchFile();
  readonly #runs: PrintRun[] = [];
  readonly #filter: PrintFilter;
  #count = 0;
  /** a part that was read */
  #part = new Uint32Array(2 * partPrints * printWords);
  /** the run that is in memory */
  #near: { index: number; words: Uint32Array } | undefined;

  /** @param budget for what grows with the number of fingerprints, or may be left out */
  constructor(budget: MemoryBudget) {
    this.#budget = budget;
    this.#filter = new PrintFilter(budget);
  }

  get count(): number {
    return this.#count;
  }

  /** Adds the first `count` of some fingerprints, none of which is here yet. */
  add(words: Uint32Array, count: number): void {
    const bits = Math.max(0, Math.ceil(Math.log2(count / partPrints)));
    const shift = 32 - bits;
    const partOf = (first: number) => (bits === 0 ? 0 : first >>> shift);
    const starts = new Uint32Array(2 ** bits + 1);
    for (let at = 0; at < count * printWords; at += printWords) starts[partOf(words[at]!) + 1]!++;
    for (let part = 0; part < 2 ** bits; part++) starts[part + 1]! += starts[part]!;
    const next = starts.slice();
    const sorted = new Uint32Array(count * printWords);
    for (let at = 0; at < count * printWords; at += printWords) {
      let to = next[partOf(words[at]!)]!++ * printWords;
      for (let word = at; word < at + printWords; word++) sorted[to++] = words[word]!;
    }
    const at = this.#file.append(new Uint8Array(sorted.buffer));
    this.#runs.push({ at, starts, shift, hits: 0 });
    this.#count += count;
    if (!this.#filter.grow(this.#count)) this.#filter.add(sorted, count);
    else this.#visit((prints, some) => this.#filter.add(prints, some));
  }

  /** @param at index of the fingerprint's first word in `words` */
  has(words: Uint32Array, at: number): boolean {
    if (!this.#filter.mayHave(words, at)) return false;
    // from the run that has answered last, as what is shown again comes in its first order
    const first = this.#near?.index ?? 0;
    for (let step = 0; step < this.#runs.length; step++) {
      const index = (first + step) % this.#runs.length;
      if (!this.#isIn(index, words, at)) continue;
      if (index !== this.#near?.index && ++this.#runs[index]!.hits >= hitsToLoad) this.#load(index);
      return true;
    }
    return false;
  }

  /** Calls `visit` for each fingerprint, with the index of its first word in `words`, in any order. */
  each(visit: (words: Uint32Array, at: number) => void): void {
    this.#visit((words, count) => {
      for (let at = 0; at < count * printWords; at += printWords) visit(words, at);
    });
  }

  /** Gives disk and memory back. */
  close(): void {
    this.#file.close();
    this.#filter.close();
    this.#leaveNear();
  }

  #isIn(index: number, words: Uint32Array, at: number): boolean {
    const run = this.#runs[index]!;
    const part = run.shift === 32 ? 0 : words[at]! >>> run.shift;
    const from = run.starts[part]!;
    const count = run.starts[part + 1]! - from;
    if (this.#near?.index === index)
      return holds(this.#near.words.subarray(from * printWords, (from + count) * printWords), words, at);
    if (count * printWords > this.#part.length) this.#part = new Uint32Array(count * printWords * 2);
    this.#file.read(run.at + from * 4 * printWords, new Uint8Array(this.#part.buffer, 0, count * 4 * printWords));
    return holds(this.#part.subarray(0, count * printWords), words, at);
  }

  #load(index: number): void {
    for (const run of this.#runs) run.hits = 0;
    const { at, starts } = this.#runs[index]!;
    const length = starts.at(-1)! * printWords;
    if (this.#near?.words.length !== length) {
      this.#leaveNear();
      if (!this.#budget.take(length * 4)) return;
    }
    const words = this.#near?.words ?? new Uint32Array(length);
    this.#file.read(at, new Uint8Array(words.buffer));
    this.#near = { index, words };
  }

  #leaveNear(): void {
    if (this.#near) this.#budget.give(this.#near.words.length * 4);
    this.#near = undefined;
  }

  #visit(take: (words: Uint32Array, count: number) => void): void {
    const words = new Uint32Array(visitedAtATime * printWords);
    for (let from = 0; from < this.#count; from += visitedAtATime) {
      const count = Math.min(visitedAtATime, this.#count - from);
      this.#file.read(from * 4 * printWords, new Uint8Array(words.buffer, 0, count * 4 * printWords));
      take(words, count);
    }
  }
}

/** Whether one of some fingerprints is that at `at` in `words`. */
function holds(some: Uint32Array, words: Uint32Array, at: number): boolean {
  const [first, second, third, fourth] = [words[at]!, words[at + 1]!, words[at + 2]!, words[at + 3]!];
  for (let to = 0; to < some.length; to += printWords)
    if (some[to] === first && some[to + 1] === second && some[to + 2] === third && some[to + 3] === fourth) return true;
  return false;
}
