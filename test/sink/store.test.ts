import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import {
  AccountSASPermissions,
  AccountSASResourceTypes,
  generateAccountSASQueryParameters,
  StorageSharedKeyCredential,
} from "@azure/storage-blob";
import { openStore } from "../../src/sink/open.ts";
import { accountKey } from "../tools/azurite.ts";
import { paths, readAll, storage } from "./stores.ts";

const { allKinds, place } = storage();
const bytes = (text: string) => Buffer.from(text);

for (const kind of allKinds)
  describe(`${kind} store`, () => {
    const opened = async () => {
      const store = await (await place(kind)).open();
      await store.prepare();
      return store;
    };

    test("an object is created once, and replaced only by a caller that knows its tag", async () => {
      const store = await opened();
      assert.equal(await store.read("_work/a.json"), undefined);
      const first = await store.create("_work/a.json", bytes("1"));
      assert(first);
      assert.equal(await store.create("_work/a.json", bytes("2")), undefined);
      const second = await store.replace("_work/a.json", bytes("2"), first);
      assert(second);
      assert.equal(await store.replace("_work/a.json", bytes("3"), first), undefined);
      assert.deepEqual(await store.read("_work/a.json").then((found) => [found?.bytes.toString(), found?.tag]), [
        "2",
        second,
      ]);
      await store.remove("_work/a.json");
      assert.equal(await store.replace("_work/a.json", bytes("4"), second), undefined);
      assert.deepEqual(await paths(store, "", true), []);
    });

    test("of many concurrent writers, exactly one creates an object and one replaces it", async () => {
      const store = await opened();
      const created = await Promise.all(Array.from({ length: 8 }, (_, index) => store.create("x", bytes(`c${index}`))));
      const tag = created.find((etag) => etag !== undefined)!;
      assert.equal(created.filter((etag) => etag !== undefined).length, 1);
      const replaced = await Promise.all(
        Array.from({ length: 8 }, (_, index) => store.replace("x", bytes(`r${index}`), tag)),
      );
      assert.equal(replaced.filter((etag) => etag !== undefined).length, 1);
      assert.equal((await store.read("x"))!.bytes.toString(), `r${replaced.findIndex((etag) => etag !== undefined)}`);
    });

    test("blocks are invisible until they are committed, and can be committed once", async () => {
      const store = await opened();
      const writer = store.blocks("P-1.ndjson", "application/fhir+ndjson");
      await writer.stage("aaaaaaaa-1", bytes("one\n"));
      await writer.stage("aaaaaaaa-2", bytes("two\n"));
      assert.equal(await readAll(store, "P-1.ndjson"), undefined);
      const list = [
        ["aaaaaaaa-1", 4],
        ["aaaaaaaa-2", 4],
      ] as const;
      assert.equal(await writer.holds(list), true);
      assert.equal(await writer.holds([["aaaaaaaa-1", 9]]), false);
      assert.equal(await writer.commit(list), "committed");
      assert.equal(await writer.commit(list), "committed", "the same list again is success");
      assert.equal((await readAll(store, "P-1.ndjson"))!.toString(), "one\ntwo\n");
      assert.deepEqual(await paths(store), ["P-1.ndjson"]);
      const range = await store.stream("P-1.ndjson", { start: 4, count: 3 });
      assert.equal(range!.size, 8);
      assert.equal(Buffer.concat(await range!.body.toArray()).toString(), "two");
    });

    test("a successor continues with the blocks of the writer before it, whatever that one still writes", async () => {
      const store = await opened();
      const old = store.blocks("P-2.ndjson", "application/fhir+ndjson");
      await old.stage("aaaaaaaa-1", bytes("one\n"));
      const next = store.blocks("P-2.ndjson", "application/fhir+ndjson");
      assert.equal(await next.holds([["aaaaaaaa-1", 4]]), true);
      await next.stage("bbbbbbbb-2", bytes("two\n"));
      await old.stage("aaaaaaaa-2", bytes("OLD\n"));
      const list = [
        ["aaaaaaaa-1", 4],
        ["bbbbbbbb-2", 4],
      ] as const;
      assert.equal(await next.commit(list), "committed");
      assert.equal(
        await old
          .commit([
            ["aaaaaaaa-1", 4],
            ["aaaaaaaa-2", 5],
          ])
          .catch(() => "other"),
        "other",
      );
      assert.equal((await readAll(store, "P-2.ndjson"))!.toString(), "one\ntwo\n");
    });

    test("a file that was only staged can be removed, and can then not be committed any more", async () => {
      const store = await opened();
      const writer = store.blocks("P-3.ndjson", "application/fhir+ndjson");
      await writer.stage("aaaaaaaa-1", bytes("one\n"));
      assert.equal((await paths(store, "", true)).length, 1);
      await store.remove("P-3.ndjson");
      assert.deepEqual(await paths(store, "", true), []);
      assert.equal(await store.blocks("P-3.ndjson", "x/y").holds([["aaaaaaaa-1", 4]]), false);
    });
  });

