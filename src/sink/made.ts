import { terminal, transient } from "../failure.ts";
import { planPath } from "./layout.ts";
import type { Store } from "./store.ts";

/** Objects of an export that belong to no shard, so that no checkpoint guards them: what stands there already counts, as two seals may be at work, or one
 *  that was killed before. And whoever made one and stood still meanwhile takes it back when the export is gone (DESIGN section 6): after a purge there is no plan. */
export class MadeObjects {
  readonly #store: Store;
  #made: { path: string; etag: string }[] = [];

  constructor(store: Store) {
    this.#store = store;
  }

  /** @returns what stands there now */
  async put(path: string, bytes: Buffer, contentType?: string): Promise<Buffer> {
    const etag = await this.#store.create(path, bytes, contentType);
    if (etag !== undefined) {
      this.#made.push({ path, etag });
      return bytes;
    }
    const there = await this.#store.read(path);
    if (!there) throw transient("TargetUnreachable", `${path} came and went; another worker is at work`);
    return there.bytes;
  }

  /** Behind the last `put`. @param named those that another worker's manifest names; undefined: it is this one's
   *  @throws terminal Fenced */
  async confirm(named?: ReadonlySet<string>): Promise<void> {
    const isGone = (await this.#store.read(planPath)) === undefined;
    const back = this.#made.filter(({ path }) => isGone || (named !== undefined && !named.has(path)));
    for (const { path, etag } of back) await this.#store.remove(path, etag);
    if (isGone) throw terminal("Fenced", "the export was cancelled, and its output is removed");
  }
}
