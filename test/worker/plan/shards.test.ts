import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Usage } from "../../../bench/usage.ts";
import type { Checkpoint, Command, Plan, Report, Shard } from "../../../src/contracts.ts";
import { checkpointPath, dataPath, errorPath, planPath, shardId } from "../../../src/sink/layout.ts";
import { packShards } from "../../../src/worker/plan/packages.ts";
import { storage } from "../../sink/stores.ts";
import type { SampleResource } from "../../sources/generator.ts";
import { startSource } from "../../sources/server.ts";
import { Export, linesOf } from "../harness.ts";

const { place } = storage();
const many = 1500;
const until = "2026-01-01T00:00:00.000Z";
/** Resources at times that lie on no grid. Each has a shard of its own. */
const resources = Array.from({ length: many }, (_, n): SampleResource => {
  const lastUpdated = Date.parse("2000-01-01") + n * 6_000_000 + ((n * 7919) % 5000);
  const meta = `{"versionId":"1","lastUpdated":"${new Date(lastUpdated).toISOString()}"}`;
  const text = `{"resourceType":"Observation","id":"o${n}","meta":${meta},"status":"final"}`;
  return { type: "Observation", id: `o${n}`, versionId: "1", lastUpdated, text };
});

/** Runs a command as a process of its own.
 *  @param heapMB how many MB JavaScript's objects may take
 *  @returns its report, the report's size and what the process used */
async function measured(
  of: Export,
  command: Command,
  heapMB: number,
): Promise<{ report: Report; bytes: number; usage: Usage }> {
  const usage = join(of.place.secrets, "usage");
  const env = await of.environment();
  const child = spawn(
    process.execPath,
    [`--max-old-space-size=${heapMB}`, "--import=./bench/usage.ts", "bin/fhir-export.mjs", "worker", command],
    { env: { ...process.env, ...env, BENCH_USAGE: usage }, stdio: "ignore" },
  );
  const [code] = (await once(child, "exit")) as [number | null];
  assert.equal(code, 0);
  const report = await readFile(env.FHIR_EXPORT_TERMINATION!);
  return {
    report: JSON.parse(report.toString()) as Report,
    bytes: report.length,
    usage: JSON.parse(await readFile(usage, "utf8")) as Usage,
  };
}

/** Writes what the packages would leave in storage, one resource per shard. The packages would take a minute for it,
 *  with fsync. */
async function writeResults(of: Export, shards: readonly Shard[]): Promise<void> {
  const { folder, ...target } = of.task.target;
  const root = join((target as { volume: { path: string } }).volume.path, folder);
  for (const [n, { id, type }] of shards.entries()) {
    const line = `${resources[n]!.text}\n`;
    const name = dataPath(id, 1, false);
    const part = { name, lines: 1, bytes: line.length, sha256: createHash("sha256").update(line).digest("hex") };
    const result: Checkpoint = {
      v: 2,
      uid: of.task.uid,
      shard: id,
      writer: "00000000",
      sequence: 1,
      done: [part],
      errors: 0,
      fingerprints: [],
      ended: { type, seen: 1, evidence: [{ shown: 1, counted: 1 }] },
    };
    await mkdir(dirname(join(root, checkpointPath(id))), { recursive: true });
    await Promise.all([
      writeFile(join(root, name), line),
      writeFile(join(root, checkpointPath(id)), JSON.stringify(result)),
    ]);
  }
}

describe("plans of many shards", () => {
  test("are cut and sealed in bounded memory, with up to 16 counts at a time", async () => {
    const source = await startSource({ resources });
    try {
      const of = new Export(await place("directory"), source.baseURL, {
        export: { types: ["Observation"], until },
        source: { share: { requests: 16 } },
        plan: { shardResources: 1 },
      });
      let [active, most] = [0, 0];
      const off = source.onRequest(async ({ url }) => {
        if (!url.includes("_summary=count")) return;
        most = Math.max(most, ++active);
        await sleep(2);
        active--;
      });
      const planned = await measured(of, "plan", 48);
      assert(most > 8, `${most} counts at a time`);
      assert(
        planned.bytes <= 3500 && planned.usage.rssMiB < 256,
        `${planned.bytes} bytes, ${planned.usage.rssMiB} MiB`,
      );
      const store = await of.place.open();
      const { shards, packages } = JSON.parse((await store.read(planPath))!.bytes.toString()) as Plan;
      assert.equal(shards.length, many);
      assert.deepEqual(packages.flat().sort(), shards.map(({ id }) => id).sort());

      await writeResults(of, shards);
      most = 0;
      const counts = source.counters.counts;
      const sealed = await measured(of, "seal", 48);
      off();
      assert(most > 8, `${most} counts at a time`);
      assert.equal(source.counters.counts - counts, many, "each window is counted once");
      assert(sealed.bytes <= 3500 && sealed.usage.rssMiB < 256, `${sealed.bytes} bytes, ${sealed.usage.rssMiB} MiB`);
      assert.deepEqual(
        [sealed.report.totals!.resources, sealed.report.totals!.files, sealed.report.exact],
        [many, many, true],
      );
      const { lines, doubled } = await linesOf(store);
      assert.deepEqual([doubled, [...lines.keys()].sort()], [[], [...source.dump().keys()].sort()]);
    } finally {
      await source.close();
    }
  });

  test("with more than 9,999 shards of a type, no file name begins with that of another shard, and there are at most 10,000 packages", () => {
    const shards = Array.from({ length: 10_500 }, (_, n) => ({ id: shardId("Observation", n + 1) }));
    assert.equal(shards.at(-1)!.id, "Observation-10500");
    assert.equal(new Set(shards.map(({ id }) => id)).size, 10_500);
    for (const [one, other] of [
      ["Observation-1000", "Observation-10000"],
      ["Observation-1050", "Observation-10500"],
      ["Observation-0001", "Observation-10001"],
    ] as const) {
      assert.equal(dataPath(other, 1, false).startsWith(`${one}-`), false);
      assert.equal(errorPath(other).startsWith(errorPath(one)), false);
    }
    const packages = packShards(shards, () => 1, 1);
    assert.equal(packages.length, 10_000);
    assert.deepEqual(new Set(packages.flat()), new Set(shards.map(({ id }) => id)));
    assert(packages.every((one) => one.length <= 2));
  });
});
