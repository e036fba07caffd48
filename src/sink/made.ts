import { terminal, transient } from "../failure.ts";
import { planPath } from "./layout.ts";
import type { Store } from "./store.ts";

/** Objects of an export that belong to no shard, so that no checkpoint guards them. Two seals may be at work at once,
 *  or one may continue what a killed one began, so an object that exists already is kept as it is. A seal may also
 *  stand still while the export is purged. So when it has made its objects it looks for the plan, which a purge
 *  removes, and without a plan it removes what it has made. */
export class MadeObjects {
  readonly #store: Store;
  #made: { path: string; etag: string }[] = [];

  constructor(store: Store) {
    this.#store = store;
  }

  /** Writes an object, unless there is one already. @returns the content that is stored now */
  async put(path: string, bytes: Buffer, contentType?: string): Promise<Buffer> {
    const etag = await this.#store.create(path, bytes, contentType);
    if (etag !== undefined) {
      this.#made.push({ path, etag });
      return bytes;
    }
    const found = await this.#store.read(path);
    if (!found)
      throw transient("TargetUnreachable", `${path} was removed as soon as it was made; another worker is at work`);
    return found.bytes;
  }

  /** Removes what this worker has made and must not stay. Call it after the last `put`.
   *  @param named the paths that another worker's manifest names: all else is removed; undefined when the manifest is
   *  this worker's
   *  @throws terminal Fenced when the export was purged; then everything is removed */
  async confirm(named?: ReadonlySet<string>): Promise<void> {
    const isGone = (await this.#store.read(planPath)) === undefined;
    const unwanted = this.#made.filter(({ path }) => isGone || (named !== undefined && !named.has(path)));
    for (const { path, etag } of unwanted) await this.#store.remove(path, etag);
    if (isGone) throw terminal("Fenced", "the export was cancelled, and its output is removed");
  }
}
