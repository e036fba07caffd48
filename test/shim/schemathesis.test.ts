import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import { freePort } from "../tools/azurite.ts";
import { pypi } from "../tools/pypi.ts";

const program = pypi("schemathesis", "4.32.5");

test("schemathesis finds nothing that docs/openapi.yaml does not say", { skip: program ? false : "no Python" }, async () => {
  const port = await freePort();
  const server = spawn(process.execPath, ["test/tools/shim-server.ts", String(port)], { stdio: ["ignore", "pipe", "inherit"] });
  try {
    await once(server.stdout, "data");
    const args = ["--config-file", "test/tools/schemathesis.toml", "run", "docs/openapi.yaml", "--url", `http://127.0.0.1:${port}`];
    const limits = ["--checks", "all", "--max-examples", "40", "--seed", "1", "--phases", "examples,coverage,fuzzing", "--no-color"];
    const { status, stdout, stderr } = spawnSync(program!, [...args, ...limits], {
      encoding: "utf8",
      timeout: 240_000,
      env: { ...process.env, HYPOTHESIS_STORAGE_DIRECTORY: "/tmp/none", PYTHONDONTWRITEBYTECODE: "1" },
    });
    assert.equal(status, 0, `${stdout.slice(-6000)}${stderr}`);
    const cases = /^\s*(\d+) generated.*$/m.exec(stdout);
    assert(Number(cases?.[1]) > 500, stdout.slice(-2000));
    console.log(`!! schemathesis: ${cases![0].trim()}`);
  } finally {
    server.kill();
    await once(server, "exit");
  }
});
