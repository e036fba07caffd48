import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, suite, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { RunSpec, RunView } from "../../src/effects.ts";
import { makeLogger } from "../../src/log.ts";
import { openDatabase } from "../../src/standalone/database.ts";
import { Runs } from "../../src/standalone/runs.ts";
import { eventually } from "./eventually.ts";

const worker = [process.execPath, fileURLToPath(new URL("fixtures/worker.ts", import.meta.url))];
const owner = { uid: "u-1", name: "e" };

let folder: string;
let database: ReturnType<typeof openDatabase>;
let runs: Runs;
let changes: number;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "fhir-export-runs-"));
  open();
});
afterEach(async () => {
  await close();
  await rm(folder, { recursive: true });
});
function open(): void {
  changes = 0;
  database = openDatabase(folder);
  const changed = () => void changes++;
  runs = new Runs({ database, worker, log: makeLogger({}, "silent"), changed, graceMs: 500, backoffMs: 20 });
}
async function close(): Promise<void> {
  await runs.close();
  database.close();
}
/** @param fixture see fixtures/worker.ts */
async function ensure(fixture: object, spec: Partial<RunSpec> = {}): Promise<void> {
  await mkdir(join(folder, "task"), { recursive: true });
  await writeFile(join(folder, "task", "task.json"), JSON.stringify({ fixture }));
  runs.ensure(
    { name: "r", command: "export", attempt: 1, completions: 1, parallelism: 2, suspend: false, ...spec },
    owner,
    join(folder, "task"),
  );
}
const view = async (): Promise<RunView> => runs.view(runs.owned("u-1")[0]!);
const until = (holds: (view: RunView) => boolean) => eventually(view, holds);
const starts = async (index = 0, command = "export") =>
  (await readFile(join(folder, "task", `starts-${command}-${index}`), "utf8").catch(() => ""))
    .trim()
    .split("\n")
    .filter(Boolean);
const isAlive = (pid: string) => existsSync(`/proc/${pid}`);

suite("a run of child processes", () => {
  test("runs every index once, in parallel as allowed, and keeps the reports", async () => {
    await ensure({ ms: 50 }, { completions: 5 });
    let most = 0;
    const done = await until((view) => {
      most = Math.max(most, view.live);
      return view.state === "complete";
    });
    assert.equal(most, 2);
    assert.deepEqual(
      [done.done, done.live, done.reports.map((report) => report?.command)],
      [5, 0, Array(5).fill("export")],
    );
    for (let index = 0; index < 5; index++) assert.equal((await starts(index)).length, 1);
    assert.ok(changes >= 5);
  });

  test("a run whose name exists is not started again", async () => {
    await ensure({});
    const first = await until(({ state }) => state === "complete");
    await ensure({});
    assert.equal((await view()).uid, first.uid);
    assert.equal((await starts()).length, 1);
  });

  test("an index that fails is tried again, and others are not disturbed", async () => {
    await ensure({ codes: { 1: [1, 75] } }, { completions: 3 });
    await until(({ state }) => state === "complete");
    assert.deepEqual([(await starts(0)).length, (await starts(1)).length, (await starts(2)).length], [1, 3, 1]);
  });

  test("exit 64 fails the run at once and stops the others", async () => {
    await ensure({ ms: 100, codes: { 0: [64] }, deaf: true }, { completions: 3 });
    const failed = await until(({ state, live }) => state === "failed" && live === 0);
    assert.equal(failed.reason, "Terminal");
    assert.equal(failed.reports[0]?.error?.message, "try 1");
    assert.equal((await starts(0)).length, 1);
  });

  test("a plan is not tried again", async () => {
    await ensure({ codes: { 0: [75, 0] } }, { command: "plan" });
    assert.equal((await until(({ state }) => state === "failed")).reports[0]?.error?.message, "try 1");
    assert.equal((await starts(0, "plan")).length, 1);
  });

  test("suspend stops the children; resume starts them again, and no failure is counted", async () => {
    await ensure({ ms: 60_000 });
    await until(({ live }) => live === 1);
    await eventually(starts, (pids) => pids.length === 1);
    const { uid } = await view();
    runs.set(uid, { suspend: true });
    assert.equal((await until(({ live }) => live === 0)).state, "suspended");
    const [pid] = await starts();
    assert.ok(!isAlive(pid!));
    await writeFile(join(folder, "task", "task.json"), "{}");
    runs.set(uid, { suspend: false });
    await until(({ state }) => state === "complete");
    assert.equal((await starts()).length, 2);
  });

  test("a child that ignores SIGTERM is killed after the grace time", async () => {
    await ensure({ ms: 60_000, deaf: true });
    const [pid] = await eventually(starts, (pids) => pids.length === 1);
    const { uid } = await view();
    await runs.remove(uid);
    assert.ok(!isAlive(pid!));
    assert.deepEqual(runs.owned("u-1"), []);
  });

  test("kill -9 of a child is a failure of its index, which is tried again", async () => {
    await ensure({ ms: 500 });
    const [pid] = await eventually(starts, (pids) => pids.length === 1);
    process.kill(Number(pid), "SIGKILL");
    await until(({ state }) => state === "complete");
    assert.equal((await starts()).length, 2);
  });

  test("a finished run is removed when its time to live is over", async () => {
    await ensure({});
    const { uid } = await until(({ state }) => state === "complete");
    runs.set(uid, { ttlSeconds: 0 });
    await eventually(
      async () => runs.owned("u-1"),
      (owned) => owned.length === 0,
    );
  });

  test("a missing report, or one of another export, is no report", async () => {
    await ensure({ mute: true });
    assert.deepEqual((await until(({ state }) => state === "complete")).reports, [undefined]);
  });
});

