import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { isQuick, type Need, needsOf, weightOf } from "./needs.ts";

const needs: [file: string, needs: Need[]][] = [
  ["test/api/names.test.ts", []],
  ["test/operator/crash.test.ts", ["walk"]],
  ["test/worker/walk.test.ts", ["azurite", "process", "wait", "walk"]],
  ["test/cluster/crds.test.ts", ["plane", "process", "wait"]],
  ["test/e2e/chart.test.ts", ["node", "process", "wait"]],
];

describe("what a test file needs is read off it", () => {
  for (const [file, wanted] of needs)
    test(`${file}: ${wanted.join(", ") || "nothing"}`, () => assert.deepEqual([...needsOf(file)].sort(), wanted));

  test("a file that starts programs or waits is not quick", () => {
    const files = globSync("test/**/*.test.ts").filter((file) => isQuick(file));
    assert(files.length > 30, `${files.length} files are quick`);
    for (const file of files)
      assert.doesNotMatch(
        readFileSync(file, "utf8"),
        /from "node:(child_process|timers\/promises)"|makeNamespace\(|startAzurite\(/,
        file,
      );
  });

  test("files that need more begin earlier", () => {
    const order = [
      "test/worker/walk.test.ts",
      "test/cluster/crds.test.ts",
      "test/worker/kill.test.ts",
      "test/api/names.test.ts",
    ];
    assert.deepEqual(
      order.toSorted((a, b) => weightOf(b) - weightOf(a)),
      order,
    );
  });
});
