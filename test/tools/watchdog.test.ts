import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

const cases: [name: string, last: string, said: string][] = [
  [
    "whose hook never ends",
    "after(() => new Promise(() => createServer().listen(0)));",
    "has not ended after 2 s; what keeps it: .*Server",
  ],
  ["that runs for ever", "after(() => { for (;;); });", "does not end even by itself: killed"],
];

for (const [name, last, said] of cases)
  test(`a file ${name} is ended, named, and fails the run`, () => {
    const folder = mkdtempSync(join(tmpdir(), "fhir-export-test-"));
    const file = join(folder, "hangs.test.ts");
    writeFileSync(
      file,
      `import { createServer } from "node:net"; import { after, test } from "node:test"; test("passes", () => {}); ${last} createServer();`,
    );
    try {
      // a runner inside of a test reports to that test, unless it does not know of it
      const { NODE_TEST_CONTEXT: _, ...env } = process.env;
      const run = spawnSync(process.execPath, ["test/tools/run.ts", file], {
        env: { ...env, FHIR_EXPORT_TEST_LIMIT_MS: "2000" },
        encoding: "utf8",
        timeout: 60_000,
      });
      assert.equal(run.status, 1, run.stderr);
      assert.match(run.stdout + run.stderr, new RegExp(`!! ${file} ${said}`));
      assert.match(run.stdout, /, 1 failed, 0 skipped/);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
