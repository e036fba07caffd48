import { transient } from "../failure.ts";
import { printer } from "../scan/print.ts";
import type { ShardClaim } from "./claim.ts";
import { fingerprintPath, linesOfSegment } from "./layout.ts";
import { PrintSet, printWords } from "./print-set.ts";
import type { Store } from "./store.ts";

export const fingerprintBytes = 4 * printWords;

/** Makes fingerprints. A fingerprint stands for a resource's id in the working files, which must not hold ids: 16 bytes
 *  of a keyed hash (SipHash-2-4-128), here as a latin1 string. With 128 bits, no two of 10^12 ids are likely to have
 *  the same one.
 *  @param key Plan.key */
export function fingerprinter(key: string): (id: string) => string {
  const print = printer(key);
  return (id) => print(id).toString("latin1");
}

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

/** The fingerprints of the resources that a shard has shown so far. They are stored in segments, each of them before a
 *  checkpoint names it. */
export class ShownResources extends PrintSet {
  readonly #store: Store;
  readonly #shard: string;
  #segments: string[] = [];
  /** Which of the fingerprints that are not stored yet are of resources that are not for the output, by their number in
   *  the order. */
  readonly #passed = new Set<number>();
  /** how many fingerprints the segments hold */
  #stored = 0;

  /** @param expected see PrintSet */
  constructor(store: Store, shard: string, expected = 0) {
    super(expected);
    this.#store = store;
    this.#shard = shard;
  }

  get segments(): readonly string[] {
    return this.#segments;
  }

  /** The resource of the last fingerprint is not for the output. */
  pass(): void {
    this.#passed.add(this.count - 1);
  }

  /** Stores the first `count` fingerprints, as far as they are not in segments yet. In a segment those of lines come
   *  first, and its name says how many they are, so that it can be told later what was written.
   *  @param nonce of the writer, so that the name is new: a writer that was killed before its checkpoint may have left
   *  a segment
   *  @param put writes an object */
  async store(count: number, nonce: string, put: ShardClaim["put"]): Promise<void> {
    if (count <= this.#stored) return;
    const fresh = this.copy(this.#stored, count);
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
      for (let at = 0; at < words.length; at += printWords) this.add(words, at);
    }
    this.#segments = [...segments];
    this.#stored = this.count;
  }

  /** Sorts fresh fingerprints, the last of the first `count`: those of lines, then the others. Within each the order
   *  stays. @returns how many are of lines; undefined: all */
  #linesFirst(fresh: Uint32Array, count: number): number | undefined {
    const passed: number[] = [];
    for (const at of this.#passed) if (at < count) passed.push(at);
    if (passed.length === 0) return undefined;
    const others = new Uint32Array(passed.length * printWords);
    let [lines, other] = [0, 0];
    for (let at = this.#stored; at < count; at++) {
      const from = (at - this.#stored) * printWords;
      if (this.#passed.delete(at)) others.set(fresh.subarray(from, from + printWords), printWords * other++);
      else fresh.copyWithin(printWords * lines++, from, from + printWords);
    }
    fresh.set(others, lines * printWords);
    return lines;
  }

  override clear(): void {
    super.clear();
    this.#passed.clear();
    this.#stored = 0;
    this.#segments = [];
  }
}
