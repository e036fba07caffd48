import assert from "node:assert/strict";
import { test } from "node:test";
import { excusesOf, namesDefinedTwice, wideComments } from "./house.ts";

test("names that two files define at their top level are found, however they are defined", () => {
  const sources = new Map([
    ["a.ts", "export interface Window {}\nconst limit = 1;\nexport const [first, second] = [1, 2];\n"],
    ["b.ts", "type Window = string;\nfunction f() {\n  const limit = 2;\n}\nconst { first } = {};\n"],
    ["c.ts", "export async function load() {}\n"],
    ["d.ts", "const { rest: load } = {};\n"],
  ]);
  assert.deepEqual(namesDefinedTwice(sources), [
    ["Window", ["a.ts", "b.ts"]],
    ["first", ["a.ts", "b.ts"]],
    ["load", ["c.ts", "d.ts"]],
  ]);
});

test("comments that are too long are found, and code that is long is not", () => {
  const long = "x".repeat(115);
  const text = [`/** ${long}`, ` *  ${long}.`, ` *  ${long}12 */`, `  // ${long}1`, `const s = "// ${long}";`, "// ok"];
  assert.deepEqual(wideComments(new Map([["a.ts", text.join("\n")]])), ["a.ts:3", "a.ts:4"]);
});

test("an excuse is a rule that is off for a file that is named; what is off for a whole folder is a rule of its own", () => {
  assert.deepEqual(
    excusesOf({
      overrides: [
        { includes: ["src/a.ts", "src/b.ts"], linter: { rules: { complexity: { useMaxParams: "off" } } } },
        { includes: ["test/**"], linter: { rules: { complexity: { noExcessiveLinesPerFunction: "off" } } } },
      ],
    }),
    [
      { rule: "useMaxParams", file: "src/a.ts" },
      { rule: "useMaxParams", file: "src/b.ts" },
    ],
  );
});
