import type { Clock } from "../../src/surroundings.ts";
import { isRealWorkPending } from "./real-work.ts";

interface Due {
  at: number;
  /** Of two events of one moment, the one that was planned first comes first. */
  order: number;
  call: (() => void) | undefined;
}

/** The time of a world. It stands still while anything can be done without waiting, and then jumps to the next event,
 *  so that an hour takes as long as the events in it. */
export class Timeline {
  #now: number;
  #order = 0;
  /** a binary heap: the first is the next */
  readonly #due: Due[] = [];

  /** @param now milliseconds since the epoch */
  constructor(now: number) {
    this.#now = now;
  }

  get now(): number {
    return this.#now;
  }

  /** Plans an event. @returns how to cancel it */
  after(ms: number, call: () => void): () => void {
    const due: Due = { at: this.#now + Math.max(0, ms), order: this.#order++, call };
    this.#push(due);
    return () => void (due.call = undefined);
  }

  /** Lets events happen until `done` says so. @throws Error where nothing is left to happen */
  async run(done: () => boolean): Promise<void> {
    for (;;) {
      // Behind all promises that can be resolved without waiting.
      do await new Promise<void>((resolve) => setImmediate(resolve));
      while (isRealWorkPending());
      if (done()) return;
      const next = this.#pop();
      if (!next) throw new Error("the world stands still: something waits for what never comes");
      this.#now = Math.max(this.#now, next.at);
      next.call!();
    }
  }

  #push(due: Due): void {
    const heap = this.#due;
    let at = heap.push(due) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(due, heap[parent]!)) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = due;
  }

  /** The next event that is not cancelled. */
  #pop(): Due | undefined {
    for (let first = this.#popAny(); first; first = this.#popAny()) if (first.call) return first;
    return undefined;
  }

  #popAny(): Due | undefined {
    const heap = this.#due;
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined || heap.length === 0) return first;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++;
      if (!isBefore(heap[child]!, last)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
    return first;
  }
}

const isBefore = (a: Due, b: Due): boolean => a.at < b.at || (a.at === b.at && a.order < b.order);

/** A clock that shows the time of a world.
 *  @param ahead by how many milliseconds its wall clock is wrong */
export function clockOf(timeline: Pick<Timeline, "now" | "after">, ahead = 0): Clock {
  const begin = timeline.now;
  const after = (ms: number, call: () => void) => timeline.after(ms, call);
  return {
    now: () => Math.floor(timeline.now) + ahead,
    monotonic: () => timeline.now - begin,
    after,
    sleep: (ms, signal) =>
      new Promise((resolve, reject) => {
        const stop = () => {
          cancel();
          reject(new DOMException("The operation was aborted", "AbortError"));
        };
        if (signal?.aborted) return void reject(new DOMException("The operation was aborted", "AbortError"));
        const cancel = after(ms, () => {
          signal?.removeEventListener("abort", stop);
          resolve();
        });
        signal?.addEventListener("abort", stop, { once: true });
      }),
  };
}
