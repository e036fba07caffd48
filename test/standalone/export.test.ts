import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { expected } from "../sources/expected.ts";
import { type Source, startSource } from "../sources/server.ts";
import { type Azurite, shareAzurite } from "../tools/azurite.ts";
import { eventually } from "./eventually.ts";
import { complete, ended, Standalone, sorted } from "./harness.ts";

let root: string;
let source: Source;
let azurite: Azurite;
let standalone: Standalone;
let azure: Standalone;
before(async () => {
  root = await mkdtemp(join(tmpdir(), "fhir-export-standalone-"));
  source = await startSource();
  azurite = await shareAzurite();
  const from = [
    "--source",
    source.baseURL,
    "--shard-resources",
    "1000",
    "--inline-resources",
    "0",
    "--retry-seconds",
    "5",
  ];
  [standalone, azure] = await Promise.all([
    Standalone.start([...from, "--target", join(root, "out"), "--data", join(root, "data")]),
    Standalone.start([...from, "--target", "azure", "--data", join(root, "azure")], {
      AZURE_STORAGE_CONNECTION_STRING: azurite.connectionString,
    }),
  ]);
});
after(async () => {
  await Promise.all([standalone?.end(), azure?.end()]);
  await source.close();
  await azurite.close();
  await rm(root, { recursive: true, force: true });
});
const filesBelow = async (folder: string) =>
  (await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []))
    .filter((entry) => entry.isFile())
    .map(({ name }) => name);

suite("exports over HTTP into a directory are byte for byte what the source holds", () => {
  test("system level", async () => {
    const { manifest, lines } = await complete(await standalone.kickOff("/$export"));
    assert.ok(lines.size >= 5000);
    assert.deepEqual(sorted(lines), sorted(source.dump()));
    assert.equal(manifest.request, `${standalone.baseURL}/$export`);
    assert.equal(manifest.requiresAccessToken, false);
    assert.deepEqual(manifest.error, []);
  });

  test("Patient level, some types", async () => {
    const { lines } = await complete(await standalone.kickOff("/Patient/%24export?_type=Patient,Condition"));
    assert.ok(lines.size > 100);
    assert.deepEqual(sorted(lines), sorted(expected(source, { level: "Patient", types: ["Patient", "Condition"] })));
  });

  test("Group level", async () => {
    const { lines } = await complete(await standalone.kickOff("/Group/ward/$export"));
    assert.ok(lines.size > 100);
    assert.deepEqual(sorted(lines), sorted(expected(source, { level: "Group", groupId: "ward" })));
  });

  test("_typeFilter, _since, and a container that is a folder here", async () => {
    const filter = encodeURIComponent("Patient?gender=female");
    const url = await standalone.kickOff(
      `/$export?_type=Patient&_typeFilter=${filter}&_since=2000-01-01T00:00:00Z&_container=export-x`,
    );
    const { lines } = await complete(url);
    const wanted = sorted(source.dump("Patient")).filter(([, line]) => line.includes('"gender":"female"'));
    assert.ok(wanted.length > 10);
    assert.deepEqual(sorted(lines), wanted);
    assert.ok((await filesBelow(join(root, "out", "export-x"))).includes("manifest.json"));
  });

  test("parameters that lenient handling dropped are named in an error file", async () => {
    const url = await standalone.kickOff("/$export?_type=Group&_foo=1", { prefer: "respond-async,handling=lenient" });
    const { manifest, files } = await complete(url);
    assert.equal(manifest.error.length, 1);
    assert.match(files.get(manifest.error[0]!.path)!.toString(), /the parameter _foo is not supported and was ignored/);
  });
});

suite("into Azure Blob Storage", () => {
  test("an export gets a container of its own, and is read through the HTTP service", async () => {
    const { lines } = await complete(await azure.kickOff("/$export?_type=Patient,Group"));
    assert.deepEqual(sorted(lines), sorted(new Map([...source.dump("Patient"), ...source.dump("Group")])));
  });

  test("a named container", async () => {
    const { lines } = await complete(await azure.kickOff("/$export?_type=Group&_container=export-named"));
    assert.deepEqual(sorted(lines), sorted(source.dump("Group")));
  });

  test("a container that the target does not allow: a 400 that names the allowed ones", async () => {
    await assert.rejects(azure.kickOff("/$export?_type=Group&_container=private"), /400 .*export-\*/);
  });

  test("the connection string is in a file of its own, in no worker's environment and in no log", async () => {
    source.set({ pageDelay: 200 });
    const url = await azure.kickOff("/$export");
    const [worker] = await eventually(
      () => azure.workers(),
      (pids) => pids.length > 0,
    );
    assert.doesNotMatch(await readFile(`/proc/${worker}/environ`, "utf8"), /AccountKey/);
    source.set({ pageDelay: 0 });
    assert.equal((await fetch(url, { method: "DELETE" })).status, 202);
    assert.doesNotMatch(azure.output, /AccountKey/);
    assert.match(await readFile(join(root, "azure", "secrets", "target", "connection-string"), "utf8"), /AccountKey/);
  });
});

