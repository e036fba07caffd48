import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import { readAll, storage } from "../sink/stores.ts";
import { type Source, startSource } from "../sources/server.ts";
import { Export, linesOf } from "./harness.ts";

const { place } = storage();
let source: Source;
let all: string[];
/** ids of resources that the server cannot render; they are in three windows */
let poison: string[];
before(async () => {
  source = await startSource();
  all = [...source.dump().keys()].filter((key) => key.startsWith("Observation/"));
  poison = [7, 1200, 1201, 4000].map((at) => all[at]!.slice("Observation/".length));
});
after(() => source.close());
afterEach(() => source.set({ poison: { ids: [], as: 500 }, paging: "cursor", ignore: [] }));

const parameters = { export: { types: ["Observation"] }, plan: { shardResources: 1500 }, source: { count: 50 } };

describe("pages that cannot be read", () => {
  for (const { as, paging } of [
    { as: 500, paging: "cursor" },
    { as: "cut", paging: "offset" },
    { as: 500, paging: "snapshot" },
    { as: "notJSON", paging: "cursor" },
  ] as const)
    test(`resources that the server cannot render (${as}), ${paging} paging, are told, and all others come out once`, async () => {
      const where = await place("directory");
      const exported = new Export(where, source.baseURL, parameters);
      assert.deepEqual((await exported.run("plan")).report.error, undefined);
      source.set({ poison: { ids: poison, as }, paging });
      const done = await exported.all();
      assert.deepEqual([done.code, done.report.error, done.report.exact], [0, undefined, false]);
      const { lines, doubled, manifest } = await linesOf(await where.open());
      assert.deepEqual(doubled, []);
      assert.deepEqual([...lines.keys()].sort(), all.filter((key) => !poison.includes(key.slice(12))).sort());
      assert.equal(done.report.totals!.errors, poison.length);
      const told = manifest.error.filter(({ path }) => path.includes("Observation"));
      assert(told.length > 0);
      for (const { path } of told) {
        const text = (await readAll(await where.open(), path))!.toString();
        assert.match(text, /A page of Observation from \d{4}-\S+Z till \d{4}-\S+Z cannot be read/);
        assert(!poison.some((id) => text.includes(id)), "no ids");
      }
    });

  test("a source all of whose pages are cut short: nothing is exported, and told", async () => {
    const where = await place("directory");
    const exported = new Export(where, source.baseURL, { ...parameters, export: { types: ["Group"] } });
    source.inject({ kind: "cut", clean: true, match: "_count=", times: "always" });
    const done = await exported.all();
    source.clearFaults();
    assert.deepEqual([done.code, done.report.error, done.report.exact], [0, undefined, false]);
    assert(done.report.totals!.errors > 0);
    const { lines, manifest } = await linesOf(await where.open());
    assert.equal(lines.size, 0);
    assert(manifest.error.length > 0);
  });

  test("some seconds without an answer to any search, while /metadata is there, cost no resource", async () => {
    const where = await place("directory");
    const exported = new Export(where, source.baseURL, { ...parameters, source: { count: 50, retrySeconds: 60 } });
    assert.deepEqual((await exported.run("plan")).report.error, undefined);
    let failed = 0;
    const stop = source.onRequest(() => {
      // from the fifth page on, until 25 requests have failed
      if (++failed === 5) source.inject({ kind: "status", status: 500, match: "Observation", times: 25 });
    });
    const done = await exported.all();
    stop();
    assert.deepEqual([done.code, done.report.error, done.report.exact], [0, undefined, true]);
    const { lines } = await linesOf(await where.open());
    assert.deepEqual([...lines.keys()].sort(), [...all].sort());
    assert.equal(done.report.totals!.errors, 0);
  });

  test("with onResourceError: Fail they end the export", async () => {
    const exported = new Export(await place("directory"), source.baseURL, {
      ...parameters,
      export: { ...parameters.export, onResourceError: "Fail" },
    });
    assert.deepEqual((await exported.run("plan")).report.error, undefined);
    source.set({ poison: { ids: poison, as: 500 } });
    const { code, report } = await exported.run("export");
    assert.deepEqual([code, report.error?.reason], [64, "SourceInconsistent"]);
    assert.match(report.error!.message, /A page of Observation .* cannot be read: .*500.*onResourceError: Fail/);
  });

  test("a source that does not answer at all is waited for", async () => {
    const exported = new Export(await place("directory"), source.baseURL, parameters);
    assert.deepEqual((await exported.run("plan")).report.error, undefined);
    source.inject({ kind: "status", status: 500, times: "always" });
    const { code, report } = await exported.run("export");
    source.clearFaults();
    assert.deepEqual([code, report.error?.reason], [75, "SourceUnreachable"]);
  });

  test("of a source without windows, all before the page comes out, and the rest is told", async () => {
    const where = await place("directory");
    const exported = new Export(where, source.baseURL, parameters);
    source.set({ ignore: ["_lastUpdated"] });
    assert.deepEqual((await exported.run("plan")).report.error, undefined);
    source.set({ ignore: ["_lastUpdated"], poison: { ids: [poison[1]!], as: 500 } });
    const done = await exported.all();
    assert.deepEqual([done.code, done.report.exact], [0, false]);
    const { lines, manifest } = await linesOf(await where.open());
    assert(lines.size > 500 && lines.size <= 1200, String(lines.size));
    assert(manifest.error.length > 0);
  });
});
