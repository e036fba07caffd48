/** What a test file needs besides Node and this tree, read off the file and those of test/ that it imports, so that no
 *  list has to be kept. */
import { readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";

/** `plane`: the shared control plane; `node`: the shared node of the e2e tests; `azurite`: the shared Azure emulator;
 *  `process`: it starts programs, Azurite and workers among them; `wait`: it waits by real time, or runs whole exports;
 *  `walk`: it goes over a sample of something, and over all of it on `npm run walks` */
export type Need = "plane" | "node" | "azurite" | "process" | "wait" | "walk";

/** an import of these, anywhere in test/, is a need */
const needOf: [need: Need, pattern: RegExp][] = [
  ["plane", /tools\/namespace\.ts$/],
  ["node", /tools\/node\/shared\.ts$/],
  ["azurite", /tools\/azurite\.ts$/],
  ["process", /^node:(child_process|cluster|worker_threads)$|src\/standalone\/(process|children)\.ts$/],
  ["wait", /^node:timers\/promises$/],
  ["walk", /tools\/sample\.ts$/],
];
const waits = /\b(?:setTimeout|setInterval)\(|\bdelay\(/;

interface Module {
  imports: string[];
  waits: boolean;
}
const modules = new Map<string, Module>();

function readModule(file: string): Module {
  const known = modules.get(file);
  if (known) return known;
  const text = readFileSync(file, "utf8");
  // an import of types only starts nothing
  const imports = [...text.matchAll(/^(?:import|export)(?! type )[^;"]*?"([^"]+)";/gm)].map(([, path]) => path!);
  const found = {
    imports: imports.map((path) => (path.startsWith(".") ? normalize(join(dirname(file), path)) : path)),
    waits: waits.test(text),
  };
  modules.set(file, found);
  return found;
}

/** @param file path below the root of the tree, e.g. `test/api/names.test.ts` */
export function needsOf(file: string): Set<Need> {
  const needs = new Set<Need>();
  const seen = new Set<string>();
  const visit = (path: string): void => {
    if (seen.has(path)) return;
    seen.add(path);
    const { imports, waits } = readModule(path);
    if (waits) needs.add("wait");
    for (const imported of imports) {
      for (const [need, pattern] of needOf) if (pattern.test(imported)) needs.add(need);
      if (imported.startsWith("test/") && imported.endsWith(".ts")) visit(imported);
    }
  };
  visit(normalize(file));
  return needs;
}

/** Neither sleeps nor processes nor a control plane: `npm run test:quick`. */
export const isQuick = (file: string): boolean => [...needsOf(file)].every((need) => need === "walk");

/** Files that need more take longer, and of those with as many needs the longer text: good enough to begin with those
 *  that would end last. */
export const weightOf = (file: string): number => needsOf(file).size + readFileSync(file).length / 1_000_000;
