import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { test } from "node:test";
import { freePort } from "../tools/azurite.ts";
import { pypi } from "../tools/pypi.ts";

const program = pypi("schemathesis", "4.32.5");

test("schemathesis finds nothing that docs/openapi.yaml does not say", {
  skip: program ? false : "no Python",
}, async () => {
  const port = await freePort();
  const folder = await mkdtemp(join(tmpdir(), "fhir-export-schemathesis-"));
  const server = spawn(process.execPath, ["test/tools/shim-server.ts", String(port)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  try {
    await once(server.stdout, "data");
    const args = [
      "--config-file",
      resolve("test/tools/schemathesis.toml"),
      "run",
      resolve("docs/openapi.yaml"),
      "--url",
      `http://127.0.0.1:${port}`,
    ];
    const limits = [
      "--checks",
      "all",
      "--max-examples",
      "40",
      "--seed",
      "1",
      "--phases",
      "examples,coverage,fuzzing",
      "--no-color",
    ];
    const { status, stdout, stderr } = spawnSync(program!, [...args, ...limits], {
      encoding: "utf8",
      // it keeps what it has found, and tries that first the next time: a run would depend on the ones before
      cwd: folder,
      timeout: 240_000,
      env: { ...process.env, HYPOTHESIS_STORAGE_DIRECTORY: folder, PYTHONDONTWRITEBYTECODE: "1" },
    });
    assert.equal(status, 0, `${stdout.slice(-6000)}${stderr}`);
    const cases = /^\s*(\d+) generated.*$/m.exec(stdout);
    assert(Number(cases?.[1]) > 500, stdout.slice(-2000));
    console.log(`!! schemathesis: ${cases![0].trim()}`);
  } finally {
    await rm(folder, { recursive: true, force: true });
    server.kill();
    await once(server, "exit");
  }
});
