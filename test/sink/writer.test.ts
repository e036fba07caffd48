import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { describe, test } from "node:test";
import type { Checkpoint, ShardResult } from "../../src/contracts.ts";
import { copyResource, scanPage } from "../../src/scan/plain.ts";
import { slack } from "../../src/scan/table.ts";
import { eachFingerprint, fingerprinter, wordsOf } from "../../src/sink/fingerprints.ts";
import { checkpointPath, planPath } from "../../src/sink/layout.ts";
import type { Lines } from "../../src/sink/lines.ts";
import { Slabs, slabSpace } from "../../src/sink/slabs.ts";
import type { BlockWriter, Store } from "../../src/sink/store.ts";
import { ShardWriter } from "../../src/sink/writer.ts";
import { sampleOf } from "../tools/sample.ts";
import { gunzipOnce, type Place, paths, readAll, storage } from "./stores.ts";

const { kinds, place } = storage({ apart: true });

// 9 pages of 7 resources each, which grow in size; every fifth resource is not for the output
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
    (JSON.parse(page.toString()) as { entry: { resource: unknown }[] }).entry.map(({ resource }) =>
      JSON.stringify(resource),
    ),
  )
  .filter((_, index) => index % 5 !== 0)
  .map((line) => `${line}\n`)
  .join("");

interface Run {
  store: Store;
  gzip?: boolean;
  nonce: string;
  /** bytes of a block; some lines are larger than a small one */
  slab?: number;
  maxBlocks?: number;
  /** Milliseconds by which the clock advances each time it is read: with 1000, a checkpoint is due at every second
   *  reading. */
  tick?: number;
}

const fingerprint = fingerprinter("00112233445566778899aabbccddeeff");

/** The resources of a page as lines. */
function linesOf(page: number): Lines & { ids: string[] } {
  const bytes = pages[page]!;
  const { entries } = scanPage(bytes);
  return {
    ids: entries.map(({ id }) => id),
    room: (from, to) => (from < to ? entries[to - 1]!.end - entries[from]!.start + 1 : 0),
    emit(from, to, memory, at) {
      for (const entry of entries.slice(from, to)) {
        at = copyResource(bytes, entry, memory, at);
        memory[at++] = 0x0a;
      }
      return at;
    },
  };
}

async function run({ store, gzip = false, nonce, tick = 1000, slab = 700, maxBlocks }: Run): Promise<ShardResult> {
  let [now, nonces] = [0, 0];
  const slabs = new Slabs(Buffer.alloc(2 * slabSpace(slab) + slack), 0, slab, 2);
  const writer = await ShardWriter.open({
    store,
    slabs,
    uid: "u",
    shard: { id: "Patient-0001", type: "Patient" },
    gzip,
    maxFileBytes: 4000,
    blockBytes: gzip ? 1 : slab,
    nonce: () => nonce.slice(0, 7) + String(nonces++),
    clock: { now: () => now, monotonic: () => (now += tick) },
    ...(maxBlocks !== undefined && { maxBlocks }),
  });
  for (let page = Number(writer.position.page ?? 0); page < pages.length; page++) {
    writer.begin(String(page));
    const lines = linesOf(page);
    let from = writer.position.taken;
    for (let at = from; at < 7; at++) {
      assert(
        writer.show(wordsOf(fingerprint(lines.ids[at]!)), 0),
        "a resource that must be read again is not known yet",
      );
      if ((page * 7 + at) % 5 !== 0) continue;
      if (from < at) await writer.lines(lines, from, at);
      writer.pass();
      from = at + 1;
    }
    if (from < 7) await writer.lines(lines, from, 7);
    await writer.pageDone(page + 1 < pages.length ? String(page + 1) : undefined);
  }
  const result = await writer.finish();
  assert(slabs.take() && slabs.take(), "no slab is kept");
  return result;
}

/** A store with a plan, since a writer stops where there is none. */
async function planned(where: Place): Promise<Store> {
  const store = await where.open();
  await store.prepare();
  await store.create(planPath, Buffer.from("{}"));
  return store;
}

