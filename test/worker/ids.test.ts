import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import fc from "fast-check";
import { DuplicateFinder } from "../../src/worker/ids.ts";

const digestBytes = (text: string) => createHash("sha256").update(text).digest();

test("property: every id that is shown twice is suspected, and only those that share a hash with another", () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 0, max: 5000 }), { maxLength: 3000, size: "max" }),
      fc.constantFrom(2 ** 31, 40_000),
      (numbers, hashes) => {
        const print = (id: string) => digestBytes(String(digestBytes(id).readUInt32LE(0) % hashes));
        const duplicates = new DuplicateFinder(numbers.length, 8192, print);
        const ids = [...new Set(numbers)].map(String);
        // few enough that each of them is kept as a suspect
        const twice = ids.filter((_, index) => index % 50 === 0);
        const shown = [...ids, ...twice];
        const passes = duplicates.passesFor(shown.length);
        assert.equal(passes, Math.max(1, Math.ceil(shown.length / 716.8)));
        const found = new Set<string>();
        for (let pass = 0; pass < passes; pass++) {
          duplicates.begin(pass, passes);
          for (const id of shown) duplicates.see(id);
        }
        for (const id of ids) if (duplicates.suspects(id)) found.add(id);
        const prints = Map.groupBy(shown, (id) => print(id).toString("latin1", 0, 8));
        const shared = ids.filter((id) => prints.get(print(id).toString("latin1", 0, 8))!.length > 1);
        assert.equal(duplicates.suspected, shared.length > 0);
        if (new Set(shared.map((id) => print(id).toString("latin1", 0, 8))).size < 100)
          assert.deepEqual([...found].sort(), shared.sort());
      },
    ),
    { numRuns: 60 },
  );
});
