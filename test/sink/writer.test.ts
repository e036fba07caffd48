import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { describe, test } from "node:test";
import { gunzipSync } from "node:zlib";
import type { Checkpoint, ShardResult } from "../../src/contracts.ts";
import { scanPage } from "../../src/scan/plain.ts";
import { fingerprint, readFingerprints } from "../../src/sink/fingerprints.ts";
import { checkpointPath } from "../../src/sink/layout.ts";
import type { BlockWriter, Store } from "../../src/sink/store.ts";
import { ShardWriter } from "../../src/sink/writer.ts";
import { paths, readAll, storage } from "./stores.ts";

const { kinds, place } = storage();

// 9 pages of 7 resources of growing size; every fifth resource is not for the output
const pages = Array.from({ length: 9 }, (_, page) =>
  Buffer.from(
    JSON.stringify({
      resourceType: "Bundle",
      entry: Array.from({ length: 7 }, (_, index) => ({
        resource: { resourceType: "Patient", id: `p${page}-${index}`, text: "é".repeat((page * 7 + index) * 3) },
      })),
    }),
  ),
);
const expected = pages
  .flatMap((page) =>
    (JSON.parse(page.toString()) as { entry: { resource: unknown }[] }).entry.map(({ resource }) => JSON.stringify(resource)),
  )
  .filter((_, index) => index % 5 !== 0)
  .map((line) => `${line}\n`)
  .join("");

interface Run {
  store: Store;
  gzip?: boolean;
  nonce: string;
  /** ms that pass at each look at the clock: 1000 = a checkpoint is due at every second look */
  tick?: number;
}

async function run({ store, gzip = false, nonce, tick = 1000 }: Run): Promise<ShardResult> {
  let [now, nonces] = [0, 0];
  const writer = await ShardWriter.open({
    store,
    uid: "u",
    shard: { id: "Patient-0001", type: "Patient" },
    gzip,
    maxFileBytes: 4000,
    blockBytes: gzip ? 1 : 700,
    nonce: () => nonce.slice(0, 7) + String(nonces++),
    now: () => (now += tick),
  });
  for (let page = Number(writer.position.page ?? 0); page < pages.length; page++) {
    writer.begin(String(page));
    const bytes = pages[page]!;
    const { entries } = scanPage(bytes);
    for (let at = writer.position.taken; at < entries.length; at++) {
      const print = fingerprint("key", entries[at]!.id);
      assert.equal(writer.has(print), false, "what is to be read again is not known");
      if ((page * 7 + at) % 5 === 0) writer.pass(print);
      else if (writer.line(bytes, entries[at]!, print)) await writer.drain();
    }
    await writer.pageDone(page + 1 < pages.length ? String(page + 1) : undefined);
  }
  return writer.finish();
}

/** The store as a process sees it that is killed right before or right after its k-th call. */
function dyingAt(store: Store, k: number, after: boolean): { store: Store; calls: () => number } {
  let calls = 0;
  const wrap =
    <A extends unknown[], R>(call: (...args: A) => Promise<R>) =>
    async (...args: A): Promise<R> => {
      const dies = ++calls >= k;
      if (dies && !(after && calls === k)) throw new Error("killed");
      const result = await call(...args);
      if (dies) throw new Error("killed");
      return result;
    };
  const dying: Store = {
    ...store,
    read: wrap(store.read),
    create: wrap(store.create),
    replace: wrap(store.replace),
    remove: wrap(store.remove),
    stream: wrap(store.stream),
    blocks: (...args) => {
      const writer = store.blocks(...args);
      return { stage: wrap(writer.stage), holds: wrap(writer.holds), commit: wrap(writer.commit) } satisfies BlockWriter;
    },
  };
  return { store: dying, calls: () => calls };
}

async function files(store: Store, result: ShardResult): Promise<Map<string, Buffer>> {
  const found = new Map<string, Buffer>();
  for (const { name } of result.files) found.set(name, (await readAll(store, name))!);
  return found;
}

const content = (found: Map<string, Buffer>, gzip = false) =>
  [...found.values()].map((bytes) => (gzip ? gunzipSync(bytes) : bytes).toString()).join("");

