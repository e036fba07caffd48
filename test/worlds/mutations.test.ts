import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { mutants } from "./mutants.ts";

test("each check that worlds must miss is in the worker, once", () => {
  for (const { name, file, from, to } of mutants) {
    const text = readFileSync(new URL(`../../${file}`, import.meta.url), "utf8");
    assert.equal(text.split(from).length, 2, `${name}: ${file} does not have ${from}`);
    assert.notEqual(from, to);
  }
});
