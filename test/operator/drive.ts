import assert from "node:assert/strict";
import { FailureError } from "../../src/failure.ts";
import { createReconcile } from "../../src/operator/reconcile.ts";
import { defaultSettings, type Settings } from "../../src/operator/settings.ts";
import { type FakePort, Killed, start } from "./fake.ts";

/** Something that happens to the place once, as soon as it is possible. @returns whether it has happened */
export type Happening = (port: FakePort) => boolean;

export interface Driven {
  /** seconds of the simulated clock */
  seconds: number;
  reconciles: number;
}

/** What reconciling every object once has shown. */
interface Round {
  /** nothing was done, and nothing is to be done at once */
  idle: boolean;
  /** the least requeueAfter, in seconds */
  next: number;
}

/** Runs the operator over a place until nothing changes any more. The workers work while the operator has nothing to
 *  do, and the clock moves while both have nothing to do. An operator that is killed is started again. */
export async function drive(
  port: FakePort,
  happenings: Happening[] = [],
  settings: Partial<Settings> = {},
  limit = 500,
): Promise<Driven> {
  let now = start;
  const open = [...happenings];
  const begin = () => createReconcile(port, { ...defaultSettings, ...settings }, () => now);
  let reconcile = begin();
  const round = async (): Promise<Round> => {
    const seen: Round = { idle: true, next: Number.POSITIVE_INFINITY };
    for (const key of [...port.objects.keys()]) {
      const before = port.effects.length;
      try {
        const { requeueAfter } = await reconcile(key);
        if (requeueAfter === 0 || port.effects.length > before) seen.idle = false;
        else if (requeueAfter !== undefined) seen.next = Math.min(seen.next, requeueAfter);
      } catch (error) {
        seen.idle = false;
        if (error instanceof Killed) {
          port.lives = port.more.shift() ?? Number.POSITIVE_INFINITY;
          reconcile = begin();
        } else if (!(error instanceof FailureError)) throw error;
      }
    }
    return seen;
  };
  for (let reconciles = 1; reconciles <= limit; reconciles++) {
    const { idle, next } = await round();
    if (!idle) continue;
    if (open[0]?.(port)) open.shift();
    else if (port.work()) continue;
    else if (next !== Number.POSITIVE_INFINITY) now = new Date(now.getTime() + Math.max(next, 0.001) * 1000);
    else {
      assert.equal(open.length, 0, "something that was to happen did not");
      return { seconds: (now.getTime() - start.getTime()) / 1000, reconciles };
    }
  }
  throw new Error(
    `no rest after ${limit} rounds: ${JSON.stringify([...port.objects.values()][0]?.status)} ${port.effects.slice(-10)}`,
  );
}

/** What must be the same however often the operator was killed: the objects without their times, the runs, how often
 *  each thing was made and deleted, and the events by their reason. */
export function endState(port: FakePort): unknown {
  const instant = /^\d{4}-\d\d-\d\dT/;
  const normal = (value: unknown): unknown => {
    if (typeof value === "string")
      return instant.test(value) ? "(time)" : value.replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, "(time)");
    if (Array.isArray(value)) return value.map(normal);
    if (typeof value !== "object" || value === null) return value;
    return Object.fromEntries(
      Object.entries(value)
        .filter(([key]) => key !== "resourceVersion")
        .map(([key, one]) => [key, normal(one)]),
    );
  };
  return normal({
    objects: [...port.objects.values()],
    runs: [...port.runs.values()].sort((a, b) => a.name.localeCompare(b.name)).map(({ spec: _, ...run }) => run),
    tasks: [...port.tasks],
    counts: Object.fromEntries([...port.counts].sort()),
    events: [...port.events].sort(),
  });
}
