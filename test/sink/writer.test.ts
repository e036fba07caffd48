import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { describe, test } from "node:test";
import type { Checkpoint, ShardResult } from "../../src/contracts.ts";
import { checkpointPath } from "../../src/sink/layout.ts";
import type { Store } from "../../src/sink/store.ts";
import { sampleOf } from "../tools/sample.ts";
import { assertSame, content, dyingAt, expected, files, planned, run } from "./shard-runs.ts";
import { paths, storage } from "./stores.ts";

const { kinds, place } = storage({ apart: true });

for (const kind of kinds)
  describe(`shard writer into ${kind}`, () => {
    const fresh = async () => planned(await place(kind));

    test("lines, files cut at line ends, digests", async () => {
      const store = await planned(await place(kind));
      const result = await run({ store, nonce: "aaaaaaaa" });
      const found = await files(store, result);
      assert.equal(content(found), expected);
      assert(result.files.length > 2);
      for (const { name, bytes, lines, sha256, blocks } of result.files) {
        const data = found.get(name)!;
        assert(bytes <= 4000 && data.at(-1) === 10);
        assert.deepEqual(
          [data.length, data.toString().split("\n").length - 1, createHash("sha256").update(data).digest("hex")],
          [bytes, lines, sha256],
        );
        assert.equal(blocks, undefined);
      }
      assert.deepEqual([result.seen, result.resources], [63, expected.split("\n").length - 1]);
    });

    for (const { gzip, slab } of [
      { gzip: false, slab: 700 },
      { gzip: false, slab: 100 },
      { gzip: true, slab: 700 },
    ])
      test(`${gzip ? "gzip, " : ""}blocks of ${slab} bytes: killed before and after each call to storage, a successor comes to the same ${gzip ? "content" : "bytes"}`, async () => {
        const reference = await fresh();
        const counted = dyingAt(reference, Number.POSITIVE_INFINITY, false);
        const undisturbed = await run({ store: counted.store, nonce: "aaaaaaaa", gzip, slab });
        const wanted = content(await files(reference, undisturbed), gzip);
        assert.equal(wanted, expected);
        const { calls } = counted;
        assert(calls.length > 20, "there are calls to interrupt");
        const deaths = sampleOf(
          `kills of a writer into ${kind}, ${slab}, ${gzip}`,
          // with blocks of 100 bytes there are some 200 calls, of the same kinds
          Array.from(calls.keys())
            .filter((index) => slab !== 100 || index % 7 === 0)
            .flatMap((index) => [false, true].map((after) => ({ k: index + 1, after }))),
          {
            size: slab === 100 ? 0 : kind === "azure" ? 8 : 16,
            kindsOf: ({ k, after }) => [`${calls[k - 1]} ${after}`],
          },
        );
        let resumed = 0;
        for (const { k, after } of deaths) {
          const store = await fresh();
          await assert.rejects(run({ store: dyingAt(store, k, after).store, nonce: "aaaaaaaa", gzip, slab }), /killed/);
          const checkpoint = await store.read(checkpointPath("Patient-0001"));
          if (checkpoint && (JSON.parse(checkpoint.bytes.toString()) as Checkpoint).next !== undefined) resumed++;
          const result = await run({ store, nonce: "bbbbbbbb", gzip, slab });
          await assertSame(
            { store, result },
            { store: reference, result: undisturbed },
            { gzip, death: `${after ? "after" : "before"} call ${k}, ${calls[k - 1]}` },
          );
        }
        assert(resumed > deaths.length / 4, `successors continued from the middle (${resumed} of ${deaths.length})`);
      });

    for (const { gzip, slab } of [
      { gzip: false, slab: 700 },
      { gzip: false, slab: 100 },
      { gzip: true, slab: 700 },
    ])
      test(`${gzip ? "gzip, " : ""}slabs of ${slab} bytes: all blocks of a file but its last have one size, also after a kill`, async () => {
        const size = gzip ? 150 : slab;
        const staged = new Map<string, number>();
        const store = await fresh();
        const noted = (under: Store): Store => ({
          ...under,
          async upload(path, type, key) {
            const upload = await under.upload(path, type, key);
            return {
              ...upload,
              async stage(number, nonce, bytes) {
                const ref = await upload.stage(number, nonce, bytes);
                staged.set(`${path} ${ref}`, bytes.length);
                return ref;
              },
              commit(blocks) {
                const sizes = blocks.map(([ref]) => staged.get(`${path} ${ref}`)!);
                assert.deepEqual(new Set(sizes.slice(0, -1)), new Set(sizes.length > 1 ? [size] : []), path);
                assert(sizes.at(-1)! > 0 && sizes.at(-1)! <= size, path);
                return upload.commit(blocks);
              },
            };
          },
        });
        const early = dyingAt(noted(store), gzip ? 60 : 25, false);
        await assert.rejects(run({ store: early.store, nonce: "aaaaaaaa", gzip, slab }), /killed/);
        const result = await run({ store: noted(store), nonce: "bbbbbbbb", gzip, slab });
        assert.equal(content(await files(store, result), gzip), expected);
        assert(staged.size > result.files.length);
      });

    test("lines that fill no block are in the tail of a checkpoint: a successor reads no page before it again", async () => {
      const store = await fresh();
      // never a full block, and a checkpoint at the end of each page
      const slow = { slab: 100_000, tick: 3000 };
      const counted = dyingAt(await fresh(), Number.POSITIVE_INFINITY, false);
      await run({ store: counted.store, nonce: "aaaaaaaa", ...slow });
      const dying = dyingAt(store, counted.calls.indexOf("stage") + 1, false);
      await assert.rejects(run({ store: dying.store, nonce: "aaaaaaaa", ...slow }), /killed/);
      const { open, tail, next } = JSON.parse(
        (await store.read(checkpointPath("Patient-0001")))!.bytes.toString(),
      ) as Checkpoint;
      assert(
        open!.lines > 0 && open!.blocks!.length === 0 && tail!.length > 1 && Number(next) > 1,
        JSON.stringify({ open, tail, next }),
      );
      const asked: number[] = [];
      const result = await run({ store, nonce: "bbbbbbbb", ...slow, onPage: (page) => void asked.push(page) });
      assert.equal(asked[0], Number(next));
      assert.equal(content(await files(store, result)), expected);
    });

    test("segments of the tail go when their lines are in blocks", async () => {
      const store = await fresh();
      const result = await run({ store, nonce: "aaaaaaaa", slab: 2000, tick: 3000 });
      assert.deepEqual(
        await paths(store, "_work/Patient-0001/"),
        [checkpointPath("Patient-0001"), ...result.fingerprints].sort(),
      );
    });

    test("where blocks have vanished, the shard begins again", async () => {
      const store = await planned(await place(kind));
      await assert.rejects(run({ store: dyingAt(store, 14, false).store, nonce: "aaaaaaaa" }), /killed/);
      const { open } = JSON.parse((await store.read(checkpointPath("Patient-0001")))!.bytes.toString()) as Checkpoint;
      assert(open);
      await store.abandon(open.name, open.key!);
      assert.equal(content(await files(store, await run({ store, nonce: "bbbbbbbb" }))), expected);
    });

    test("a writer that was overtaken notices and adds nothing", async () => {
      const store = await planned(await place(kind));
      let overtake: Promise<ShardResult> | undefined;
      let calls = 0;
      const slow: Store = {
        ...store,
        replace: async (...args) => {
          if (++calls === 3) {
            overtake = run({ store, nonce: "bbbbbbbb" });
            await overtake;
          }
          return store.replace(...args);
        },
      };
      await assert.rejects(
        run({ store: slow, nonce: "aaaaaaaa" }),
        /shard Patient-0001 was finished by another writer/,
      );
      assert.equal(content(await files(store, await overtake!)), expected);
      assert.equal(
        (await paths(store)).filter((path) => path.endsWith(".ndjson")).length,
        (await overtake!).files.length,
      );
    });

    test("a fenced checkpoint is a terminal error", async () => {
      const store = await planned(await place(kind));
      await store.create(checkpointPath("Patient-0001"), Buffer.from(JSON.stringify({ v: 1, uid: "u", fenced: true })));
      await assert.rejects(run({ store, nonce: "aaaaaaaa" }), { class: "terminal", reason: "Fenced" });
    });

    test("another export's checkpoint is a terminal error", async () => {
      const store = await planned(await place(kind));
      await store.create(checkpointPath("Patient-0001"), Buffer.from(JSON.stringify({ v: 1, uid: "other", done: [] })));
      await assert.rejects(run({ store, nonce: "aaaaaaaa" }), { class: "terminal", reason: "ForeignOutput" });
    });
  });
