export interface QueueOptions {
  /** keys worked on at the same time */
  workers: number;
  /** told about a work that threw, before the key is tried again */
  onError?: (key: string, error: unknown) => void;
}

/** What a work may ask for: to be called again after so many seconds; 0 = at once, absent = when something changes. */
export interface Requeue {
  requeueAfter?: number;
}

interface QueueEntry {
  running: boolean;
  /** added while it ran: once more afterwards */
  dirty: boolean;
  failures: number;
  timer?: NodeJS.Timeout;
  /** when the timer fires, by performance.now() */
  due?: number;
}

const firstRetryMs = 5;
const longestRetryMs = 16 * 60_000;
/** setTimeout takes no more; a key woken early is looked at and put back */
const longestTimerMs = 2 ** 31 - 1;

/** Keys to be worked on. A key waits once however often it is added, is never worked on twice at the same time, and is tried again after
 *  5 ms, doubling to 16 min, when its work throws. */
export class WorkQueue {
  /** since the start, for metrics */
  readonly counters = { adds: 0, retries: 0, runs: 0, errors: 0 };
  readonly #work: (key: string) => Promise<Requeue>;
  readonly #options: QueueOptions;
  readonly #entries = new Map<string, QueueEntry>();
  /** in the order in which they came */
  readonly #ready = new Set<string>();
  readonly #running = new Set<Promise<void>>();
  #state: "waiting" | "open" | "closed" = "waiting";

  constructor(work: (key: string) => Promise<Requeue>, options: QueueOptions) {
    this.#work = work;
    this.#options = options;
  }

  /** Keys that wait for a worker. */
  get depth(): number {
    return this.#ready.size;
  }
  get running(): number {
    return this.#running.size;
  }

  /** Starts the workers; keys added before wait. */
  start(): void {
    if (this.#state === "waiting") this.#state = "open";
    this.#pump();
  }

  /** Starts nothing more; resolves when what runs has ended. */
  async close(): Promise<void> {
    this.#state = "closed";
    for (const { timer } of this.#entries.values()) clearTimeout(timer);
    this.#entries.clear();
    this.#ready.clear();
    await Promise.all(this.#running);
  }

  add(key: string): void {
    if (this.#state === "closed") return;
    this.counters.adds += 1;
    const entry = this.#entry(key);
    if (entry.running) entry.dirty = true;
    else this.#ready.add(key);
    this.#pump();
  }

  /** Of several waits of one key the shortest counts. */
  addAfter(key: string, ms: number): void {
    if (this.#state === "closed") return;
    const entry = this.#entry(key);
    const due = performance.now() + ms;
    if (this.#ready.has(key) || (entry.due !== undefined && entry.due <= due)) return;
    stopTimer(entry);
    entry.due = due;
    entry.timer = setTimeout(() => this.add(key), Math.min(ms, longestTimerMs));
  }

  /** Adds a key after its own backoff. A work that throws is retried without this. */
  retry(key: string): void {
    const entry = this.#entry(key);
    this.counters.retries += 1;
    this.addAfter(key, retryDelayMs(entry.failures++));
  }

  /** The next retry of a key starts from the shortest wait again. */
  forget(key: string): void {
    const entry = this.#entries.get(key);
    if (entry) entry.failures = 0;
  }

  #entry(key: string): QueueEntry {
    let entry = this.#entries.get(key);
    if (!entry) this.#entries.set(key, (entry = { running: false, dirty: false, failures: 0 }));
    return entry;
  }

  #pump(): void {
    if (this.#state !== "open") return;
    for (const key of this.#ready) {
      if (this.#running.size >= this.#options.workers) return;
      this.#ready.delete(key);
      const task = this.#run(key, this.#entry(key)).finally(() => {
        this.#running.delete(task);
        this.#pump();
      });
      this.#running.add(task);
    }
  }

  async #run(key: string, entry: QueueEntry): Promise<void> {
    // what the timer was to look at is looked at now
    stopTimer(entry);
    entry.running = true;
    this.counters.runs += 1;
    let failed = false;
    let again: Requeue = {};
    // not yet counted in #running
    await null;
    try {
      again = await this.#work(key);
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
    else if (again.requeueAfter !== undefined) this.addAfter(key, again.requeueAfter * 1000);
    // thousands of keys come and go
    if (entry.due === undefined && entry.failures === 0 && !this.#ready.has(key)) this.#entries.delete(key);
  }
}

/** 5 ms, doubled by each failure, to 16 min. */
export const retryDelayMs = (failures: number) => Math.min(longestRetryMs, firstRetryMs * 2 ** Math.min(failures, 30));

function stopTimer(entry: QueueEntry): void {
  clearTimeout(entry.timer);
  delete entry.timer;
  delete entry.due;
}
