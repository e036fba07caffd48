import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { posix } from "node:path";
import { suite, test } from "node:test";
import { pageOf, root } from "./pages.ts";

/** All files of the repository that people write or read as text. */
const files = globSync(
  [
    "*.md",
    ".ci/run",
    "Dockerfile",
    "{bench,bin,build,charts,crds,docs,examples,src,test}/**/*.{ts,mjs,md,yaml,tpl,txt,json,java,xml,toml}",
  ],
  { cwd: root },
)
  .filter((path) => !path.includes("/node_modules/"))
  .sort();
const known = new Set([...files, ...globSync("{src,test}/**/*.{wasm,tgz}", { cwd: root })]);
const own = "test/docs/references.test.ts";

/** A file without the addresses of other sites, whose paths look like ours. */
const read = (path: string) => readFileSync(root + path, "utf8").replace(/https?:\/\/[^\s)"'`>]+/g, "");

/** What a reader takes for an explanation: all of a page, and of code the comments, joined where a sentence goes over
 *  several lines. */
function explanationsIn(path: string): string {
  const text = read(path);
  if (!/\.(ts|mjs|java)$/.test(path)) return text;
  return [...text.matchAll(/\/\*[\s\S]*?\*\/|(?<![:"'`\\])\/\/.*$/gm)]
    .map(([comment]) => comment.replace(/\n\s*\*?\s*/g, " "))
    .join("\n");
}

/** Names of documents that are not in the repository: whoever has cloned it cannot follow them. */
const outside = /\bDESIGN\b|(?<![\w/.-])reference\/|\(reference: (?!unknown)[a-z]/;
/** A path from the root, with the anchor of a page. */
const rooted =
  /(?<![\w./@~-])(?:bench|build|charts|crds|docs|examples|src|test)\/[\w./-]*\w\.(?:[a-z]{2,5})\b(?:#[\w-]+)?/g;
/** The name of a source file or a page, alone or with some of its folders. */
const bare = /(?<![\w./*@{}~-])(?:\.\.?\/)*(?:[\w-]+\/)*[\w-]+(?:\.[\w-]+)*\.(?:ts|md)\b(?![\w/-])/g;

function isKnownPath(name: string): boolean {
  const [path = "", anchor] = name.split("#", 2) as [string, string?];
  return known.has(path) && (anchor === undefined || pageOf(path).anchors.has(anchor));
}

function isKnownName(name: string, from: string): boolean {
  if (name.startsWith(".") && known.has(posix.join(posix.dirname(from), name))) return true;
  const tail = name.replace(/^(\.\.?\/)+/, "");
  return known.has(tail) || [...known].some((path) => path.endsWith(`/${tail}`));
}

suite("references that can be followed from a clone", () => {
  test("no text names a document that is not in the repository", () => {
    const wrong = files
      .filter((path) => path !== own)
      .flatMap((path) =>
        read(path)
          .split("\n")
          .flatMap((line, index) => (outside.test(line) ? [`${path}:${index + 1}: ${line.trim().slice(0, 80)}`] : [])),
      );
    assert.deepEqual(wrong, []);
  });

  test("files and sections that comments and pages name are there", () => {
    const wrong = files
      .filter((path) => path !== own)
      .flatMap((path) => {
        const text = explanationsIn(path);
        return [
          ...(text.match(rooted) ?? []).filter((name) => !isKnownPath(name)),
          ...(text.match(bare) ?? []).filter((name) => !isKnownName(name, path)),
        ].map((name) => `${path}: ${name}`);
      });
    assert.deepEqual([...new Set(wrong)], []);
  });
});
