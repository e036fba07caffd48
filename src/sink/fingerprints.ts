import { hash } from "node:crypto";
import { fingerprintPath } from "./layout.ts";
import type { Store } from "./store.ts";

export const fingerprintBytes = 16;

/** Stands for a resource's id in the working files, which are no place for ids: 16 bytes of a keyed hash, as a latin1 string, which a Set
 *  holds at a third of the cost of a Buffer. 128 bits: no two of 10^12 ids are likely to meet. */
export const fingerprint = (key: string, id: string): string =>
  hash("sha256", `${key}\0${id}`, "buffer").toString("latin1", 0, fingerprintBytes);

/** All fingerprints of a shard's segments, added to `into`. */
export async function readFingerprints(store: Store, segments: readonly string[], into: Set<string> = new Set()): Promise<Set<string>> {
  for (const segment of segments) {
    const found = await store.read(segment);
    const bytes = found?.bytes ?? Buffer.alloc(0);
    for (let at = 0; at < bytes.length; at += fingerprintBytes) into.add(bytes.toString("latin1", at, at + fingerprintBytes));
  }
  return into;
}

/** How many of `wanted` are in a shard's segments or in `extra`, without holding the shard's own. */
export async function countKnown(
  store: Store,
  segments: readonly string[],
  wanted: ReadonlySet<string>,
  extra: ReadonlySet<string>,
): Promise<number> {
  let found = 0;
  for (const print of wanted) if (extra.has(print)) found++;
  for (const print of await readFingerprints(store, segments)) if (wanted.has(print) && !extra.has(print)) found++;
  return found;
}

/** What a shard has shown so far, in that order. Goes into segments, each of which is in storage before a checkpoint names it. */
export class ShownResources {
  readonly #store: Store;
  readonly #shard: string;
  #order: string[] = [];
  #known = new Set<string>();
  #segments: string[] = [];
  #stored = 0;

  constructor(store: Store, shard: string) {
    this.#store = store;
    this.#shard = shard;
  }

  get count(): number {
    return this.#order.length;
  }
  get segments(): readonly string[] {
    return this.#segments;
  }
  has(fingerprint: string): boolean {
    return this.#known.has(fingerprint);
  }
  add(fingerprint: string): void {
    this.#order.push(fingerprint);
    this.#known.add(fingerprint);
  }
  /** The last one does not count yet. */
  takeBack(): string {
    return this.#order.pop()!;
  }

  /** Stores the first `count`. @param nonce of the writer: one that was killed before its checkpoint may have left a segment */
  async store(count: number, nonce: string): Promise<void> {
    const fresh = this.#order.slice(this.#stored, count);
    if (fresh.length === 0) return;
    const name = fingerprintPath(this.#shard, this.#stored, nonce);
    await this.#store.create(name, Buffer.from(fresh.join(""), "latin1"), "application/octet-stream");
    this.#segments.push(name);
    this.#stored += fresh.length;
  }

  async restore(segments: readonly string[]): Promise<void> {
    this.#known = await readFingerprints(this.#store, segments);
    this.#order = [...this.#known];
    this.#segments = [...segments];
    this.#stored = this.#order.length;
  }

  clear(): void {
    this.#order = [];
    this.#known = new Set();
    this.#segments = [];
    this.#stored = 0;
  }
}
