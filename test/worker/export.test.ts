import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { paths, readAll, storage } from "../sink/stores.ts";
import { type Source, startSource } from "../sources/server.ts";
import { Export, linesOf } from "./harness.ts";

const { kinds, place } = storage();
let source: Source;
before(async () => {
  source = await startSource();
});
after(() => source.close());

const dump = (keep: (name: string, line: string) => boolean = () => true) =>
  new Map(
    [...source.dump()]
      .map(([name, line]) => [name, line.toString()] as const)
      .filter(([name, line]) => keep(name, line)),
  );

for (const kind of kinds)
  describe(`a system export into ${kind}`, () => {
    test("holds every resource once, byte for byte, with a manifest that tells the truth", async () => {
      const where = await place(kind);
      const done = await new Export(where, source.baseURL).all();
      assert.deepEqual([done.code, done.report.error], [0, undefined]);
      assert(done.packages >= 4, `several packages run (${done.packages})`);
      const store = await where.open();
      const { manifest, lines, doubled } = await linesOf(store);
      assert.deepEqual(doubled, []);
      assert.deepEqual(new Map([...lines].sort()), new Map([...dump()].sort()));
      assert(lines.size >= 5000);
      assert.equal(
        manifest.output.some(({ path }) => path.includes("-0000-")),
        false,
        "nothing was missing, so the seal wrote no lines",
      );
      for (const item of manifest.output) {
        const bytes = (await readAll(store, item.path))!;
        assert.deepEqual(
          [createHash("sha256").update(bytes).digest("hex"), bytes.length, bytes.toString().split("\n").length - 1],
          [item.sha256, item.fileSize, item.count],
        );
        assert.equal(item.path.startsWith(`${item.type}-`), true);
      }
      assert.deepEqual(
        [done.report.totals!.resources, done.report.totals!.files, done.report.totals!.errors, done.report.exact],
        [lines.size, manifest.output.length, 0, true],
      );
      assert.equal(
        done.report.manifestSHA256,
        createHash("sha256")
          .update((await readAll(store, "manifest.json"))!)
          .digest("hex"),
      );
      assert.deepEqual(
        (await paths(store, "", true)).filter((path) => !manifest.output.some((item) => item.path === path)),
        ["SHA256SUMS", "_work/plan.json", "manifest.json"],
      );
    });

    test("every command may run again: it reports the same, and nothing changes", async () => {
      const where = await place(kind);
      const run = new Export(where, source.baseURL, { export: { types: ["Patient", "Group"] } });
      const first = await run.all();
      const store = await where.open();
      const before = await Promise.all(
        (await paths(store)).map(async (path) => [path, (await readAll(store, path))!.toString("hex")]),
      );
      assert.deepEqual(await run.run("seal").then(({ report }) => report), first.report);
      assert.deepEqual((await run.run("plan")).report.packages, first.packages);
      assert.deepEqual(
        await Promise.all(
          (await paths(store)).map(async (path) => [path, (await readAll(store, path))!.toString("hex")]),
        ),
        before,
      );
      const verified = await run.run("verify");
      assert.deepEqual([verified.code, verified.report.totals?.resources], [0, first.report.totals?.resources]);
    });

    test("purge removes all of it", async () => {
      const where = await place(kind);
      const run = new Export(where, source.baseURL, { export: { types: ["Patient"] } });
      await run.all();
      const { code, report } = await run.run("purge");
      assert.deepEqual([code, report.left], [0, 0]);
      assert.deepEqual(await paths(await where.open(), "", true), []);
    });

    test("a purge in the middle of an export ends its writer", async () => {
      const where = await place(kind);
      const run = new Export(where, source.baseURL, { export: { types: ["Observation"] }, source: { count: 20 } });
      await run.run("plan");
      let asked = 0;
      let purged: Awaited<ReturnType<typeof run.run>> | undefined;
      const off = source.onRequest(async () => {
        // The worker has its checkpoint by now: the purge comes while it reads.
        if (++asked === 3) purged = await run.run("purge");
      });
      const { code, report } = await run.run("export", 0);
      off();
      assert.deepEqual([purged?.code, purged?.report.left], [0, 0]);
      // While the purge works, the checkpoint says "fenced"; afterwards it is gone. Either ends the writer.
      assert(code === 64 || code === 1, `exit ${code}`);
      assert.match(report.error!.message, /cancelled|another writer|ended or removed/);
      await run.run("purge");
      assert.deepEqual(await paths(await where.open(), "", true), []);
    });
  });

