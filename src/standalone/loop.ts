import { toFailure } from "../failure.ts";
import type { Logger } from "../log.ts";
import type { Reconcile } from "../operator/reconcile.ts";

interface Entry {
  timer?: NodeJS.Timeout;
  /** ms since 1970 of the timer */
  due?: number;
  running: boolean;
  again: boolean;
  failures: number;
}

/** Calls reconcile for a key when it is woken or when it is time; never twice at once for one key. A reconcile that throws is repeated after
 *  100 ms to 30 s. */
export class Loop {
  readonly #reconcile: Reconcile;
  readonly #log: Logger;
  readonly #entries = new Map<string, Entry>();
  readonly #tasks = new Set<Promise<void>>();
  #closed = false;

  constructor(reconcile: Reconcile, log: Logger) {
    this.#reconcile = reconcile;
    this.#log = log;
  }

  wake(key: string, delayMs = 0): void {
    if (this.#closed) return;
    const entry = this.#entries.get(key) ?? { running: false, again: false, failures: 0 };
    this.#entries.set(key, entry);
    if (entry.running && delayMs === 0) {
      entry.again = true;
      return;
    }
    const due = Date.now() + delayMs;
    if (entry.due !== undefined && entry.due <= due) return;
    clearTimeout(entry.timer);
    entry.due = due;
    // a timer takes no more than 2^31 ms
    entry.timer = setTimeout(() => this.#run(key, entry), Math.min(delayMs, 2 ** 31 - 1));
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const { timer } of this.#entries.values()) clearTimeout(timer);
    await Promise.all(this.#tasks);
  }

  #run(key: string, entry: Entry): void {
    delete entry.due;
    if (entry.running) {
      entry.again = true;
      return;
    }
    entry.running = true;
    const task = this.#once(key, entry).finally(() => this.#tasks.delete(task));
    this.#tasks.add(task);
  }

  async #once(key: string, entry: Entry): Promise<void> {
    let next: number | undefined;
    try {
      const { requeueAfter } = await this.#reconcile(key);
      entry.failures = 0;
      next = requeueAfter === undefined ? undefined : requeueAfter * 1000;
    } catch (error) {
      next = Math.min(30_000, 100 * 2 ** Math.min(entry.failures++, 20));
      const failure = toFailure(error);
      // a conflict is everyday life: someone else was faster
      if (failure.class !== "transient" || failure.message.startsWith("unexpected"))
        this.#log.error({ key, ...failure, stack: error instanceof Error ? error.stack : undefined }, "reconcile failed");
    }
    entry.running = false;
    if (entry.again) next = 0;
    entry.again = false;
    if (next !== undefined) this.wake(key, next);
    else if (entry.due === undefined) this.#entries.delete(key);
  }
}
