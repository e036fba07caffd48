import { hash } from "node:crypto";
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
