import { setTimeout as sleep } from "node:timers/promises";

/** Sleeps. An abort ends the sleep early; it never rejects. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => {});
}