for (const kind of kinds)
  describe(`shard writer into ${kind}`, () => {
    test("lines, files cut at line ends, digests", async () => {
      const store = await (await place(kind)).open();
      await store.prepare();
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

    for (const gzip of [false, true])
      test(`${gzip ? "gzip: " : ""}killed before and after each call to storage and gone on with: the same ${gzip ? "content" : "bytes"}`, async () => {
        const open = async () => {
          const store = await (await place(kind)).open();
          await store.prepare();
          return store;
        };
        const reference = await open();
        const counted = dyingAt(reference, Number.POSITIVE_INFINITY, false);
        const undisturbed = await run({ store: counted.store, nonce: "aaaaaaaa", gzip });
        const wanted = content(await files(reference, undisturbed), gzip);
        assert.equal(wanted, expected);
        assert(counted.calls() > 20, "there is something to interrupt");
        let resumed = 0;
        for (let k = 1; k <= counted.calls(); k++)
          for (const after of [false, true]) {
            const store = await open();
            await assert.rejects(run({ store: dyingAt(store, k, after).store, nonce: "aaaaaaaa", gzip }), /killed/);
            const checkpoint = await store.read(checkpointPath("Patient-0001"));
            if (checkpoint && (JSON.parse(checkpoint.bytes.toString()) as Checkpoint).next !== undefined) resumed++;
            const result = await run({ store, nonce: "bbbbbbbb", gzip });
            const found = await files(store, result);
            assert.equal(content(found, gzip), expected, `killed ${after ? "after" : "before"} call ${k}`);
            assert.deepEqual(
              [...(await readFingerprints(store, result.fingerprints))],
              [...(await readFingerprints(reference, undisturbed.fingerprints))],
            );
            assert.deepEqual(
              result.files.map(({ name, lines, sha256 }) => ({ name, lines, sha256: gzip ? "" : sha256 })),
              undisturbed.files.map(({ name, lines, sha256 }) => ({ name, lines, sha256: gzip ? "" : sha256 })),
            );
            for (const { name, sha256 } of result.files) assert.equal(createHash("sha256").update(found.get(name)!).digest("hex"), sha256);
          }
        assert(resumed > counted.calls() / 2, `most runs went on from the middle (${resumed})`);
      });

    test("blocks that vanished: the shard begins again", async () => {
      const store = await (await place(kind)).open();
      await store.prepare();
      await assert.rejects(run({ store: dyingAt(store, 12, false).store, nonce: "aaaaaaaa" }), /killed/);
      const { open } = JSON.parse((await store.read(checkpointPath("Patient-0001")))!.bytes.toString()) as Checkpoint;
      assert(open);
      await store.remove(open.name);
      assert.equal(content(await files(store, await run({ store, nonce: "bbbbbbbb" }))), expected);
    });

    test("a writer that was overtaken notices and adds nothing", async () => {
      const store = await (await place(kind)).open();
      await store.prepare();
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
      await assert.rejects(run({ store: slow, nonce: "aaaaaaaa" }), /another writer has taken shard Patient-0001 over/);
      assert.equal(content(await files(store, await overtake!)), expected);
      assert.equal((await paths(store)).filter((path) => path.endsWith(".ndjson")).length, (await overtake!).files.length);
    });

    test("fenced: terminal", async () => {
      const store = await (await place(kind)).open();
      await store.prepare();
      await store.create(checkpointPath("Patient-0001"), Buffer.from(JSON.stringify({ v: 1, uid: "u", fenced: true })));
      await assert.rejects(run({ store, nonce: "aaaaaaaa" }), { class: "terminal", reason: "Fenced" });
    });

    test("another export's checkpoint: terminal", async () => {
      const store = await (await place(kind)).open();
      await store.prepare();
      await store.create(checkpointPath("Patient-0001"), Buffer.from(JSON.stringify({ v: 1, uid: "other", done: [] })));
      await assert.rejects(run({ store, nonce: "aaaaaaaa" }), { class: "terminal", reason: "ForeignOutput" });
    });
  });
