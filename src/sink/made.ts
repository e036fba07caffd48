import { terminal, transient } from "../failure.ts";
import { planPath } from "./layout.ts";
import type { Store } from "./store.ts";

/** Objects of an export that belong to no shard, so that no checkpoint guards them. Two seals may be at work at once,
 *  or one may continue what a killed one began, so an object that exists already is kept as it is. */
export class MadeObjects {
  readonly #store: Store;
  readonly #made: string[] = [];

  constructor(store: Store) {
    this.#store = store;
  }

  /** Writes an object, unless there is one already. @returns the content that is stored now */
  async put(path: string, bytes: Buffer, contentType?: string): Promise<Buffer> {
    if ((await this.#store.create(path, bytes, contentType)) !== undefined) {
      this.#made.push(path);
      return bytes;
    }
    const found = await this.#store.read(path);
    if (!found)
      throw transient("TargetUnreachable", `${path} was removed as soon as it was made; another worker is at work`);
    return found.bytes;
  }

  /** A seal may stand still while the export is purged. So when it has made its objects it looks for the plan, which a
   *  purge removes last. Without a plan everything is over, and what this seal has made goes, too.
   *  @throws terminal Fenced */
  async confirm(): Promise<void> {
    if ((await this.#store.size(planPath)) !== undefined) return;
    for (const path of this.#made) await this.#store.remove(path);
    throw terminal("Fenced", "the export was cancelled, and its output is removed");
  }
}
