import type { ObjectMeta } from "../api/meta.ts";
import { labels } from "../api/names.ts";

/** Objects by the export that they belong to, kept from an informer's keys: one export's Jobs and pods must not cost a walk over all. */
export class Owned<Kind extends { metadata: ObjectMeta }> {
  readonly #byExport = new Map<string, Map<string, Kind>>();
  readonly #exportOf = new Map<string, string>();

  /** The object of a key changed, or is gone. */
  note(key: string, object: Kind | undefined): void {
    const before = this.#exportOf.get(key);
    const uid = object?.metadata.labels?.[labels.uid];
    if (before !== undefined && before !== uid) {
      const siblings = this.#byExport.get(before);
      siblings?.delete(key);
      if (siblings?.size === 0) this.#byExport.delete(before);
      this.#exportOf.delete(key);
    }
    if (!object || uid === undefined) return;
    this.#exportOf.set(key, uid);
    const siblings = this.#byExport.get(uid) ?? new Map<string, Kind>();
    this.#byExport.set(uid, siblings.set(key, object));
  }

  of(uid: string): Kind[] {
    return [...(this.#byExport.get(uid)?.values() ?? [])];
  }
}
