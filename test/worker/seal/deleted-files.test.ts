import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { gunzipSync } from "node:zlib";
import type { Task } from "../../../src/contracts.ts";
import { typeHistory } from "../../../src/fhir/history.ts";
import type { Manifest } from "../../../src/sink/manifest.ts";
import type { Store } from "../../../src/sink/store.ts";
import { storage } from "../../sink/stores.ts";
import { expected, patientsOf } from "../../sources/expected.ts";
import type { Behaviour } from "../../sources/faults.ts";
import { type Source, startSource } from "../../sources/server.ts";
import { Export, linesOf } from "../harness.ts";

const { kinds, place } = storage();
const minute = 60_000;

/** The deletions as a client of the Bulk Data IG reads them from transaction Bundles: `Type/id`. */
async function deletedIn(store: Store): Promise<string[]> {
  const manifest = JSON.parse((await store.read("manifest.json"))!.bytes.toString()) as Manifest;
  const found: string[] = [];
  for (const { path, type, count } of manifest.deleted) {
    assert.equal(type, "Bundle");
    const { bytes } = (await store.read(path))!;
    const lines = (path.endsWith(".gz") ? gunzipSync(bytes) : bytes).toString().split("\n").slice(0, -1);
    assert.equal(lines.length, count);
    for (const line of lines) {
      const bundle = JSON.parse(line) as {
        resourceType: string;
        type: string;
        entry: { request: { method: string; url: string } }[];
      };
      assert.deepEqual([bundle.resourceType, bundle.type], ["Bundle", "transaction"]);
      for (const { request } of bundle.entry) {
        assert.equal(request.method, "DELETE");
        found.push(request.url);
      }
    }
  }
  return found.sort();
}

