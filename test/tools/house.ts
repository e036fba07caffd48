/** `npm run check` runs this: rules of the house that neither tsc nor Biome knows. Prints what to mend, and exits with
 *  1 if there is anything.
 *  1. A top-level name is defined in one file of src only: two things with one name are confused sooner or later.
 *  2. The AssemblyScript files, which Biome does not read, hold to the same 400 lines as all others.
 *  3. biome.json excuses a file from a rule only as long as the file breaks it, so that the list of excuses shrinks.
 *  4. Comments have at most 120 columns, as code has: Biome does not wrap them. */
import { execFileSync } from "node:child_process";
import { globSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath, pathToFileURL } from "node:url";

const root = fileURLToPath(new URL("../../", import.meta.url));
const maxLines = 400;
const maxColumns = 120;

interface BiomeConfig {
  overrides?: { includes: string[]; linter?: { rules?: Record<string, Record<string, unknown>> } }[];
}

/** Names that more than one file defines at its top level, each with the files.
 *  @param sources text by path */
export function namesDefinedTwice(sources: ReadonlyMap<string, string>): [name: string, files: string[]][] {
  const files = new Map<string, string[]>();
  const definition =
    /^(?:export )?(?:declare )?(?:async )?(?:abstract )?(?:function\*?|class|interface|type|const|let) (?:(\w+)|[[{]([^=]*?)[\]}] =)/gm;
  for (const [path, text] of sources) {
    const names = new Set<string>();
    for (const [, name, pattern] of text.matchAll(definition))
      for (const one of name === undefined ? namesInPattern(pattern!) : [name]) names.add(one);
    for (const name of names) files.set(name, [...(files.get(name) ?? []), path]);
  }
  return [...files].filter(([, paths]) => paths.length > 1).sort(([a], [b]) => (a < b ? -1 : 1));
}

/** The names that `const [a, b] = …` or `const { a, b: c } = …` defines. */
const namesInPattern = (pattern: string): string[] =>
  pattern.split(",").flatMap((part) => /(\w+)\s*$/.exec(part.trim())?.[1] ?? []);

/** Lines of comments that are too long, each as `path:line`. A line of code that ends with a comment is code.
 *  @param sources text by path */
export function wideComments(sources: ReadonlyMap<string, string>): string[] {
  return [...sources].flatMap(([path, text]) =>
    text
      .split("\n")
      .flatMap((line, at) =>
        line.length > maxColumns && /^\s*(?:\/\/|\/?\*)/.test(line) ? [`${path}:${at + 1}`] : [],
      ),
  );
}

/** The excuses of biome.json: which files each rule does not hold for. */
export function excusesOf({ overrides = [] }: BiomeConfig): { rule: string; file: string }[] {
  return overrides.flatMap(({ includes, linter }) =>
    Object.values(linter?.rules ?? {}).flatMap((group) =>
      Object.entries(group)
        .filter(([, level]) => level === "off")
        .flatMap(([rule]) => includes.filter((file) => !file.includes("*")).map((file) => ({ rule, file }))),
    ),
  );
}

/** Which file breaks which rule when nothing is excused, as `rule file`. */
function offences(config: BiomeConfig): Set<string> {
  const strict = {
    ...config,
    overrides: config.overrides?.filter(({ includes }) => includes.every((file) => file.includes("*"))),
  };
  const path = `${root}biome.strict.json`;
  writeFileSync(path, JSON.stringify(strict));
  try {
    const output = execFileSync(
      `${root}node_modules/.bin/biome`,
      ["lint", `--config-path=${path}`, "--max-diagnostics=none", "--reporter=json"],
      { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"], maxBuffer: 64 << 20 },
    );
    return readOffences(output);
  } catch (error) {
    // Biome exits with 1 when it finds something; its report is printed all the same.
    return readOffences((error as { stdout: string }).stdout);
  } finally {
    rmSync(path, { force: true });
  }
}

function readOffences(output: string): Set<string> {
  const { diagnostics } = JSON.parse(output) as {
    diagnostics: { category: string; location: { path: string | { file: string } } }[];
  };
  return new Set(
    diagnostics.map(({ category, location: { path } }) => {
      const file = typeof path === "string" ? path : path.file;
      return `${category.split("/").at(-1)} ${file}`;
    }),
  );
}

function check(): string[] {
  const read = (pattern: string) =>
    new Map(globSync(pattern, { cwd: root }).map((path) => [path, readFileSync(root + path, "utf8")]));
  const sources = read("src/**/*.ts");
  const assembly = new Map([...sources].filter(([path]) => path.startsWith("src/scan/assembly/")));
  const own = new Map([...sources].filter(([path]) => !assembly.has(path) && !path.endsWith(".gen.ts")));
  const all = ["test/**/*.ts", "bench/**/*.ts", "build/**/*.ts", "bin/*.mjs"].flatMap((pattern) => [...read(pattern)]);
  const config = JSON.parse(readFileSync(`${root}biome.json`, "utf8")) as BiomeConfig;
  const excuses = excusesOf(config);
  const found = excuses.length > 0 ? offences(config) : new Set<string>();
  return [
    ...namesDefinedTwice(own).map(
      ([name, files]) => `${name} is defined in ${files.join(" and ")}: give each thing a name of its own`,
    ),
    ...[...assembly]
      .map(([path, text]) => [path, text.split("\n").length - 1] as const)
      .filter(([, lines]) => lines > maxLines)
      .map(([path, lines]) => `${path} has ${lines} lines, more than ${maxLines}: split it`),
    ...wideComments(new Map([...own, ...assembly, ...all])).map(
      (line) => `${line} is a comment of more than ${maxColumns} columns: wrap it`,
    ),
    ...excuses
      .filter(({ rule, file }) => !found.has(`${rule} ${file}`))
      .map(({ rule, file }) => `biome.json excuses ${file} from ${rule}, which it does not break: remove the excuse`),
  ];
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const problems = check();
  for (const problem of problems) console.error(problem);
  process.exitCode = problems.length > 0 ? 1 : 0;
}
