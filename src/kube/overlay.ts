import type { ObjectMeta } from "../api/meta.ts";

/** The objects that we wrote ourselves, until the cache shows them or newer ones. Each decision must see the one before
 *  it; otherwise admission would count wrongly and every second write would conflict. The API allows versions to be
 *  compared for equality only, so the versions that are older than ours are remembered. */
export class Overlay<Kind extends { metadata: ObjectMeta }> {
  readonly #written = new Map<string, { object: Kind; older: Set<string> }>();

  /** Notes a write.
   *  @param before the object that the write was based on
   *  @param object the object in the API server's answer */
  wrote(key: string, before: Kind, object: Kind): void {
    const older = this.#written.get(key)?.older ?? new Set<string>();
    older.add(before.metadata.resourceVersion ?? "");
    older.delete(object.metadata.resourceVersion ?? "");
    this.#written.set(key, { object, older });
  }

  /** The newer one of the object in the cache and the object that we wrote. */
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
