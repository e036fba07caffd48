import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import type { Checkpoint, ShardResult } from "../../src/contracts.ts";
import { copyResource, scanPage } from "../../src/scan/plain.ts";
import { slack } from "../../src/scan/table.ts";
import { resultOf } from "../../src/sink/checkpoint.ts";
import { eachFingerprint, eachWritten, fingerprinter } from "../../src/sink/fingerprints.ts";
import { checkpointPath, planPath } from "../../src/sink/layout.ts";
import type { Lines } from "../../src/sink/lines.ts";
import { wordsOf } from "../../src/sink/print-set.ts";
import { Slabs, slabSpace } from "../../src/sink/slabs.ts";
import type { Store, Upload } from "../../src/sink/store.ts";
import { ShardWriter } from "../../src/sink/writer.ts";
import { random } from "../sources/random.ts";
import { gunzipOnce, type Place, readAll } from "./stores.ts";

// Runs of one shard's writer over made-up pages, undisturbed or killed and stopped at a call to storage.

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
export const expected = pages
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
  /** The source gives the entries of a page in an order of this number; undefined: as they are. */
  order?: number | undefined;
  onPage?: (page: number) => void;
  /** Milliseconds by which the clock advances each time it is read: with 1000, a checkpoint is due at every second
   *  reading. */
  tick?: number;
}

const fingerprint = fingerprinter("00112233445566778899aabbccddeeff");

/** The resources of a page as lines. */
function linesOf(page: number, order: number | undefined): Lines & { ids: string[] } {
  const bytes = pages[page]!;
  const { entries } = scanPage(bytes);
  const r = random(1000 * (order ?? 0) + page);
  if (order !== undefined)
    for (let last = entries.length - 1; last > 0; last--) {
      const other = r.int(last + 1);
      [entries[last], entries[other]] = [entries[other]!, entries[last]!];
    }
  return {
    ids: entries.map(({ id }) => id),
    room: (from, to) => entries.slice(from, to).reduce((sum, { start, end }) => sum + end - start + 1, 0),
    emit(from, to, memory, at) {
      for (const entry of entries.slice(from, to)) {
        at = copyResource(bytes, entry, memory, at);
        memory[at++] = 0x0a;
      }
      return at;
    },
  };
}

export async function run({
  store,
  gzip = false,
  nonce,
  tick = 1000,
  slab = 700,
  order,
  onPage,
}: Run): Promise<ShardResult> {
  // Like a worker, which does not open a writer for a shard that is done.
  const found = await store.read(checkpointPath("Patient-0001"));
  const done = found && resultOf(JSON.parse(found.bytes.toString()) as Checkpoint);
  if (done) return done;
  let [now, nonces] = [0, 0];
  const slabs = new Slabs(Buffer.alloc(2 * slabSpace(slab) + slack), 0, slab, 2);
  const writer = await ShardWriter.open({
    store,
    slabs,
    uid: "u",
    shard: { id: "Patient-0001", type: "Patient" },
    gzip,
    maxFileBytes: 4000,
    blockBytes: gzip ? 150 : slab,
    nonce: () => nonce.slice(0, 7) + String(nonces++),
    clock: { now: () => now, monotonic: () => (now += tick) },
  });
  for (let page = Number(writer.position.page ?? 0); page < pages.length; page++) {
    onPage?.(page);
    writer.begin(String(page));
    const lines = linesOf(page, order);
    let from = 0;
    for (let at = from; at < 7; at++) {
      // what a writer before this one has written of the page is known
      const isNew = writer.show(wordsOf(fingerprint(lines.ids[at]!)), 0);
      const number = page * 7 + Number(lines.ids[at]!.split("-")[1]);
      if (isNew && number % 5 !== 0) continue;
      if (from < at) await writer.lines(lines, from, at);
      if (isNew) writer.pass();
      from = at + 1;
    }
    if (from < 7) await writer.lines(lines, from, 7);
    await writer.pageDone(page + 1 < pages.length ? String(page + 1) : undefined, { shown: 0 });
  }
  const result = await writer.finish({ evidence: [] });
  assert(slabs.take() && slabs.take(), "no slab is kept");
  return result;
}