const failureOf = async (run: () => Promise<unknown>) => {
  try {
    await run();
  } catch (error) {
    const { class: kind, reason, message } = error as { class: string; reason: string; message: string };
    return { kind, reason, message };
  }
  return undefined;
};

describe("a store by a SAS", () => {
  const withSAS = async (permissions: string, resourceTypes: string) => {
    const { target, secrets } = await place("azure");
    if (!("azureBlob" in target)) throw new Error("not azure");
    const sas = generateAccountSASQueryParameters(
      {
        services: "b",
        resourceTypes,
        permissions: AccountSASPermissions.parse(permissions),
        expiresOn: new Date(Date.now() + 3_600_000),
      },
      new StorageSharedKeyCredential("devstoreaccount1", accountKey),
    ).toString();
    await writeFile(join(secrets, "target", "sas-token"), `?${sas}\n`);
    return openStore({ ...target, azureBlob: { ...target.azureBlob, auth: "sas" } }, secrets);
  };

  test("can write, read, list and remove", async () => {
    const store = await withSAS("rwdlac", AccountSASResourceTypes.parse("sco").toString());
    await store.prepare();
    assert(await store.create("x", bytes("x")));
    const writer = store.blocks("P-1.ndjson", "application/fhir+ndjson");
    await writer.stage("aaaaaaaa-1", bytes("one\n"));
    assert.equal(await writer.commit([["aaaaaaaa-1", 4]]), "committed");
    assert.deepEqual(await paths(store), ["P-1.ndjson", "x"]);
    assert.equal(store.url("x").includes("sig="), false, "the manifest's URL holds no credential");
    await store.remove("x");
    assert.deepEqual(await paths(store), ["P-1.ndjson"]);
  });

  test("that allows only reading fails with an error that says what it must allow", async () => {
    const failure = await failureOf(() =>
      withSAS("r", AccountSASResourceTypes.parse("sco").toString()).then((store) =>
        store.prepare().then(() => store.create("x", bytes("x"))),
      ),
    );
    assert.deepEqual([failure?.kind, failure?.reason], ["terminal", "TargetUnauthorized"]);
    assert.match(failure!.message, /read, write, list, create and delete/);
    assert.equal(failure!.message.includes("sig="), false);
  });
});

describe("an error of storage says what to mend:", () => {
  const open = async (
    kind: "directory" | "azure",
    change: (target: { azureBlob: Record<string, unknown> }) => void,
  ) => {
    const { target, secrets } = await place(kind);
    change(target as never);
    return () => openStore(target, secrets).then((store) => store.prepare().then(() => store.create("x", bytes("x"))));
  };

  test("a container name that Azure does not accept", async () => {
    const failure = await failureOf(await open("azure", ({ azureBlob }) => (azureBlob.container = "Not--Legal")));
    assert.equal(failure?.kind, "terminal");
    assert.equal(failure?.reason, "InvalidContainer");
    assert.match(failure!.message, /Not--Legal/);
  });

  test("a container that does not exist and may not be created", async () => {
    const failure = await failureOf(await open("azure", ({ azureBlob }) => (azureBlob.createContainer = false)));
    assert.deepEqual([failure?.kind, failure?.reason], ["terminal", "InvalidContainer"]);
  });

  test("a Secret without its key", async () => {
    const failure = await failureOf(await open("azure", ({ azureBlob }) => (azureBlob.auth = "sas")));
    assert.deepEqual([failure?.kind, failure?.reason], ["terminal", "TargetUnauthorized"]);
    assert.match(failure!.message, /sas-token/);
  });

  test("a volume that is no directory", async () => {
    const { target, secrets } = await place("directory");
    await writeFile(join(secrets, "volume"), "a file");
    const failure = await failureOf(() => openStore(target, secrets).then((store) => store.prepare()));
    assert.deepEqual([failure?.kind, failure?.reason], ["waiting", "TargetUnreachable"]);
    assert.match(failure!.message, /ENOTDIR|EEXIST/);
  });
});
