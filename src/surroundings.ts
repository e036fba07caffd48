import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

/** The time, as a worker asks for it. Nothing that a worker runs asks the machine itself, so that a test can give it a
 *  time of its own, in which an hour takes no time. */
export interface Clock {
  /** milliseconds since the epoch */
  now(): number;
  /** milliseconds by a clock that never goes back */
  monotonic(): number;
  /** Resolves after `ms` milliseconds. @throws an AbortError as soon as the signal aborts */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /** Calls back after `ms` milliseconds. @returns how to cancel that */
  after(ms: number, call: () => void): () => void;
}

/** Gives that many random bytes. */
export type Random = (bytes: number) => Buffer;

/** What a worker takes from the machine that it runs on, besides its memory, its source and its storage. */
export interface Surroundings {
  clock: Clock;
  random: Random;
}

export const systemClock: Clock = {
  now: Date.now,
  monotonic: () => performance.now(),
  sleep: (ms, signal) => sleep(ms, undefined, signal && { signal }),
  after: (ms, call) => {
    const timer = setTimeout(call, ms);
    return () => clearTimeout(timer);
  },
};

export const system: Surroundings = { clock: systemClock, random: randomBytes };
