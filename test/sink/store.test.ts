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
import type { StagedBlock, Upload } from "../../src/sink/store.ts";
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

    /** Stages texts as blocks of one writer. @returns the blocks, as a commit wants them */
    const stageAll = async (upload: Upload, nonce: string, texts: readonly string[], first = 1) => {
      const staged: StagedBlock[] = [];
      for (const [at, text] of texts.entries())
        staged.push([await upload.stage(first + at, nonce, bytes(text)), text.length]);
      return staged;
    };
    const type = "application/fhir+ndjson";

    test("blocks are invisible until they are committed, and can be committed once", async () => {
      const store = await opened();
      const upload = await store.upload("P-1.ndjson", type);
      const blocks = await stageAll(upload, "aaaaaaaa", ["one\n", "two\n"]);
      assert.equal(await readAll(store, "P-1.ndjson"), undefined);
      assert.equal(await upload.holds(blocks), true);
      assert.equal(await upload.holds([[blocks[0]![0], 9]]), false);
      assert.equal(await upload.commit(blocks), "committed");
      assert.equal(await upload.commit(blocks), "committed", "the same list again is success");
      assert.equal((await readAll(store, "P-1.ndjson"))!.toString(), "one\ntwo\n");
      assert.deepEqual(await paths(store, "", true), ["P-1.ndjson"]);
      const range = await store.stream("P-1.ndjson", { start: 4, count: 3 });
      assert.equal(range!.size, 8);
      assert.equal(Buffer.concat(await range!.body.toArray()).toString(), "two");
      await store.abandon("P-1.ndjson", upload.key);
      assert.equal(await store.size("P-1.ndjson"), 8, "what is committed is not abandoned");
    });

    test("a successor continues with the blocks of the writer before it, whatever that one still writes", async () => {
      const store = await opened();
      const old = await store.upload("P-2.ndjson", type);
      const first = await stageAll(old, "aaaaaaaa", ["one\n"]);
      const next = await store.upload("P-2.ndjson", type, old.key);
      assert.equal(next.key, old.key);
      assert.equal(await next.holds(first), true);
      const second = await stageAll(next, "bbbbbbbb", ["two\n"], 2);
      const late = await stageAll(old, "aaaaaaaa", ["OLD..\n"], 2);
      assert.equal(await next.commit([...first, ...second]), "committed");
      assert.equal(await old.commit([...first, ...late]), "gone");
      assert.equal((await readAll(store, "P-2.ndjson"))!.toString(), "one\ntwo\n");
    });

    test("of two writers that commit the same blocks at once, both have committed; of other blocks, one", async () => {
      const store = await opened();
      for (let round = 0; round < 10; round++) {
        const path = `P-${round}.ndjson`;
        const one = await store.upload(path, type);
        const shared = await stageAll(one, "aaaaaaaa", ["one\n"]);
        const other = await store.upload(path, type, one.key);
        const own = await stageAll(other, "bbbbbbbb", ["other\n"], 2);
        const isSame = round % 2 === 0;
        const ends = await Promise.all([one.commit(shared), other.commit(isSame ? shared : [...shared, ...own])]);
        assert.deepEqual(
          ends.toSorted(),
          isSame ? ["committed", "committed"] : ["committed", "gone"],
          `round ${round}`,
        );
        const wanted = isSame || ends[0] === "committed" ? "one\n" : "one\nother\n";
        assert.equal((await readAll(store, path))!.toString(), wanted);
      }
    });

    test("a file that was only staged can be abandoned, and can then not be committed any more", async () => {
      const store = await opened();
      const upload = await store.upload("P-3.ndjson", type);
      const blocks = await stageAll(upload, "aaaaaaaa", ["one\n"]);
      assert.equal((await paths(store, "", true)).length, 1);
      await store.abandon("P-3.ndjson", upload.key);
      assert.deepEqual(await paths(store, "", true), []);
      assert.equal(await (await store.upload("P-3.ndjson", type, upload.key)).holds(blocks), false);
      assert.equal(await upload.commit(blocks), "gone");
      assert.deepEqual(await paths(store, "", true), []);
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
    const upload = await store.upload("P-1.ndjson", "application/fhir+ndjson");
    const ref = await upload.stage(1, "aaaaaaaa", bytes("one\n"));
    assert.equal(await upload.commit([[ref, 4]]), "committed");
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
