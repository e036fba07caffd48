import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";
import { parse } from "yaml";
import pkg from "../../package.json" with { type: "json" };
import { chartFolder, makeReadme, makeSchema, topLevelCRDs } from "../tools/chart.ts";

const read = (path: string) => readFileSync(join(chartFolder, path), "utf8");

suite("the chart follows from what it is made of (npm run generate)", () => {
  test("its crds/ equals the crds/ of the repository", () => {
    const crds = topLevelCRDs();
    assert.equal(crds.length, 3);
    assert.deepEqual(
      readdirSync(join(chartFolder, "crds")).sort(),
      crds.map(([file]) => file),
    );
    for (const [file, text] of crds) assert.equal(read(`crds/${file}`), text);
  });
  test("values.schema.json", () => assert.equal(read("values.schema.json"), makeSchema()));
  test("README.md, with a comment for each value", () => assert.equal(read("README.md"), makeReadme()));
  test("its versions are those of the program", () => {
    const { version, appVersion } = parse(read("Chart.yaml"));
    assert.deepEqual([version, appVersion], [pkg.version, pkg.version]);
  });
});