suite("cancel", () => {
  test("DELETE in the middle: 404 at once, workers gone, nothing left in storage", async () => {
    source.set({ pageDelay: 100 });
    const url = await standalone.kickOff("/$export?_container=export-cancelled");
    await eventually(
      async () => (await fetch(url)).headers.get("x-progress") ?? "",
      (progress) => progress.includes("running"),
    );
    await eventually(
      () => filesBelow(join(root, "out", "export-cancelled")),
      (files) => files.length > 1,
    );
    assert.equal((await fetch(url, { method: "DELETE" })).status, 202);
    for (const method of ["GET", "DELETE"]) {
      const gone = await fetch(url, { method });
      assert.equal(gone.status, 404);
      assert.equal(((await gone.json()) as { resourceType: string }).resourceType, "OperationOutcome");
    }
    source.set({ pageDelay: 0 });
    await eventually(
      () => standalone.workers(),
      (pids) => pids.length === 0,
    );
    await eventually(
      () => filesBelow(join(root, "out", "export-cancelled")),
      (files) => files.length === 0,
    );
  });

  test("DELETE of a complete export removes its files", async () => {
    const url = await standalone.kickOff("/$export?_type=Group&_container=export-deleted");
    await complete(url);
    assert.equal((await fetch(url, { method: "DELETE" })).status, 202);
    assert.equal((await fetch(url)).status, 404);
    await eventually(
      () => filesBelow(join(root, "out", "export-deleted")),
      (files) => files.length === 0,
    );
  });
});

suite("the error of an export that cannot run says what to mend", () => {
  const cases: Record<string, { path: string; status: number; says: RegExp }> = {
    "an unknown Group": { path: "/Group/nobody/$export", status: 422, says: /UnknownGroup/ },
    "a filter that the source refuses": {
      path: `/$export?_typeFilter=${encodeURIComponent("Patient?nonsense=1")}`,
      status: 422,
      says: /InvalidFilter.*typeFilters\[0\]/,
    },
  };
  for (const [name, { path, status, says }] of Object.entries(cases))
    test(name, async () => {
      const found = await ended(await standalone.kickOff(path));
      assert.equal(found.status, status);
      assert.match(found.outcome!.issue[0]!.diagnostics, says);
      assert.doesNotMatch(JSON.stringify(found.outcome), /nobody|nonsense/);
    });

  test("a source that answers HTML: a 500 that names baseURL", async () => {
    source.inject({ kind: "html", times: "always" });
    try {
      const { status, outcome } = await ended(await standalone.kickOff("/$export"));
      assert.equal(status, 500);
      assert.match(outcome!.issue[0]!.diagnostics, /SourceNotFHIR.*baseURL/);
    } finally {
      source.clearFaults();
    }
  });
});

suite("credentials of the source", () => {
  test("a token in a file can be corrected while an export waits for its next try", async () => {
    source.setAuth({ kind: "bearer", token: "right" });
    const token = join(root, "token");
    await writeFile(token, "wrong\n");
    const signed = await Standalone.start([
      ...["--source", source.baseURL, "--target", join(root, "signed"), "--data", join(root, "signed-data")],
      ...["--source-auth-token", token],
    ]);
    try {
      const refused = await ended(await signed.kickOff("/$export?_type=Group"));
      assert.equal(refused.status, 500);
      assert.match(refused.outcome!.issue[0]!.diagnostics, /SourceUnauthorized.*spec\.auth/);
      await writeFile(token, "right\n");
      const { lines } = await complete(await signed.kickOff("/$export?_type=Group"));
      assert.deepEqual(sorted(lines), sorted(source.dump("Group")));
    } finally {
      source.setAuth({ kind: "none" });
      await signed.end();
    }
  });
});

test("logs hold no query, no Group id and no resource", () => {
  assert.ok(standalone.output.length > 1000);
  assert.doesNotMatch(standalone.output, /_type=|gender|nobody|resourceType|[?&]_/);
});
