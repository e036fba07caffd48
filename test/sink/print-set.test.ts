import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import fc from "fast-check";
import { printer } from "../../src/scan/print.ts";
import { ShownResources } from "../../src/sink/fingerprints.ts";
import { printWords } from "../../src/sink/print-filter.ts";
import { PrintSet, wordsOf } from "../../src/sink/print-set.ts";
import type { Store } from "../../src/sink/store.ts";

const print = printer("00112233445566778899aabbccddeeff");
const printOf = (number: number) => print(String(number)).toString("latin1");
setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;
/** fewer than these are never on disk */
const inMemory = 1024;

let folder: string;
const usual = process.env.TMPDIR;
before(async () => {
  process.env.TMPDIR = folder = await mkdtemp(join(tmpdir(), "print-set-"));
});
after(async () => {
  if (usual === undefined) delete process.env.TMPDIR;
  else process.env.TMPDIR = usual;
  await rm(folder, { recursive: true });
});

test("a set that is larger than what may be in memory knows what was added, and nothing else", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 12_000 }), fc.integer({ min: 1, max: 20_000 }), (count, among) => {
      const prints = new PrintSet(0, inMemory);
      const known = new Set<number>();
      for (let i = 0; i < count; i++) {
        const number = (i * 7919) % among;
        assert.equal(prints.addPrint(printOf(number)), !known.has(number));
        known.add(number);
      }
      assert.equal(prints.count, known.size);
      for (let number = 0; number < among; number += 17) assert.equal(prints.has(printOf(number)), known.has(number));
      const seen = new Set<string>();
      prints.each((one) => seen.add(one));
      assert.deepEqual(seen, new Set([...known].map(printOf)));
      prints.clear();
      assert.deepEqual([prints.count, prints.has(printOf(0))], [0, false]);
      assert.ok(prints.addPrint(printOf(0)));
      prints.close();
    }),
    { numRuns: 20 },
  );
});

test("what is shown again in its first order, from the other end, or in any order is known", () => {
  const count = 20_000;
  const prints = new PrintSet(0, inMemory);
  for (let number = 0; number < count; number++) prints.addPrint(printOf(number));
  for (let number = 0; number < count; number++) assert.ok(!prints.addPrint(printOf(number)));
  for (let number = count - 1; number >= 0; number--) assert.ok(prints.has(printOf(number)));
  for (let i = 0; i < count; i++) assert.ok(prints.has(printOf((i * 7919) % count)));
  for (let number = count; number < 2 * count; number++) assert.ok(!prints.has(printOf(number)));
  prints.close();
});

test("what is not stored yet stays in its order, however much it is, and a successor knows all of it", async () => {
  const objects = new Map<string, Buffer>();
  const store = { read: async (path: string) => ({ bytes: objects.get(path)!, tag: "" }) } as unknown as Store;
  const put = async (path: string, bytes: Uint8Array) => void objects.set(path, Buffer.from(bytes));
  const shown = new ShownResources(store, "Basic-0001", 0, inMemory);
  let number = 0;
  // the second of them is larger than what may be in memory
  for (const [round, count] of [500, 5000, 300, 2000, 700].entries()) {
    for (const end = number + count; number < end; number++) {
      shown.add(wordsOf(printOf(number)), 0);
      if (number % 3 === 0) shown.pass();
    }
    await shown.store(number, `0000000${round}`, put);
  }
  const stored = shown.segments.map((path) => objects.get(path)!);
  const written = Buffer.concat(stored)
    .toString("latin1")
    .match(/[\s\S]{16}/g)!;
  assert.equal(written.length, number);
  // in each segment lines come first
  const firsts = [0, 500, 5500, 5800, 7800].map((from, index, all) => {
    const end = all[index + 1] ?? number;
    const numbers = Array.from({ length: end - from }, (_, i) => from + i);
    return [...numbers.filter((one) => one % 3 !== 0), ...numbers.filter((one) => one % 3 === 0)];
  });
  assert.deepEqual(written, firsts.flat().map(printOf));
  const successor = new ShownResources(store, "Basic-0001", 0, inMemory);
  await successor.restore(shown.segments);
  assert.equal(successor.count, number);
  for (let one = 0; one < number; one++) assert.ok(!successor.add(wordsOf(printOf(one)), 0));
  assert.ok(successor.add(wordsOf(printOf(number)), 0));
  successor.close();
  shown.close();
});

test("four million fingerprints are on disk but for some MiB, and nothing of them has a name there", async () => {
  const before = process.memoryUsage().arrayBuffers;
  const prints = new PrintSet();
  const some = 8192;
  let most = 0;
  for (let added = 0; added < 4_000_000; added += some) {
    const words = new Uint32Array(new Uint8Array(randomBytes(some * printWords * 4)).buffer);
    assert.equal(prints.addRun(words, 0, some), some);
    if (added % (some * 16) !== 0) continue;
    collectGarbage();
    most = Math.max(most, process.memoryUsage().arrayBuffers - before);
  }
  assert.ok(most < 60 << 20, `${most >> 20} MiB`);
  assert.deepEqual(await readdir(folder), []);
  prints.close();
});
