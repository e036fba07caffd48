import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, suite, test } from "node:test";
import { readAll, storage } from "../sink/stores.ts";
import { generate } from "../sources/generator.ts";
import { Export, linesOf } from "../worker/harness.ts";
import { type Hapi, hapiMissing, startHapi } from "./hapi.ts";
import { load } from "./load.ts";

const sample = generate({ scale: 0.8 });
const skip = hapiMissing() ?? false;
const { place } = storage();

suite("a system export of HAPI FHIR into Azure Blob", () => {
  let hapi: Hapi;
  before(async () => {
    if (skip) return;
    hapi = await startHapi();
    await load(hapi.baseURL, sample);
  });
  after(() => hapi?.close());

  /** The bytes of each resource as the server gives them, by reads of single resources: without a search, a page or any
   *  of our code. */
  async function held(): Promise<Map<string, string>> {
    const found = new Map<string, string>();
    const queue = sample.values();
    const chain = async () => {
      for (const { type, id } of queue) {
        const answer = await fetch(`${hapi.baseURL}/${type}/${id}`);
        assert.equal(answer.status, 200);
        found.set(`${type}/${id}`, Buffer.from(await answer.arrayBuffer()).toString());
      }
    };
    await Promise.all(Array.from({ length: 8 }, chain));
    return found;
  }

  test("holds what the server holds, line by line", { skip }, async () => {
    assert(sample.length >= 4000);
    const where = await place("azure");
    // HAPI can search all types of R4. The export counts each of them, also those without data.
    const of = new Export(where, hapi.baseURL, {
      source: { count: 500, share: { requests: 4 }, retrySeconds: 30 },
      plan: { shardResources: 1000 },
    });
    const done = await of.all();
    assert.deepEqual([done.code, done.report.error, done.report.exact], [0, undefined, true]);
    assert(done.packages >= 3, `several packages ran (${done.packages})`);
    const store = await where.open();
    const { manifest, lines, doubled } = await linesOf(store);
    assert.deepEqual(doubled, []);
    assert.equal(
      manifest.output.some(({ path }) => path.includes("-0000-")),
      false,
      "the seal found nothing that the packages had missed",
    );
    const wanted = await held();
    assert.deepEqual([...lines.keys()].sort(), [...wanted.keys()].sort());
    for (const [name, text] of wanted) assert.equal(lines.get(name), text);
    for (const item of manifest.output)
      assert.equal(
        createHash("sha256")
          .update((await readAll(store, item.path))!)
          .digest("hex"),
        item.sha256,
      );
    console.log(
      `!! HAPI: ${lines.size} resources of ${new Set(manifest.output.map(({ type }) => type)).size} types in ${done.packages} packages and ${manifest.output.length} files, each line as the server gives it`,
    );
  });

  for (const [name, parameters, wanted] of [
    ["all patients", { level: "Patient" as const }, { level: "Patient" as const }],
    ["a nested group", { level: "Group" as const, groupId: "outer" }, { level: "Group" as const, groupId: "outer" }],
    [
      "a filter",
      { types: ["Patient"], typeFilters: ["Patient?gender=female"] },
      { types: ["Patient"], filters: { Patient: [(it: { gender?: string }) => it.gender === "female"] } },
    ],
  ] as const)
    test(name, { skip }, async () => {
      const { expected } = await import("../sources/expected.ts");
      const where = await place("azure");
      const done = await new Export(where, hapi.baseURL, {
        export: parameters as never,
        source: { count: 500, retrySeconds: 30 },
        plan: { shardResources: 100_000 },
      }).all();
      assert.deepEqual([done.code, done.report.error, done.report.exact], [0, undefined, true]);
      const { lines, doubled } = await linesOf(await where.open());
      assert.deepEqual(doubled, []);
      const all = new Map(sample.map(({ type, id, text }) => [`${type}/${id}`, Buffer.from(text)]));
      assert.deepEqual([...lines.keys()].sort(), [...expected({ dump: () => all }, wanted as never).keys()].sort());
    });
});