suite("after a restart", () => {
  test("a run that was stopped with its standalone continues", async () => {
    await ensure({ ms: 60_000 }, { completions: 2, parallelism: 1 });
    await eventually(starts, (pids) => pids.length === 1);
    await close();
    await writeFile(join(folder, "task", "task.json"), "{}");
    open();
    runs.recover();
    const done = await until(({ state }) => state === "complete");
    assert.equal(done.done, 2);
    assert.deepEqual([(await starts(0)).length, (await starts(1)).length], [2, 1]);
  });

  test("a child that outlived its standalone counts as live, and is waited for before its work is done again", async () => {
    await ensure({ ms: 60_000, deaf: true });
    const [pid] = await eventually(starts, (pids) => pids.length === 1);
    // This is what a kill -9 leaves: the database says that the index is running, and the process lives.
    const rows = database.prepare("SELECT * FROM indexes").all() as { run: string; number: number; json: string }[];
    const { runs: row } = {
      runs: database.prepare("SELECT * FROM runs").get() as { name: string; uid: string; export: string; json: string },
    };
    assert.equal(JSON.parse(rows[0]!.json).process.pid, Number(pid));
    await mkdir(join(folder, "second"));
    const second = openDatabase(join(folder, "second"));
    second.prepare("INSERT INTO runs VALUES (?, ?, ?, ?)").run(row.name, row.uid, row.export, row.json);
    second.prepare("INSERT INTO indexes VALUES (?, ?, ?)").run(rows[0]!.run, 0, rows[0]!.json);
    const successor = new Runs({
      database: second,
      worker,
      log: makeLogger({}, "silent"),
      changed: () => {},
      graceMs: 60_000,
      backoffMs: 20,
    });
    try {
      successor.recover();
      const look = () => successor.view(successor.owned("u-1")[0]!);
      await sleep(200);
      assert.deepEqual([(await look()).live, (await starts()).length], [1, 1]);
      await writeFile(join(folder, "task", "task.json"), "{}");
      process.kill(Number(pid), "SIGKILL");
      await eventually(look, ({ state }) => state === "complete");
    } finally {
      await successor.close();
      second.close();
    }
  });

  test("a process that has the number of a former worker is not taken for it", async () => {
    await ensure({}, { suspend: true });
    const { uid } = await view();
    const state = { number: 0, state: "running", failures: 0, process: { pid: process.pid, started: "1" } };
    database.prepare("UPDATE indexes SET json = ? WHERE run = ?").run(JSON.stringify(state), uid);
    await close();
    open();
    runs.recover();
    assert.equal((await until(({ live }) => live === 0)).state, "suspended");
  });
});
