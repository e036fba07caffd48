/** Shows that worlds see: takes out one check of the worker at a time (mutants.ts), and looks for a world that fails by
 *  that: `node test/worlds/mutations.ts [--count N] [--only PART-OF-A-NAME] [--part 1/3]`. A world that fails alike
 *  without the mutation does not count. Exits with 1 where worlds do not find one. */
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { drawWorld } from "./draw.ts";
import { explanationOf } from "./known.ts";
import { type Mutant, mutants } from "./mutants.ts";
import { examineWorld } from "./run.ts";
import { kindOf } from "./words.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const { values } = parseArgs({
  options: {
    count: { type: "string", default: "10000" },
    only: { type: "string", default: "" },
    seed: { type: "string" },
    part: { type: "string", default: "1/1" },
  },
});

/** Makes a copy of the project with the mutation. @throws Error where the text is not in the file, once */
function mutate({ file, from, to }: Mutant): string {
  const text = readFileSync(join(root, file), "utf8");
  if (text.split(from).length !== 2) throw new Error(`"${from}" is not in ${file} once; mend mutants.ts`);
  const tree = mkdtempSync(join(tmpdir(), "fhir-export-mutant-"));
  for (const part of ["src", "test", "package.json"]) cpSync(join(root, part), join(tree, part), { recursive: true });
  symlinkSync(join(root, "node_modules"), join(tree, "node_modules"));
  writeFileSync(
    join(tree, file),
    text.replace(from, () => to),
  );
  return tree;
}

/** @returns the number of worlds until one failed by the mutation, and how; undefined where none did */
async function find(mutant: Mutant, first: number): Promise<{ worlds: number; wrong: string } | undefined> {
  const tree = mutate(mutant);
  try {
    const mutated = (await import(pathToFileURL(join(tree, "test/worlds/run.ts")).href)) as typeof import("./run.ts");
    for (let worlds = 1; worlds <= Number(values.count); worlds++) {
      const world = drawWorld(first + worlds);
      const result = await mutated.examineWorld(world);
      if (result.wrong.length === 0) continue;
      const usual = await examineWorld(world);
      // A mutation changes when requests are sent, so that the faults of a world hit others: an end by a known fault of
      // the worker shows nothing.
      const isKnown = result.end !== "complete" && explanationOf(world, result.wrong) !== undefined;
      if (!isKnown && kindOf(usual) !== kindOf(result)) return { worlds, wrong: result.wrong[0]! };
    }
    return undefined;
  } finally {
    rmSync(tree, { recursive: true, force: true });
  }
}

const first = Number(values.seed ?? Math.floor(Math.random() * 1e9));
let missed = 0;
const [part, parts] = values.part.split("/").map(Number) as [number, number];
const chosen = mutants.filter(({ name }, at) => name.includes(values.only) && at % parts === part - 1);
for (const mutant of chosen) {
  const found = await find(mutant, first);
  if (found) console.log(`✔ ${mutant.name}: world ${found.worlds}: ${found.wrong}`);
  else {
    missed++;
    console.log(`✖ ${mutant.name}: not found by ${values.count} worlds from seed ${first} on`);
  }
}
process.exitCode = missed === 0 ? 0 : 1;