for (const kind of kinds)
  describe(`what was deleted since, into ${kind}`, () => {
    let source: Source;
    let shift = 0;
    let since: string;
    /** The resources that were deleted in [since, T) for good: `Type/id` -> patients in whose compartment it was */
    const gone = new Map<string, string[]>();
    let later: string[];
    before(async () => {
      source = await startSource({ now: () => Date.now() + shift });
      const of = (type: string, from: number, count: number) => [...source.dump(type)].slice(from, from + count);
      const remove = (resources: [string, Buffer][]) => {
        for (const [key] of resources) {
          const [type = "", id = ""] = key.split("/");
          assert(source.delete(type, id));
        }
        return resources;
      };
      shift = -60 * minute;
      remove([...of("Observation", 0, 5), ...of("Patient", 3, 1), ...of("Encounter", 0, 3)]);
      since = new Date(Date.now() - 30 * minute).toISOString();
      shift = -20 * minute;
      const ward = JSON.parse(source.get("Group", "ward")!).member.map(
        (it: { entity: { reference: string } }) => it.entity.reference,
      );
      const member: [string, Buffer] = [ward[0], source.dump("Patient").get(ward[0])!];
      const removed = remove([
        ...of("Observation", 0, 40),
        ...of("Patient", 20, 2),
        member,
        ...of("Encounter", 5, 10),
        ...of("Location", 0, 1),
      ]);
      // a type of which no resource remains
      removed.push(...remove([...source.dump("Provenance")]));
      for (const [key, line] of removed) gone.set(key, patientsOf(JSON.parse(line.toString()), source.baseURL));
      // created again under its id, as another version
      for (const [key, line] of removed.slice(0, 4)) {
        source.put(line.toString());
        gone.delete(key);
      }
      // updated, not deleted
      for (const [, line] of of("Observation", 100, 10)) source.put(line.toString());
      shift = 0;
      later = of("Observation", 60, 5).map(([key]) => key);
    });
    after(() => source.close());

    async function run(change: Partial<Task["export"]>, behaviour: Behaviour = {}, hasSince = true) {
      source.set({ noTypeHistory: false, noInstanceHistory: false, ...behaviour });
      const where = await place(kind);
      const exported = new Export(where, source.baseURL, { export: { ...(hasSince && { since }), ...change } });
      const planned = await exported.run("plan");
      assert.equal(planned.code, 0, planned.report.error?.message);
      const then = source.dump();
      for (let index = 0; index < planned.report.packages!; index++)
        assert.equal((await exported.run("export", index)).code, 0);
      const sealed = await exported.run("seal");
      assert.deepEqual([sealed.code, sealed.report.error, sealed.report.exact], [0, undefined, true]);
      assert.equal((await exported.run("verify")).code, 0);
      const store = await where.open();
      const { lines, manifest } = await linesOf(store);
      const told = manifest.error.length > 0 ? (await store.read(manifest.error[0]!.path))!.bytes.toString() : "";
      return { exported, store, then, lines, manifest, deleted: await deletedIn(store), told };
    }
    const goneOf = (is: (key: string, patients: string[]) => boolean) =>
      [...gone]
        .filter((entry) => is(...entry))
        .map(([key]) => key)
        .sort();

    test("System level: deletions of all types, also of one of which no resource remains", async () => {
      const { deleted, lines, then, told } = await run({});
      assert.deepEqual(
        deleted,
        goneOf(() => true),
      );
      assert(deleted.some((key) => key.startsWith("Provenance/")) && deleted.length > 50);
      assert.deepEqual([...lines.keys()].sort(), [...expected({ dump: () => then }, { since }).keys()].sort());
      assert.equal(told, "");
    });

    test("Patient level: deletions in the compartments of all patients", async () => {
      const { deleted } = await run({ level: "Patient" });
      assert.deepEqual(
        deleted,
        goneOf((_, patients) => patients.length > 0),
      );
    });

    test("Group level: the deletions of its members, one of whom is deleted, and nobody else's", async () => {
      const ward: string[] = JSON.parse(source.get("Group", "ward")!).member.map(
        ({ entity }: { entity: { reference: string } }) => entity.reference.slice(8),
      );
      const { deleted } = await run({ level: "Group", groupId: "ward" });
      assert.deepEqual(
        deleted,
        goneOf((_, patients) => patients.some((id) => ward.includes(id))),
      );
      assert(
        deleted.length > 3 && deleted.length < goneOf((_, patients) => patients.length > 0).length,
        `${deleted.length}`,
      );
    });

    test("types and filters: whether a deleted resource matched the filter cannot be asked, which is told", async () => {
      const { deleted, told } = await run({
        types: ["Observation", "Encounter"],
        typeFilters: ["Observation?status=final"],
      });
      assert.deepEqual(
        deleted,
        goneOf((key) => /^(Observation|Encounter)\//.test(key)),
      );
      assert.match(told, /All deletions of Observation are listed/);
      assert.doesNotMatch(told, /Encounter/);
    });

    test("gzip: the files unpack to the same deletions", async () => {
      const { deleted, manifest } = await run({ gzip: true, types: ["Observation"] });
      assert.deepEqual(
        deleted,
        goneOf((key) => key.startsWith("Observation/")),
      );
      assert(
        manifest.deleted.every(
          ({ path, contentSha256 }) => path === "deleted/Observation-0001-1.ndjson.gz" && contentSha256,
        ),
      );
    });

    test("without a history no deletions are listed, which is told", async () => {
      const { deleted, told } = await run({ types: ["Observation"] }, { noTypeHistory: true });
      assert.deepEqual(deleted, []);
      assert.match(told, /Deletions of Observation cannot be told/);
    });

    // the history of the tail, and that of the deletions
    for (const [whose, link, exact, tells] of [
      ["the tail", () => "Location/_history", false, /2 resources of Location are newer than transactionTime/],
      ["the deletions", () => typeHistory("Location", since, 1), true, /Deletions of Location cannot be told/],
    ] as const)
      test(`a history of ${whose} whose next links go in a circle is as good as none, which is told`, async () => {
        const exported = new Export(await place(kind), source.baseURL, { export: { since, types: ["Location"] } });
        source.set({ noTypeHistory: false });
        for (let left = (await exported.run("plan")).report.packages! - 1; left >= 0; left--)
          await exported.run("export", left);
        for (const [, line] of [...source.dump("Location")].slice(0, 2)) source.put(line.toString());
        source.set({ maxCount: 1 });
        source.inject({ kind: "repeatNext", match: link().replace(/&_count.*/, ""), times: "always" });
        const { code, report } = await exported.run("seal");
        source.clearFaults();
        source.set({ maxCount: 250 });
        const store = await exported.place.open();
        const { manifest } = await linesOf(store);
        const told = (await store.read(manifest.error[0]!.path))!.bytes.toString();
        assert.deepEqual([code, report.exact], [0, exact]);
        assert.match(told, tells);
      });

    test("without since there is no file of deletions", async () => {
      const { manifest, told } = await run({ types: ["Observation"] }, {}, false);
      assert.deepEqual([manifest.deleted, told], [[], ""]);
    });

    test("a resource deleted after transactionTime is exported and not listed; the file that a killed seal has left counts", async () => {
      const where = await place(kind);
      const exported = new Export(where, source.baseURL, { export: { since, types: ["Observation", "Encounter"] } });
      const planned = await exported.run("plan");
      for (let index = 0; index < planned.report.packages!; index++)
        assert.equal((await exported.run("export", index)).code, 0);
      for (const key of later) source.delete("Observation", key.slice("Observation/".length));
      const store = await where.open();
      const line = `${JSON.stringify({ resourceType: "Bundle", type: "transaction", entry: [] })}\n`;
      await store.create("deleted/Encounter-0001-1.ndjson", Buffer.from(line));
      const sealed = await exported.run("seal");
      assert.deepEqual([sealed.code, sealed.report.exact], [0, true]);
      assert.deepEqual(
        await deletedIn(store),
        goneOf((key) => key.startsWith("Observation/")),
      );
      assert.equal((await exported.run("verify")).code, 0);
    });
  });
