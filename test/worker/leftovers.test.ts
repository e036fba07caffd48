import assert from "node:assert/strict";
import { mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { gunzipSync } from "node:zlib";
import { planPath } from "../../src/sink/layout.ts";
import type { Store } from "../../src/sink/store.ts";
import { paths, storage } from "../sink/stores.ts";
import { type Source, startSource } from "../sources/server.ts";
import { startFaultProxy } from "../tools/fault-proxy.ts";
import { Export, linesOf } from "./harness.ts";

// What workers that were killed or stood still have left is removed by the seal, which goes by its manifest, and by the
// purge.

const { kinds, place } = storage({ apart: true });
let source: Source;
before(async () => {
  source = await startSource({ scale: 0.05 });
});
after(() => source.close());

/** Every kind of object that writers, seals and planners can leave. */
async function leave(store: Store): Promise<void> {
  for (const path of [
    "Patient-0001-7.ndjson",
    "Patient-0000-1.ndjson",
    "deleted/Patient-0001-1.ndjson",
    "errors/OperationOutcome-Patient-0001-1.ndjson",
    "_work/Patient-0001/fp-0-01234567",
    "_work/planning.json",
  ])
    assert(await store.create(path, Buffer.from("left\n")), path);
  for (const path of ["Patient-0001-8.ndjson", "Patient-0002-1.ndjson"])
    await (await store.upload(path, "application/fhir+ndjson")).stage(1, "01234567", Buffer.from("left\n"));
}

for (const kind of kinds)
  describe(`what is left behind in ${kind}`, () => {
    const begun = async () => {
      const where = await place(kind);
      const of = new Export(where, source.baseURL, { export: { types: ["Patient"] } });
      assert.equal((await of.run("plan")).code, 0);
      return { of, where, store: await where.open() };
    };

    test("is removed by the seal, and only what the manifest names stays, beside files of others", async () => {
      const { of, store } = await begun();
      assert.equal((await of.run("export", 0)).code, 0);
      await leave(store);
      await store.create("notes-of-a-user.txt", Buffer.from("keep"));
      const sealed = await of.run("seal");
      assert.equal(sealed.code, 0, JSON.stringify(sealed.report.error));
      const { manifest, lines } = await linesOf(store);
      assert.equal(lines.size, source.dump("Patient").size);
      const named = [...manifest.output, ...manifest.error].map(({ path }) => path);
      assert.deepEqual(
        await paths(store, "", true),
        [...named, "SHA256SUMS", "manifest.json", planPath, "notes-of-a-user.txt"].sort(),
      );
      await leave(store);
      assert.deepEqual((await of.run("seal")).report, sealed.report);
      assert.deepEqual((await paths(store, "", true)).length, named.length + 4, "a second seal removes it, too");
      assert.equal((await of.run("verify")).code, 0);
    });

    test("SHA256SUMS of another seal than the one whose manifest stands are corrected", async () => {
      const { of, store } = await begun();
      assert.equal((await of.run("export", 0)).code, 0);
      await store.create("SHA256SUMS", Buffer.from(`${"0".repeat(64)}  Patient-0001-7.ndjson\n`));
      assert.equal((await of.run("seal")).code, 0);
      const { manifest } = await linesOf(store);
      assert.equal(
        (await store.read("SHA256SUMS"))!.bytes.toString(),
        [...manifest.output, ...manifest.error].map(({ sha256, path }) => `${sha256}  ${path}\n`).join(""),
      );
      assert.equal((await of.run("verify")).code, 0);
    });

    test("is removed by the purge", async () => {
      const { of, store } = await begun();
      await leave(store);
      const purged = await of.run("purge");
      assert.deepEqual([purged.code, purged.report.left], [0, 0]);
      assert.deepEqual(await paths(store, "", true), []);
    });
  });

test("a purge of a volume removes what a killed process left of a small object, which may hold ids of patients", async () => {
  const where = await place("directory");
  const of = new Export(where, source.baseURL, { export: { types: ["Patient"] } });
  assert.equal((await of.run("plan")).code, 0);
  const folder = join(where.secrets, "volume/out/x");
  await mkdir(join(folder, "_work/parts"), { recursive: true });
  await writeFile(join(folder, "_work/parts/_work%2Fcohort.0011223344556677.draft"), '{"patients":["1"]}');
  const { code, report } = await of.run("purge");
  assert.deepEqual([code, report.left], [0, 0]);
  assert.deepEqual(await readdir(folder, { recursive: true }), []);
});

test("types of a CapabilityStatement whose names are none make no paths: they are left out, and the manifest says so", async () => {
  const proxy = await startFaultProxy({ fhir: new URL(source.baseURL).origin });
  try {
    proxy.watch({
      after: ({ url }, answer) => {
        if (!/\/metadata(\?|$)/.test(url)) return undefined;
        const { "content-encoding": coding, ...headers } = answer.headers;
        const bytes = coding === "gzip" ? gunzipSync(answer.body) : answer.body;
        const statement = JSON.parse(bytes.toString()) as { rest: { resource: { type: string }[] }[] };
        const { resource } = statement.rest[0]!;
        const patient = resource.find(({ type }) => type === "Patient")!;
        statement.rest[0]!.resource = ["../../../outside", "Pa/tient", "patient"].map((type) => ({ ...patient, type }));
        statement.rest[0]!.resource.push(patient);
        return { ...answer, headers, body: Buffer.from(JSON.stringify(statement)) };
      },
    });
    const where = await place("directory");
    const of = new Export(where, source.baseURL.replace(new URL(source.baseURL).origin, proxy.origin));
    const { code, report } = await of.all();
    assert.equal(code, 0, JSON.stringify(report.error));
    const { manifest, lines } = await linesOf(await where.open());
    assert.equal(lines.size, source.dump("Patient").size);
    const told = (await (await where.open()).read(manifest.error[0]!.path))!.bytes.toString();
    assert.match(told, /3 types of the source's CapabilityStatement have names that are no names of FHIR types/);
    assert.deepEqual(await readdir(join(where.secrets, "volume")), ["out"]);
    assert.deepEqual(await readdir(join(where.secrets, "volume/out")), ["x"]);
  } finally {
    await proxy.close();
  }
});
