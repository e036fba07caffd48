import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { generate, generatedPath, kinds } from "../tools/generate.ts";

for (const kind of kinds)
  test(`src/api/${kind}.gen.ts is what crds/${kind}s.yaml makes (npm run generate)`, async () => {
    assert.equal(readFileSync(generatedPath(kind), "utf8"), await generate(kind));
  });
