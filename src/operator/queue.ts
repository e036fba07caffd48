interface QueueOptions {
  /** how many keys are worked on at the same time */
  workers: number;
  /** is called when the work on a key has thrown, before it is tried again */
  onError?: (key: string, error: unknown) => void;
}

/** When the work on a key wants to be called again. */
export interface Requeue {
  /** seconds; 0 = at once, absent = when the key is added */
  requeueAfter?: number;
}

interface QueueEntry {
  running: boolean;
  /** It was added while it ran, so it runs once more afterwards. */
  dirty: boolean;
  /** how many times in a row its work has thrown */
  failures: number;
  timer?: NodeJS.Timeout;
  /** when the key is to be worked on, by performance.now() */
  due?: number;
}

const firstRetryMs = 5;
const longestRetryMs = 16 * 60_000;
/** The longest time that setTimeout takes. A key that waits longer is worked on too early, and waits again. */
const longestTimerMs = 2 ** 31 - 1;

/** A queue of keys to work on, with the rules of client-go's work queue: a key waits once however often it is added, is
 *  never worked on twice at the same time, and is tried again after 5 ms, doubled each time up to 16 minutes, when its
 *  work throws. */
export class WorkQueue {
  /** counts since the start, for metrics */
  readonly counters = { adds: 0, retries: 0, runs: 0, errors: 0 };
  readonly #work: (key: string) => Promise<Requeue>;
  readonly #options: QueueOptions;
  readonly #entries = new Map<string, QueueEntry>();
  /** the keys that wait for a worker, in the order in which they came */
  readonly #ready = new Set<string>();
  readonly #running = new Set<Promise<void>>();
  #state: "waiting" | "open" | "closed" = "waiting";

  constructor(work: (key: string) => Promise<Requeue>, options: QueueOptions) {
    this.#work = work;
    this.#options = options;
  }

  /** How many keys wait for a worker. */
  get depth(): number {
    return this.#ready.size;
  }
  /** How many keys are worked on. */
  get running(): number {
    return this.#running.size;
  }

  /** Starts the workers. Keys that were added before have waited for it. */
  start(): void {
    if (this.#state === "waiting") this.#state = "open";
    this.#startReady();
  }

  /** Starts no more work, and resolves when the work that is under way has ended. */
  async close(): Promise<void> {
    this.#state = "closed";
    for (const { timer } of this.#entries.values()) clearTimeout(timer);
    this.#entries.clear();
    this.#ready.clear();
    await Promise.all(this.#running);
  }

  /** Adds a key, which is worked on as soon as a worker is free. */
  add(key: string): void {
    if (this.#state === "closed") return;
    this.counters.adds += 1;
    const entry = this.#entry(key);
    if (entry.running) entry.dirty = true;
    else this.#ready.add(key);
    this.#startReady();
  }

  /** Adds a key after a time. Of several times for one key the shortest counts. */
  addAfter(key: string, ms: number): void {
    if (this.#state === "closed") return;
    const entry = this.#entry(key);
    const due = performance.now() + ms;
    if (this.#ready.has(key) || (entry.due !== undefined && entry.due <= due)) return;
    stopTimer(entry);
    entry.due = due;
    entry.timer = setTimeout(() => this.add(key), Math.min(ms, longestTimerMs));
  }

  /** Adds a key after a wait that grows with each call. The queue does this itself when the work on a key throws. */
  retry(key: string): void {
    const entry = this.#entry(key);
    this.counters.retries += 1;
    this.addAfter(key, retryDelayMs(entry.failures++));
  }

  /** Makes the next retry of a key begin with the shortest wait again. */
  forget(key: string): void {
    const entry = this.#entries.get(key);
    if (entry) entry.failures = 0;
  }

  #entry(key: string): QueueEntry {
    let entry = this.#entries.get(key);
    if (!entry) this.#entries.set(key, (entry = { running: false, dirty: false, failures: 0 }));
    return entry;
  }

  /** Starts the work on keys that wait, while workers are free. */
  #startReady(): void {
    if (this.#state !== "open") return;
    for (const key of this.#ready) {
      if (this.#running.size >= this.#options.workers) return;
      this.#ready.delete(key);
      const task = this.#run(key, this.#entry(key)).finally(() => {
        this.#running.delete(task);
        this.#startReady();
      });
      this.#running.add(task);
    }
  }

  async #run(key: string, entry: QueueEntry): Promise<void> {
    // The key is worked on now, so its timer has nothing left to do.
    stopTimer(entry);
    entry.running = true;
    this.counters.runs += 1;
    let failed = false;
    let requeue: Requeue = {};
    // The promise of this function is put into #running only after it has returned for the first time.
    await null;
    try {
      requeue = await this.#work(key);
    } catch (error) {
      failed = true;
      this.counters.errors += 1;
      this.#options.onError?.(key, error);
    }
    entry.running = false;
    if (!failed) entry.failures = 0;
    if (entry.dirty) {
      entry.dirty = false;
      this.#ready.add(key);
    }
    if (failed) this.retry(key);
    else if (requeue.requeueAfter !== undefined) this.addAfter(key, requeue.requeueAfter * 1000);
    // Thousands of keys come and go, so a key that has nothing to remember is dropped.
    if (entry.due === undefined && entry.failures === 0 && !this.#ready.has(key)) this.#entries.delete(key);
  }
}

/** The wait before a retry: 5 ms, doubled with each failure, up to 16 minutes. */
export const retryDelayMs = (failures: number) => Math.min(longestRetryMs, firstRetryMs * 2 ** Math.min(failures, 30));

function stopTimer(entry: QueueEntry): void {
  clearTimeout(entry.timer);
  delete entry.timer;
  delete entry.due;
}
