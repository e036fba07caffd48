import type { ObjectMeta } from "../api/meta.ts";

/** What we wrote ourselves, until the cache shows it or something newer: the next decision must see the last one, or admission would count
 *  wrongly and every second write would conflict. Versions are compared for being equal only, as the API asks for. */
export class Overlay<Kind extends { metadata: ObjectMeta }> {
  readonly #written = new Map<string, { object: Kind; older: Set<string> }>();

  /** `object` is what the API server answered to a write that was based on `before`. */
  wrote(key: string, before: Kind, object: Kind): void {
    const older = this.#written.get(key)?.older ?? new Set<string>();
    older.add(before.metadata.resourceVersion ?? "");
    older.delete(object.metadata.resourceVersion ?? "");
    this.#written.set(key, { object, older });
  }

  /** The newer one of what the cache holds and what we wrote. */
  newest(key: string, cached: Kind | undefined): Kind | undefined {
    const mine = this.#written.get(key);
    if (!mine) return cached;
    if (
      cached &&
      cached.metadata.uid === mine.object.metadata.uid &&
      mine.older.has(cached.metadata.resourceVersion ?? "")
    )
      return mine.object;
    this.#written.delete(key);
    return cached;
  }
}
