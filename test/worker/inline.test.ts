import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { paths, storage } from "../sink/stores.ts";
import { type Source, startSource } from "../sources/server.ts";
import { Export, linesOf } from "./harness.ts";

const { kinds, place } = storage();
let source: Source;
before(async () => {
  source = await startSource();
});
after(() => source.close());

const types = ["Patient", "Encounter"];
const wanted = () =>
  [...source.dump("Patient"), ...source.dump("Encounter")].map(([key, line]) => [key, line.toString()]).sort();

for (const kind of kinds)
  describe(`a small export in the plan's pod, into ${kind}`, () => {
    test("is complete and sealed when the plan ends; the report has the totals and no packages", async () => {
      const where = await place(kind);
      const exported = new Export(where, source.baseURL, {
        export: { types },
        plan: { inlineResources: 200_000, shardResources: 100 },
      });
      const { code, report } = await exported.run("plan");
      assert.deepEqual([code, report.error, report.packages, report.exact], [0, undefined, 0, true]);
      const { lines, manifest } = await linesOf(await where.open());
      assert.deepEqual([...lines].sort(), wanted());
      assert.equal(report.totals!.resources, lines.size);
      assert.equal(report.transactionTime, manifest.transactionTime);
      assert.deepEqual(await paths(await where.open(), "_work/"), ["_work/plan.json"]);
      // A report that was lost is obtained by running the command again.
      const again = await exported.run("plan");
      assert.deepEqual([again.code, again.report], [0, report]);
      assert.equal((await exported.run("verify")).code, 0);
    });

    test("continues where it was stopped", async () => {
      const where = await place(kind);
      const exported = new Export(where, source.baseURL, {
        export: { types },
        plan: { inlineResources: 200_000, shardResources: 100 },
      });
      let stops = 0;
      for (const pages of [1, 3, 5]) {
        const stop = new AbortController();
        let seen = 0;
        const off = source.onRequest(({ url }) => {
          if (url.includes("_sort=") && url.includes("ge20") && ++seen === pages) stop.abort();
        });
        const { code } = await exported.run("plan", 0, stop.signal);
        off();
        if (!stop.signal.aborted) continue;
        assert.equal(code, 143);
        stops++;
      }
      assert(stops >= 2, `stopped ${stops} times`);
      assert.equal((await exported.run("plan")).code, 0);
      assert.deepEqual([...(await linesOf(await where.open())).lines].sort(), wanted());
    });

    test("is left to Jobs if it is larger", async () => {
      const exported = new Export(await place(kind), source.baseURL, {
        export: { types },
        plan: { inlineResources: 100, shardResources: 100 },
      });
      const { code, report } = await exported.run("plan");
      assert.equal(code, 0);
      assert(report.packages! > 1);
    });
  });
