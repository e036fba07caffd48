/** What a test walks over on this run: everything (`npm run walks`), or a sample that WALK_SEED draws again. */
import { random } from "../sources/random.ts";

export interface Walks {
  /** Nothing is left out. */
  whole: boolean;
  /** A part of what is usually drawn is enough (`npm run test:quick`). */
  few: boolean;
  seed: number;
}

/** @param env FHIR_EXPORT_WALKS and WALK_SEED as run.ts sets them; a file that runs without it has the seed 1 */
export function readWalks(env: NodeJS.ProcessEnv = process.env): Walks {
  const seed = Number(env.WALK_SEED ?? 1);
  if (!Number.isSafeInteger(seed) || seed < 0)
    throw new Error(`WALK_SEED must be a whole number, not ${env.WALK_SEED}`);
  return { whole: env.FHIR_EXPORT_WALKS === "whole", few: env.FHIR_EXPORT_WALKS === "few", seed };
}

export interface Sample<T> {
  seed: number;
  /** how many are drawn; more when all kinds need more */
  size: number;
  /** Of each kind that any item has at least one item is drawn. */
  kindsOf(item: T): string | readonly string[];
}

/** Draws from all of the items: first those that have a kind which none before has, then any, up to the size. The
 *  sample keeps their order. The same items, seed and size give the same sample. */
export function drawSample<T>(items: readonly T[], { seed, size, kindsOf }: Sample<T>): T[] {
  const shuffled = shuffle(items.keys(), seed);
  const kinds = new Set<string>();
  const [firsts, others]: [number[], number[]] = [[], []];
  for (const index of shuffled) {
    const its = new Set([kindsOf(items[index]!)].flat());
    ([...its].every((kind) => kinds.has(kind)) ? others : firsts).push(index);
    for (const kind of its) kinds.add(kind);
  }
  const drawn = [...firsts, ...others].slice(0, Math.max(size, firsts.length));
  return drawn.sort((a, b) => a - b).map((index) => items[index]!);
}

/** Fisher-Yates */
function shuffle(items: Iterable<number>, seed: number): number[] {
  const shuffled = [...items];
  const { int } = random(seed);
  for (let last = shuffled.length - 1; last > 0; last--) {
    const other = int(last + 1);
    [shuffled[last], shuffled[other]] = [shuffled[other]!, shuffled[last]!];
  }
  return shuffled;
}

/** The part of a walk that this run goes over.
 *  @param walk its name, so that walks over equal lists do not draw the same places
 *  @throws where there is nothing to walk over: a test that goes nowhere would pass */
export function sampleOf<T>(walk: string, items: readonly T[], { size, kindsOf }: Omit<Sample<T>, "seed">): T[] {
  if (items.length === 0) throw new Error(`the walk "${walk}" has no places`);
  const { whole, seed } = readWalks();
  if (whole) return [...items];
  let salted = seed;
  for (const char of walk) salted = (Math.imul(salted, 31) + char.charCodeAt(0)) >>> 0;
  return drawSample(items, { seed: salted, size, kindsOf });
}

/** Parameters of a fast-check property: all of its runs on `npm run walks`, some on each other run, drawn by
 *  WALK_SEED. */
export function propertyRuns(all: number, some = Math.ceil(all / 10)): { numRuns: number; seed?: number } {
  const { whole, seed } = readWalks();
  return whole ? { numRuns: all } : { numRuns: Math.min(all, some), seed };
}