/** A store with a plan, since a writer stops where there is none. */
export async function planned(where: Place): Promise<Store> {
  const store = await where.open();
  await store.prepare();
  await store.create(planPath, Buffer.from("{}"));
  return store;
}

/** The store with something that happens before each call.
 *  @param happens takes the number of the call, from 1, and its name
 *  @param afterwards is called when the call was answered */
export function before(
  store: Store,
  happens: (number: number, name: string) => Promise<void>,
  afterwards: (number: number) => void = () => {},
): Store {
  let calls = 0;
  const wrap =
    <A extends unknown[], R>(name: string, call: (...args: A) => Promise<R>) =>
    async (...args: A): Promise<R> => {
      const number = ++calls;
      await happens(number, name);
      const result = await call(...args);
      afterwards(number);
      return result;
    };
  return {
    ...store,
    read: wrap("read", store.read),
    create: wrap("create", store.create),
    replace: wrap("replace", store.replace),
    remove: wrap("remove", store.remove),
    abandon: wrap("abandon", store.abandon),
    size: wrap("size", store.size),
    stream: wrap("stream", store.stream),
    upload: async (...args) => {
      const upload = await store.upload(...args);
      return {
        key: upload.key,
        stage: wrap("stage", upload.stage),
        holds: wrap("holds", upload.holds),
        commit: wrap("commit", upload.commit),
      } satisfies Upload;
    },
  };
}

/** The store as a process sees it that is killed right before or right after its k-th call.
 *  @returns with the names of the calls so far */
export function dyingAt(store: Store, k: number, after: boolean): { store: Store; calls: string[] } {
  const calls: string[] = [];
  const die = () => {
    throw new Error("killed");
  };
  const dying = before(
    store,
    async (number, name) => {
      calls.push(name);
      if (number > k || (number === k && !after)) die();
    },
    (number) => void (number >= k && die()),
  );
  return { store: dying, calls };
}

export async function files(store: Store, result: ShardResult): Promise<Map<string, Buffer>> {
  const found = new Map<string, Buffer>();
  for (const { name } of result.files) found.set(name, (await readAll(store, name))!);
  return found;
}

export const content = (found: Map<string, Buffer>, gzip = false) =>
  [...found.values()].map((bytes) => (gzip ? gunzipOnce(bytes) : bytes).toString()).join("");

export async function printsOf(store: Store, segments: readonly string[]): Promise<string[]> {
  const prints: string[] = [];
  await eachFingerprint(store, segments, (print) => prints.push(print));
  return prints;
}

/** The fingerprints of lines alone. */
async function writtenOf(store: Store, segments: readonly string[]): Promise<string[]> {
  const prints: string[] = [];
  await eachWritten(store, segments, (bytes) => {
    for (let at = 0; at < bytes.length; at += 16) prints.push(bytes.toString("latin1", at, at + 16));
  });
  return prints;
}

/** Demands that a successor has written what an undisturbed writer has. */
export async function assertSame(
  successor: { store: Store; result: ShardResult },
  undisturbed: { store: Store; result: ShardResult },
  { gzip, death }: { gzip: boolean; death: string },
): Promise<void> {
  const found = await files(successor.store, successor.result);
  assert.equal(content(found, gzip), expected, `killed ${death}`);
  // A segment has the fingerprints of lines first, and when checkpoints are due decides on the segments.
  for (const read of [printsOf, writtenOf])
    assert.deepEqual(
      (await read(successor.store, successor.result.fingerprints)).sort(),
      (await read(undisturbed.store, undisturbed.result.fingerprints)).sort(),
    );
  const lines = await writtenOf(successor.store, successor.result.fingerprints);
  assert.equal(lines.length, successor.result.resources);
  // with gzip the stored bytes depend on where segments were cut
  const filesOf = ({ result }: { result: ShardResult }) =>
    result.files.map(({ name, lines, sha256 }) => ({ name, lines, sha256: gzip ? "" : sha256 }));
  assert.deepEqual(filesOf(successor), filesOf(undisturbed));
  for (const { name, sha256 } of successor.result.files)
    assert.equal(createHash("sha256").update(found.get(name)!).digest("hex"), sha256);
}
