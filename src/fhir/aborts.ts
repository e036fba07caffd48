/** What is to be called when a signal aborts, by signal. */
const listeners = new WeakMap<AbortSignal, Set<() => void>>();

/** As addEventListener("abort", call), where `call` is a function of its own each time, for signals that live long and
 *  are listened to by many for a short time: EventTarget takes 2 us to add and remove a listener, and each request does
 *  that several times.
 *  @returns ends it */
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

/** How many are to be called, for tests. */
export const listening = (signal: AbortSignal): number => listeners.get(signal)?.size ?? 0;
