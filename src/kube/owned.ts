import type { ObjectMeta } from "../api/meta.ts";
import { labels } from "../api/names.ts";

/** The Jobs or pods of an informer by the export that they belong to, so that finding those of one export needs no walk
 *  over all. */
export class Owned<Kind extends { metadata: ObjectMeta }> {
  readonly #byExport = new Map<string, Map<string, Kind>>();
  readonly #owners = new Map<string, { uid: string; name: string | undefined }>();

  /** Notes that the object of a key changed, or is gone.
   *  @param object undefined = it is gone
   *  @returns the name of the export that it belongs to, or belonged to; undefined = it is none of ours */
  note(key: string, object: Kind | undefined): string | undefined {
    const before = this.#owners.get(key);
    const own = object?.metadata.labels ?? {};
    const uid = own[labels.uid];
    if (before && before.uid !== uid) {
      const siblings = this.#byExport.get(before.uid);
      siblings?.delete(key);
      if (siblings?.size === 0) this.#byExport.delete(before.uid);
      this.#owners.delete(key);
    }
    if (!object || uid === undefined) return before?.name;
    const name = own[labels.name];
    this.#owners.set(key, { uid, name });
    const siblings = this.#byExport.get(uid) ?? new Map<string, Kind>();
    this.#byExport.set(uid, siblings.set(key, object));
    return name;
  }

  /** @param uid of the export */
  of(uid: string): Kind[] {
    return [...(this.#byExport.get(uid)?.values() ?? [])];
  }
}
