import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import fc from "fast-check";
import { ShownResources } from "../../src/sink/fingerprints.ts";
import type { Store } from "../../src/sink/store.ts";

const store = {} as Store;
/** The fingerprints of numbers, one after the other. */
const printsOf = (numbers: readonly number[]) => {
  const words = new Uint32Array(numbers.length * 4);
  for (const [i, number] of numbers.entries())
    words.set(new Uint32Array(new Uint8Array(createHash("md5").update(String(number)).digest()).buffer), i * 4);
  return words;
};
const latin1 = (words: Uint32Array, index: number) => Buffer.from(words.buffer, index * 16, 16).toString("latin1");

test("a resource that was shown is known, however many were expected, whether shown in a run or alone", () => {
  const numbers = fc.array(fc.integer({ min: 0, max: 6000 }), { maxLength: 5000, size: "max" });
  fc.assert(
    fc.property(
      numbers,
      fc.constantFrom(undefined, 0, 1, 1024, 1025, 3000, 1e9),
      fc.integer({ min: 1, max: 700 }),
      (all, expected, run) => {
        const shown = new ShownResources(store, "0", expected);
        const known = new Set<number>();
        const words = printsOf(all);
        for (let at = 0; at < all.length; ) {
          const end = Math.min(all.length, at + run);
          let fresh = at;
          while (fresh < end && !known.has(all[fresh]!)) known.add(all[fresh++]!);
          assert.equal(shown.addRun(words, at * 4, end - at), fresh - at);
          at = fresh;
          if (at < end) assert.equal(shown.add(words, at++ * 4), false);
        }
        assert.equal(shown.count, known.size);
        for (const index of all.keys()) assert.ok(shown.has(latin1(words, index)));
        const others = printsOf([7000, 7001]);
        assert.ok(!shown.has(latin1(others, 0)));
        assert.equal(shown.add(others, 4), true);
        shown.close();
      },
    ),
    { numRuns: 40 },
  );
});

test("the next shard finds nothing in the arrays of the one before, which has nothing any more", () => {
  const words = printsOf(Array.from({ length: 3000 }, (_, i) => i));
  const first = new ShownResources(store, "0", 2000);
  assert.equal(first.addRun(words, 0, 2000), 2000);
  first.close();
  const second = new ShownResources(store, "1", 2000);
  assert.equal(second.count, 0);
  for (let index = 0; index < 3000; index++) assert.ok(!second.has(latin1(words, index)));
  assert.equal(second.addRun(words, 0, 3000), 3000);
  assert.equal(first.count, 0);
  assert.ok(!first.has(latin1(words, 0)));
  // a shard that is closed twice does not give away arrays that are not its own
  first.close();
  const third = new ShownResources(store, "2", 2000);
  assert.equal(third.addRun(words, 0, 3000), 3000);
  assert.equal(second.addRun(words, 0, 3000), 0);
});
