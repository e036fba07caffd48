import assert from "node:assert/strict";
import { mkdir, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { isContained } from "../../src/sink/contained.ts";
import { type Place, paths, readAll, storage } from "./stores.ts";

// What every store promises, and what all other parts of the program rely on (docs/internals/storage-protocol.md).

const { allKinds, place } = storage({ apart: true });
const bytes = (text: string) => Buffer.from(text);
const opened = async (where: Place) => {
  const store = await where.open();
  await store.prepare();
  return store;
};

/** Each is refused by every call, and nothing of it reaches the store. */
const outside = [
  "",
  "/x",
  "x/",
  "a//x",
  ".",
  "./x",
  "..",
  "../x",
  "a/../../x",
  "a/..",
  "a\\x",
  "..\\x",
  "a\u0000x",
  "a\nx",
  "a\u007fx",
  "é".repeat(600),
];
const inside = ["x", "a/b/c.ndjson", "..x", "x..", "a/...", "%2e%2e/x", "a b", "ü", "x".repeat(200)];

test("which paths are below the folder", () => {
  for (const path of outside) assert.equal(isContained(path, "out"), false, JSON.stringify(path));
  for (const path of inside) assert.equal(isContained(path, "out"), true, JSON.stringify(path));
  assert.equal(isContained("x".repeat(1024)), true);
  assert.equal(isContained("x".repeat(1024), "f"), false, "the folder counts");
});

for (const kind of allKinds)
  describe(`${kind} store`, () => {
    test("refuses every path that leads out of the folder, in every call", async () => {
      const store = await opened(await place(kind));
      const internal = { class: "terminal", reason: "Internal" };
      for (const path of outside) {
        const calls: Record<string, () => Promise<unknown>> = {
          read: () => store.read(path),
          create: () => store.create(path, bytes("1")),
          replace: () => store.replace(path, bytes("1"), "x"),
          size: () => store.size(path),
          remove: () => store.remove(path),
          stream: () => store.stream(path),
          abandon: () => store.abandon(path, "x"),
          signedURL: async () => (store.signedURL ? store.signedURL(path, 60) : store.url(path)),
          upload: () => store.upload(path, "x/y"),
          url: async () => store.url(path),
        };
        for (const [name, call] of Object.entries(calls))
          await assert.rejects(call, internal, `${name} of ${JSON.stringify(path)}`);
      }
      for (const prefix of ["../", "a/../", "/", "a//", "a\\"]) {
        await assert.rejects(paths(store, prefix), internal, prefix);
        await assert.rejects(async () => {
          for await (const _ of store.unfinished(prefix));
        }, internal);
      }
      assert.deepEqual(await paths(store, "", true), []);
    });

    test("paths of all forms that are below the folder come back as they were given", async () => {
      const store = await opened(await place(kind));
      for (const path of inside) assert(await store.create(path, bytes(path)), path);
      assert.deepEqual(await paths(store), inside.toSorted());
      for (const path of inside) {
        assert.equal((await store.read(path))?.bytes.toString(), path);
        assert.equal(await store.size(path), Buffer.byteLength(path));
        await store.remove(path);
        assert.equal(await store.size(path), undefined);
      }
      assert.deepEqual(await paths(store, "", true), []);
    });

    test("a tag stands for bytes: that of an object which was removed does not fit one that was made anew", async () => {
      const store = await opened(await place(kind));
      const first = (await store.create("x", bytes("1")))!;
      await store.remove("x");
      assert.equal(await store.replace("x", bytes("2"), first), undefined, "a replace makes no object");
      assert.equal(await store.read("x"), undefined);
      const second = (await store.create("x", bytes("other")))!;
      assert.equal(await store.replace("x", bytes("2"), first), undefined);
      assert.equal((await store.read("x"))!.bytes.toString(), "other");
      const third = (await store.replace("x", bytes("third"), second))!;
      assert.equal(await store.replace("x", bytes("4"), second), undefined);
      assert.deepEqual(await store.read("x"), { bytes: bytes("third"), tag: third });
    });

    test("a write that is refused because it was done before is answered as done", async () => {
      const store = await opened(await place(kind));
      const first = (await store.create("x", bytes("1")))!;
      assert.equal(await store.create("x", bytes("1")), first);
      const second = (await store.replace("x", bytes("2"), first))!;
      assert.equal(await store.replace("x", bytes("2"), first), second);
      assert.equal(await store.create("x", bytes("1")), undefined);
    });

    test("of 16 racing creates, and of 16 racing replaces of one tag, one wins and its bytes stand, 30 times", async () => {
      const store = await opened(await place(kind));
      const racers = Array.from({ length: 16 }, (_, index) => index);
      const winner = async (path: string, write: (racer: number) => Promise<string | undefined>) => {
        const tags = await Promise.all(racers.map(write));
        const won = racers.filter((racer) => tags[racer] !== undefined);
        assert.equal(won.length, 1, `${path}: won by ${won}`);
        const found = (await store.read(path))!;
        assert.equal(found.tag, tags[won[0]!]);
        return { text: found.bytes.toString(), racer: won[0]!, tag: found.tag };
      };
      for (let round = 0; round < 30; round++) {
        const path = `race-${round}`;
        const made = await winner(path, (racer) => store.create(path, bytes(`made by ${racer}`)));
        assert.equal(made.text, `made by ${made.racer}`);
        const changed = await winner(path, (racer) => store.replace(path, bytes(`changed by ${racer}`), made.tag));
        assert.equal(changed.text, `changed by ${changed.racer}`);
      }
    });

    test("an object that is removed while it is replaced is gone, whoever was first, 30 times", async () => {
      const store = await opened(await place(kind));
      for (let round = 0; round < 30; round++) {
        const path = `_work/shard-${round}/checkpoint.json`;
        const tag = (await store.create(path, bytes("1")))!;
        await Promise.all([
          ...Array.from({ length: 8 }, (_, racer) => store.replace(path, bytes(`${racer}`), tag)),
          store.remove(path),
        ]);
        assert.equal(await store.read(path), undefined, `round ${round}`);
      }
      assert.deepEqual(await paths(store, "", true), []);
    });

    test("a list has all objects that are there throughout, while others are made, replaced and removed", async () => {
      const store = await opened(await place(kind));
      const lasting = Array.from({ length: 30 }, (_, number) => `_work/s-${number}/lasting`);
      for (const path of lasting) await store.create(path, bytes("1"));
      let tag = (await store.create("_work/s-0/replaced", bytes("0")))!;
      let over = false;
      const churn = async (writer: number) => {
        for (let round = 0; !over; round++) {
          const path = `_work/w-${writer}/${round % 3}/x`;
          await store.create(path, bytes(`${round}`));
          await store.remove(path);
        }
      };
      const replace = async () => {
        for (let round = 1; !over; round++) tag = (await store.replace("_work/s-0/replaced", bytes(`${round}`), tag))!;
      };
      const busy = [replace(), ...Array.from({ length: 4 }, (_, writer) => churn(writer))];
      const wanted = [...lasting, "_work/s-0/replaced"].sort();
      try {
        for (let round = 0; round < (kind === "directory" ? 200 : 20); round++) {
          const found = await paths(store);
          assert.deepEqual(
            found.filter((path) => !path.startsWith("_work/w-")),
            wanted,
            `round ${round}`,
          );
        }
      } finally {
        over = true;
        await Promise.all(busy);
      }
    });

    test("what was begun is listed apart from objects, by path and key, and is gone once it is abandoned", async () => {
      const store = await opened(await place(kind));
      await store.create("errors/x.ndjson", bytes(""));
      const upload = await store.upload("errors/P-1.ndjson", "application/fhir+ndjson");
      const ref = await upload.stage(1, "aaaaaaaa", bytes("one\n"));
      await store.create("errors/Q-1.ndjson", bytes("Q"));
      assert.deepEqual(await paths(store), ["errors/Q-1.ndjson", "errors/x.ndjson"]);
      const begun = [];
      for await (const one of store.unfinished("errors/P")) begun.push(one);
      assert.deepEqual(
        begun.map(({ path }) => path),
        ["errors/P-1.ndjson"],
      );
      for await (const { path } of store.unfinished("errors/Q")) assert.fail(path);
      for (const { path, key } of begun) await store.abandon(path, key);
      for (const { path, key } of begun) await store.abandon(path, key);
      assert.deepEqual(await paths(store, "", true), ["errors/Q-1.ndjson", "errors/x.ndjson"]);
      assert.equal(await upload.holds([[ref, 4]]), false);
      assert.equal(await upload.commit([[ref, 4]]), "gone");
      assert.deepEqual(await paths(store, "errors/P", true), []);
    });
  });

describe("directory store", () => {
  const root = ({ secrets }: Place) => join(secrets, "volume");

  test("what a killed process leaves of a small object is listed as unfinished, and can be abandoned", async () => {
    const where = await place("directory");
    const store = await opened(where);
    let folder: string | undefined;
    // Seen through the store's own writing: where it keeps an object until that has its name.
    for (let seen: string[] = []; folder === undefined; ) {
      const busy = store.create("_work/cohort", Buffer.alloc(1 << 22));
      for (let over = false; !over && folder === undefined; ) {
        seen = await readdir(root(where), { recursive: true });
        folder = seen.find((path) => path.endsWith(".draft"));
        over = await Promise.race([busy.then(() => true), Promise.resolve(false)]);
      }
      await busy;
      await store.remove("_work/cohort");
    }
    const draft = join(root(where), folder);
    await mkdir(join(draft, ".."), { recursive: true });
    await writeFile(draft, '{"patients":["1"]}');
    assert.deepEqual(await paths(store), []);
    const left = [];
    for await (const one of store.unfinished("")) left.push(one);
    assert.deepEqual(
      left.map(({ path }) => path),
      ["_work/cohort"],
    );
    for (const { path, key } of left) await store.abandon(path, key);
    assert.deepEqual(await readdir(join(root(where), "out/x"), { recursive: true }), []);
  });

  test("no call follows a symbolic link out of the volume, be it a file or a folder", async () => {
    const where = await place("directory");
    const store = await opened(where);
    const elsewhere = join(where.secrets, "elsewhere");
    await mkdir(elsewhere);
    await writeFile(join(elsewhere, "secret"), "secret");
    const base = join(root(where), "out/x");
    await symlink(join(elsewhere, "secret"), join(base, "P-1.ndjson"));
    await symlink(elsewhere, join(base, "errors"));
    await symlink(join(elsewhere, "new"), join(base, "deleted"));
    const refused = { class: "terminal", reason: "TargetUnauthorized" };
    for (const path of ["P-1.ndjson", "errors/secret"]) {
      await assert.rejects(readAll(store, path), refused, path);
      await assert.rejects(store.read(path), refused, path);
    }
    for (const path of ["errors/x", "deleted/x"]) {
      await assert.rejects(store.create(path, bytes("1")), refused, path);
      const upload = await store.upload(path, "x/y");
      await assert.rejects(
        upload.stage(1, "aaaaaaaa", bytes("1")).then((ref) => upload.commit([[ref, 1]])),
        refused,
        path,
      );
    }
    await assert.rejects(store.remove("errors/secret"), refused);
    assert.deepEqual(await readdir(elsewhere), ["secret"]);
    // The links themselves are told by a list, and a purge removes them and not what they lead to.
    assert.deepEqual(await paths(store), ["P-1.ndjson", "deleted", "errors"]);
    for (const path of await paths(store)) await store.remove(path);
    assert.deepEqual(await paths(store), []);
    assert.equal(await readFile(join(elsewhere, "secret"), "utf8"), "secret");
  });

  test("a folder that is a link to another one of the same volume is no fault", async () => {
    const where = await place("directory");
    await mkdir(join(root(where), "disk"), { recursive: true });
    await symlink("disk", join(root(where), "out"));
    const store = await opened(where);
    assert(await store.create("_work/a.json", bytes("1")));
    assert.deepEqual(await paths(store), ["_work/a.json"]);
  });
});