describe("parameters", () => {
  const exported = async (change: ConstructorParameters<typeof Export>[2]) => {
    const where = await place("directory");
    const done = await new Export(where, source.baseURL, change).all();
    assert.deepEqual([done.code, done.report.error], [0, undefined]);
    return { ...(await linesOf(await where.open())), done, where };
  };
  const updated = (line: string) =>
    Date.parse((JSON.parse(line) as { meta: { lastUpdated: string } }).meta.lastUpdated);

  test("only the types that were asked for are exported", async () => {
    const { lines } = await exported({ export: { types: ["Practitioner", "Condition"] } });
    assert.deepEqual(new Set(lines.keys()), new Set(dump((name) => /^(Practitioner|Condition)\//.test(name)).keys()));
  });

  test("since is inclusive, until exclusive", async () => {
    const times = [...dump().values()].map(updated).sort((a, b) => a - b);
    const [from, till] = [times[Math.floor(times.length / 3)]!, times[Math.floor((2 * times.length) / 3)]!];
    const { lines } = await exported({
      export: { since: new Date(from).toISOString(), until: new Date(till).toISOString() },
    });
    const wanted = dump((_, line) => updated(line) >= from && updated(line) < till);
    assert(wanted.size > 500);
    assert.deepEqual(new Set(lines.keys()), new Set(wanted.keys()));
  });

  test("a resource that two typeFilters of its type match comes out once", async () => {
    const { lines } = await exported({
      export: {
        types: ["Patient", "Organization"],
        typeFilters: ["Patient?gender=female", "Patient?gender=female,male"],
      },
    });
    const wanted = dump(
      (name, line) =>
        name.startsWith("Organization/") || (name.startsWith("Patient/") && /"gender":"(fe)?male"/.test(line)),
    );
    assert.deepEqual([...lines.keys()].sort(), [...wanted.keys()].sort());
  });

  test("gzip: the files unpack to the same lines, and both digests are right", async () => {
    const { done, where, manifest } = await exported({ export: { types: ["Patient"] } });
    assert.equal(done.code, 0);
    const zipped = await place("directory");
    const run = await new Export(zipped, source.baseURL, { export: { types: ["Patient"], gzip: true } }).all();
    assert.equal(run.code, 0);
    const store = await zipped.open();
    const items = (JSON.parse((await store.read("manifest.json"))!.bytes.toString()) as typeof manifest).output;
    const { gunzipSync } = await import("node:zlib");
    const plain = await where.open();
    for (const [index, item] of items.entries()) {
      assert.match(item.path, /\.ndjson\.gz$/);
      const bytes = (await readAll(store, item.path))!;
      assert.equal(createHash("sha256").update(bytes).digest("hex"), item.sha256);
      assert.equal(createHash("sha256").update(gunzipSync(bytes)).digest("hex"), item.contentSha256);
      assert.equal(gunzipSync(bytes).toString(), (await readAll(plain, manifest.output[index]!.path))!.toString());
    }
  });

  test("maxFileSize cuts at line ends", async () => {
    const { manifest, lines } = await exported({ export: { types: ["Observation"], maxFileBytes: 50_000 } });
    assert(manifest.output.every(({ fileSize }) => fileSize <= 50_000));
    assert(manifest.output.length > 10);
    assert.equal(lines.size, source.dump("Observation").size);
  });

  test("an export of nothing has an empty output and no files", async () => {
    const { manifest, done } = await exported({ export: { until: "1950-01-01T00:00:00.000Z" } });
    assert.deepEqual([manifest.output, done.report.totals?.resources], [[], 0]);
  });
});
