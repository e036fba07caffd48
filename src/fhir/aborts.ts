/** The functions to call when a signal aborts, by signal. */
const listeners = new WeakMap<AbortSignal, Set<() => void>>();

/** Does the same as `signal.addEventListener("abort", call)`, for signals that live long and have many listeners for a
 *  short time each: EventTarget takes 2 us to add and remove a listener, and each request does that several times.
 *  @param call a function of its own for each call of onAbort
 *  @returns removes the listener */
export function onAbort(signal: AbortSignal, call: () => void): () => void {
  let calls = listeners.get(signal);
  if (!calls) {
    const all = (calls = new Set());
    listeners.set(signal, all);
    signal.addEventListener("abort", () => {
      for (const each of [...all]) if (all.delete(each)) each();
    });
  }
  const own = calls;
  own.add(call);
  return () => void own.delete(call);
}

/** The number of functions that the signal would call, for tests. */
export const listening = (signal: AbortSignal): number => listeners.get(signal)?.size ?? 0;
