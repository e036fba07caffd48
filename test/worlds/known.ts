import { readFileSync } from "node:fs";
import type { World } from "./world.ts";

/** A seed that has failed once. */
export interface FoundSeed {
  seed: number;
  /** It still fails: the fault is known and not mended yet. */
  isKnown: boolean;
  what: string;
}

/** Reads the file of seeds: `seed`, then `mended` or `known`, then what it was; one a line. Lines with # are
 *  remarks. */
export function readSeeds(): FoundSeed[] {
  const text = readFileSync(new URL("./seeds.txt", import.meta.url), "utf8");
  return text
    .split("\n")
    .filter((line) => line.trim() !== "" && !line.startsWith("#"))
    .map((line) => {
      const [, seed, state, what] = /^(\d+) (known|mended): (.+)$/.exec(line) ?? [];
      if (seed === undefined) throw new Error(`seeds.txt: "${line}" is not "SEED known: WHAT" or "SEED mended: WHAT"`);
      return { seed: Number(seed), isKnown: state === "known", what: what! };
    });
}

const all = (pattern: RegExp) => (_: unknown, wrong: readonly string[]) => wrong.every((one) => pattern.test(one));
const standsStill = ({ blows }: World) => blows.flat().some(({ kind }) => kind === "freeze");

/** Faults of the worker that are known and not mended yet, and what a world must be like to fail by them. The list is
 *  to be empty: whoever mends a fault takes it out. */
const knownFaults: { what: string; explains: (world: World, wrong: readonly string[]) => boolean }[] = [
  {
    what: "a worker that stood still until all was over ends between making an object and taking it back",
    explains: (world, wrong) =>
      standsStill(world) && all(/^nothing names _work\/(\w+-\d+\/checkpoint|planning)\.json/)(world, wrong),
  },
  {
    what: "a planner that stood still before it wrote anything begins when the export is cancelled and removed",
    explains: (world, wrong) => standsStill(world) && all(/^after the purge/)(world, wrong),
  },
];

/** Which known fault explains how a world has failed; undefined where none does. */
export const explanationOf = (world: World, wrong: readonly string[]): string | undefined =>
  knownFaults.find(({ explains }) => explains(world, wrong))?.what;