/** The store as a process sees it that is killed right before or right after its k-th call.
 *  @returns with the names of the calls so far */
function dyingAt(store: Store, k: number, after: boolean): { store: Store; calls: string[] } {
  const calls: string[] = [];
  const wrap =
    <A extends unknown[], R>(name: string, call: (...args: A) => Promise<R>) =>
    async (...args: A): Promise<R> => {
      const dies = calls.push(name) >= k;
      if (dies && !(after && calls.length === k)) throw new Error("killed");
      const result = await call(...args);
      if (dies) throw new Error("killed");
      return result;
    };
  const dying: Store = {
    ...store,
    read: wrap("read", store.read),
    create: wrap("create", store.create),
    replace: wrap("replace", store.replace),
    remove: wrap("remove", store.remove),
    discard: wrap("discard", store.discard),
    stream: wrap("stream", store.stream),
    blocks: (...args) => {
      const writer = store.blocks(...args);
      return {
        stage: wrap("stage", writer.stage),
        holds: wrap("holds", writer.holds),
        commit: wrap("commit", writer.commit),
      } satisfies BlockWriter;
    },
  };
  return { store: dying, calls };
}

async function files(store: Store, result: ShardResult): Promise<Map<string, Buffer>> {
  const found = new Map<string, Buffer>();
  for (const { name } of result.files) found.set(name, (await readAll(store, name))!);
  return found;
}

const content = (found: Map<string, Buffer>, gzip = false) =>
  [...found.values()].map((bytes) => (gzip ? gunzipOnce(bytes) : bytes).toString()).join("");

async function printsOf(store: Store, segments: readonly string[]): Promise<string[]> {
  const prints: string[] = [];
  await eachFingerprint(store, segments, (print) => prints.push(print));
  return prints;
}

/** Demands that a successor has written what an undisturbed writer has. */
async function assertSame(
  successor: { store: Store; result: ShardResult },
  undisturbed: { store: Store; result: ShardResult },
  { gzip, death }: { gzip: boolean; death: string },
): Promise<void> {
  const found = await files(successor.store, successor.result);
  assert.equal(content(found, gzip), expected, `killed ${death}`);
  assert.deepEqual(
    await printsOf(successor.store, successor.result.fingerprints),
    await printsOf(undisturbed.store, undisturbed.result.fingerprints),
  );
  // with gzip the stored bytes depend on where segments were cut
  const filesOf = ({ result }: { result: ShardResult }) =>
    result.files.map(({ name, lines, sha256 }) => ({ name, lines, sha256: gzip ? "" : sha256 }));
  assert.deepEqual(filesOf(successor), filesOf(undisturbed));
  for (const { name, sha256 } of successor.result.files)
    assert.equal(createHash("sha256").update(found.get(name)!).digest("hex"), sha256);
}

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
          { size: kind === "azure" ? 16 : 32, kindsOf: ({ k, after }) => [`${calls[k - 1]} ${after}`] },
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

    test("a file that has as many blocks as a blob takes is closed, and the next one begins", async () => {
      const store = await planned(await place(kind));
      const [few, many] = [
        await run({ store, nonce: "aaaaaaaa", maxBlocks: 3 }),
        await run({ store: await fresh(), nonce: "aaaaaaaa" }),
      ];
      assert.equal(content(await files(store, few)), expected);
      assert(few.files.length > many.files.length);
    });

    test("where blocks have vanished, the shard begins again", async () => {
      const store = await planned(await place(kind));
      await assert.rejects(run({ store: dyingAt(store, 14, false).store, nonce: "aaaaaaaa" }), /killed/);
      const { open } = JSON.parse((await store.read(checkpointPath("Patient-0001")))!.bytes.toString()) as Checkpoint;
      assert(open);
      await store.remove(open.name);
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
      await assert.rejects(run({ store: slow, nonce: "aaaaaaaa" }), /another writer has taken shard Patient-0001 over/);
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
