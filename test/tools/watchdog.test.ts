import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { isAlive } from "./alive.ts";
import { until } from "./until.ts";

const cases: [name: string, last: string, said: string][] = [
  [
    "whose hook never ends",
    "after(() => new Promise(() => createServer().listen(0)));",
    "has not ended after 2 s; what keeps it: .*Server",
  ],
  ["that runs for ever", "after(() => { for (;;); });", "does not end even by itself: killed"],
];

for (const [name, last, said] of cases)
  test(`a file ${name} is ended with what it has started, named, and fails the run`, async () => {
    const folder = mkdtempSync(join(tmpdir(), "fhir-export-test-"));
    const file = join(folder, "hangs.test.ts");
    const pidFile = join(folder, "pid");
    writeFileSync(
      file,
      `import { spawn } from "node:child_process"; import { writeFileSync } from "node:fs";
      import { createServer } from "node:net"; import { after, test } from "node:test";
      const program = spawn("sleep", ["1000"], { detached: true, stdio: "ignore" });
      program.unref();
      writeFileSync(${JSON.stringify(pidFile)}, String(program.pid));
      test("passes", () => {}); ${last} createServer();`,
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
      const pid = Number(readFileSync(pidFile, "utf8"));
      try {
        await until("the end of what it has started", async () => !isAlive(pid));
      } finally {
        if (isAlive(pid)) process.kill(pid, "SIGKILL");
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
