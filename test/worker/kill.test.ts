import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { after, before, describe, test } from "node:test";
import type { Command, Report } from "../../src/contracts.ts";
import { type Place, paths, readAll, storage } from "../sink/stores.ts";
import { type Source, startSource } from "../sources/server.ts";
import { Export } from "./harness.ts";

const { kinds, place } = storage();
let source: Source;
before(async () => {
  source = await startSource();
});
after(() => source.close());

/** How many requests to the source an attempt makes before it is killed: before and after its first checkpoints. The
 *  fourth attempt is not killed. */
const killAt = [3, 22, 8];
const until = "2026-01-01T00:00:00.000Z";

/** Runs a command as a process of its own.
 *  @returns its exit code; undefined when a signal ended it */
async function run(
  of: Export,
  command: Command,
  index: number,
  onStart: (pid: number) => void = () => {},
): Promise<number | undefined> {
  const child = spawn(process.execPath, ["bin/fhir-export.mjs", "worker", command], {
    env: { ...process.env, ...(await of.environment(index)) },
    stdio: "ignore",
  });
  onStart(child.pid!);
  const [code] = (await once(child, "exit")) as [number | null];
  return code ?? undefined;
}

async function report(of: Export, index = 0): Promise<Report> {
  return JSON.parse(await readFile((await of.environment(index)).FHIR_EXPORT_TERMINATION!, "utf8")) as Report;
}

async function outputOf(where: Place): Promise<Map<string, string>> {
  const store = await where.open();
  const found = new Map<string, string>();
  for (const path of await paths(store))
    if (path.endsWith(".ndjson") || path === "SHA256SUMS")
      found.set(path, (await readAll(store, path))!.toString("latin1"));
  return found;
}

for (const kind of kinds)
  describe(`kill -9 of the worker, into ${kind}`, () => {
    const parameters = {
      export: { types: ["Observation"], until, maxFileBytes: 200_000 },
      plan: { shardResources: 1500 },
      source: { count: 50, share: { requests: 2 } },
    };

    test("at many points of the export: the files are byte-identical to those of an undisturbed run", async () => {
      const undisturbed = await place(kind);
      const reference = new Export(undisturbed, source.baseURL, parameters);
      assert.equal((await reference.all()).code, 0);
      const wanted = await outputOf(undisturbed);
      assert(wanted.size > 3);

      const where = await place(kind);
      const of = new Export(where, source.baseURL, parameters);
      assert.equal(await run(of, "plan", 0), 0);
      const { packages } = await report(of);
      let kills = 0;
      // slow enough for several checkpoints, which are 2 s apart
      source.set({ pageDelay: 120 });
      for (let index = 0; index < packages!; index++)
        for (let attempt = 0; ; attempt++) {
          let pid = 0;
          let requests = 0;
          const off = source.onRequest(() => {
            if (pid && ++requests === killAt[attempt]) {
              process.kill(pid, "SIGKILL");
              kills++;
            }
          });
          const code = await run(of, "export", index, (started) => (pid = started));
          off();
          if (code !== undefined) {
            assert.equal(code, 0);
            break;
          }
        }
      source.set({ pageDelay: 0 });
      assert(kills >= 4, `killed ${kills} times`);
      assert.equal(await run(of, "seal", 0), 0);
      assert.deepEqual(await outputOf(where), wanted);
    });

    test("SIGTERM before the results are stored: exit code 143, and the next run completes the export", async () => {
      const where = await place(kind);
      const of = new Export(where, source.baseURL, parameters);
      assert.equal(await run(of, "plan", 0), 0);
      source.set({ pageDelay: 100 });
      let pid = 0;
      let requests = 0;
      const off = source.onRequest(() => {
        if (pid && ++requests === 5) process.kill(pid, "SIGTERM");
      });
      assert.equal(await run(of, "export", 0, (started) => (pid = started)), 143);
      off();
      source.set({ pageDelay: 0 });
      assert.equal(await run(of, "export", 0), 0);
    });
  });
