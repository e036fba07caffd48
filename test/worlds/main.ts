/** Runs worlds: `npm run worlds -- [--seed N] [--count N | --minutes N] [--seeds] [--verbose] [--no-shrink]`.
 *  Without `--seed` the first seed is drawn, and printed. A world that fails is shown in words, made as small as it can
 *  be. `--seeds` runs those of seeds.txt. Exits with 1 where a world fails that seeds.txt does not call known. */
import { parseArgs } from "node:util";
import { drawWorld } from "./draw.ts";
import { explanationOf, readSeeds } from "./known.ts";
import { examineWorld, type Result } from "./run.ts";
import { shrink } from "./shrink.ts";
import { Statistics } from "./statistics.ts";
import { describeWorld, featuresOf, kindOf } from "./words.ts";
import type { World } from "./world.ts";

const { values } = parseArgs({
  options: {
    seed: { type: "string" },
    count: { type: "string" },
    minutes: { type: "string" },
    seeds: { type: "boolean", default: false },
    verbose: { type: "boolean", default: false },
    shrink: { type: "boolean", default: true },
  },
  allowNegative: true,
});

const failures = new Map<string, number[]>();
const statistics = new Statistics();

async function runOne(world: World): Promise<Result> {
  const result = await examineWorld(world, values.verbose ? console.log : undefined);
  statistics.add(featuresOf(world), result);
  return result;
}

/** How often each fault was met that is known and not mended yet. */
const known = new Map<string, number[]>();

async function report(world: World, result: Result): Promise<void> {
  const explanation = explanationOf(world, result.wrong);
  if (explanation !== undefined) return void known.set(explanation, [...(known.get(explanation) ?? []), world.seed]);
  const kind = kindOf(result);
  const same = failures.get(kind) ?? [];
  failures.set(kind, [...same, world.seed]);
  if (same.length > 0) return;
  console.log(`\n✖ world ${world.seed}: ${kind}`);
  let small = world;
  if (values.shrink)
    small = await shrink(world, async (candidate) => {
      const again = await examineWorld(candidate);
      return again.wrong.length > 0 && kindOf(again) === kind;
    });
  const { wrong } = await examineWorld(small);
  console.log(describeWorld(small));
  for (const one of wrong.slice(0, 5)) console.log(`  ✖ ${one}`);
}

async function runMany(): Promise<void> {
  const first = Number(values.seed ?? Math.floor(Math.random() * 1e9));
  const count =
    values.count !== undefined ? Number(values.count) : values.minutes === undefined ? 1 : Number.POSITIVE_INFINITY;
  const until = performance.now() + Number(values.minutes ?? Number.POSITIVE_INFINITY) * 60_000;
  const begin = performance.now();
  console.log(`worlds from seed ${first} on`);
  for (let seed = first; seed < first + count && performance.now() < until; seed++) {
    const world = drawWorld(seed);
    const result = await runOne(world);
    if (result.wrong.length > 0) await report(world, result);
    else if (count === 1) console.log(`${describeWorld(world)}\n✔ ${result.end} ${JSON.stringify(result.requests)}`);
  }
  const seconds = (performance.now() - begin) / 1000;
  console.log(`\n${statistics.render()}`);
  console.log(
    `${statistics.worlds} worlds in ${seconds.toFixed(0)} s, ${(statistics.worlds / seconds).toFixed(1)} a second`,
  );
}

/** @returns whether every seed does what the file says */
async function runFound(): Promise<boolean> {
  let isGood = true;
  for (const { seed, isKnown, what } of readSeeds()) {
    const { wrong } = await runOne(drawWorld(seed));
    if (wrong.length > 0 && isKnown) console.log(`! world ${seed} fails still: ${what}`);
    else if (wrong.length > 0) console.log(`✖ world ${seed} fails again: ${what}: ${wrong[0]}`);
    else if (isKnown) console.log(`✔ world ${seed} does not fail any more; call it mended in seeds.txt: ${what}`);
    if (wrong.length > 0 && !isKnown) isGood = false;
  }
  return isGood;
}

const isGood = values.seeds ? await runFound() : true;
if (values.count !== undefined || values.minutes !== undefined || values.seed !== undefined) await runMany();
for (const [what, seeds] of known)
  console.log(`! ${seeds.length} worlds, known: ${what} (${seeds.slice(0, 6).join(", ")})`);
for (const [kind, seeds] of [...failures].sort(([, a], [, b]) => b.length - a.length))
  console.log(`✖ ${seeds.length} worlds: ${kind} (${seeds.slice(0, 6).join(", ")})`);
process.exitCode = isGood && failures.size === 0 ? 0 : 1;
