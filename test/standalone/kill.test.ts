import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, suite, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type Source, startSource } from "../sources/server.ts";
import { eventually } from "./eventually.ts";
import { complete, Standalone, sorted } from "./harness.ts";

// The plan is the same each time, as the export is bounded and nothing is written to the source.
const path = `/$export?_type=Patient,Observation,Condition&_until=${new Date().toISOString()}`;

let root: string;
let source: Source;
let undisturbed: Map<string, Buffer>;
let number = 0;
let standalone: Standalone;
before(async () => {
  root = await mkdtemp(join(tmpdir(), "fhir-export-kill-"));
  source = await startSource();
  await start();
  const { files, lines } = await complete(await standalone.kickOff(path));
  undisturbed = files;
  assert.ok(files.size > 5, `${files.size} files`);
  assert.deepEqual(
    sorted(lines),
    sorted(new Map(["Patient", "Observation", "Condition"].flatMap((type) => [...source.dump(type)]))),
  );
  await standalone.end();
});
after(async () => {
  // after a failure in the hook before, it would keep this process
  await standalone?.end();
  await source.close();
  await rm(root, { recursive: true, force: true });
});
beforeEach(async () => {
  source.set({ pageDelay: 60 });
  await start();
});
afterEach(() => standalone.end());

async function start(): Promise<void> {
  const name = `place-${++number}`;
  standalone = await Standalone.start([
    ...["--source", source.baseURL, "--target", join(root, name, "out"), "--data", join(root, name, "data")],
    ...["--shard-resources", "1000", "--inline-resources", "0", "--page-size", "50", "--retry-seconds", "5"],
  ]);
}
/** Polls until the export has workers. @returns their pids */
async function running(url: string): Promise<number[]> {
  await eventually(
    async () => (await fetch(url)).headers.get("x-progress") ?? "",
    (progress) => progress.includes("running"),
  );
  return eventually(
    () => standalone.workers(),
    (pids) => pids.length > 1,
  );
}
async function sameAsUndisturbed(url: string): Promise<void> {
  source.set({ pageDelay: 0 });
  const { files } = await complete(url);
  assert.deepEqual(sorted(files), sorted(undisturbed));
}
const kill = (pid: number) => {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It may have ended by itself meanwhile.
  }
};

suite("whatever is killed, the export has the same bytes", () => {
  test("kill -9 of workers", async () => {
    const url = await standalone.kickOff(path);
    let killed = 0;
    for (let round = 0; round < 3; round++) {
      const pids = await running(url);
      await sleep(150 * round);
      for (const pid of pids.slice(0, 2)) kill(pid);
      killed += 2;
    }
    assert.equal(killed, 6);
    assert.ok(standalone.output.includes('"signal":"SIGKILL"'));
    await sameAsUndisturbed(url);
  });

  test("kill -9 of standalone: its workers end, and the next standalone continues the export", async () => {
    // The source is so slow that no worker completes its work in the time that it has to end.
    source.set({ pageDelay: 1000 });
    const url = await standalone.kickOff(path);
    const pids = await running(url);
    // A worker that is killed while it starts would fail for that reason.
    await eventually(
      () => (standalone.output.match(/"command":"export".*"msg":"started"/g) ?? []).length + source.counters.active,
      (atWork) => atWork >= 2 * pids.length,
    );
    await standalone.end("SIGKILL");
    // They must end by themselves, as nothing is left that would end them.
    await eventually(
      () => pids.filter((pid) => existsSync(`/proc/${pid}`)),
      (alive) => alive.length === 0,
      { timeoutMs: 3000 },
    );
    await standalone.start();
    await sameAsUndisturbed(url);
  });

  test("kill -9 of standalone again and again, at any moment", async () => {
    const url = await standalone.kickOff(path);
    for (let round = 0; round < 6; round++) {
      await sleep(200 + 350 * round);
      await standalone.end("SIGKILL");
      await standalone.start();
    }
    await sameAsUndisturbed(url);
  });

  test("SIGTERM: the workers stop, standalone exits with 0, and the next one continues the export", async () => {
    const url = await standalone.kickOff(path);
    const pids = await running(url);
    assert.equal(await standalone.end(), 0);
    assert.deepEqual(
      pids.filter((pid) => existsSync(`/proc/${pid}`)),
      [],
    );
    await standalone.start();
    await sameAsUndisturbed(url);
  });

  test("kill -9 of standalone after a DELETE: the next one finishes the cancel", async () => {
    const url = await standalone.kickOff(path);
    await running(url);
    assert.equal((await fetch(url, { method: "DELETE" })).status, 202);
    await standalone.end("SIGKILL");
    await standalone.start();
    assert.equal((await fetch(url)).status, 404);
    await eventually(
      () => standalone.output,
      (output) => /"command":"purge".*"msg":"done"/.test(output),
    );
    await eventually(
      () => standalone.workers(),
      (pids) => pids.length === 0,
    );
    const left = await readdir(join(root, `place-${number}`, "out"), { recursive: true, withFileTypes: true });
    assert.deepEqual(
      left.filter((entry) => entry.isFile()),
      [],
    );
  });
});
