import assert from "node:assert/strict";
import { test } from "node:test";
import { OwnMemory } from "../../src/scan/own.ts";
import { printer } from "../../src/scan/print.ts";
import { RowPrints } from "../../src/scan/row-prints.ts";

test("the fingerprints of some rows: as words, as text, and one behind the other", () => {
  const key = "00112233445566778899aabbccddeeff";
  const ids = ["a", "b", "c", "d"];
  const entry = ids.map((id) => ({ resource: { resourceType: "Basic", id } }));
  const page = Buffer.from(JSON.stringify({ resourceType: "Bundle", entry }));
  const expected = { type: "Basic", till: "2026-01-01T00:00:00.000Z", key, members: [] };
  const { table, memory, out } = new OwnMemory().read(page, expected);
  const prints = new RowPrints(new Uint32Array(memory.buffer), out);
  const print = printer(key);
  for (const [from, to] of [
    [2, 4],
    [0, 3],
  ] as const) {
    prints.make(table, from, to);
    for (let row = from; row < to; row++) {
      const wanted = print(ids[row]!);
      assert.equal(prints.text(row), wanted.toString("latin1"));
      const word = prints.wordOf(row);
      assert.deepEqual(
        [...prints.words.subarray(word, word + 4)],
        [0, 4, 8, 12].map((at) => wanted.readUInt32LE(at)),
      );
      assert.equal(word, prints.wordOf(from) + 4 * (row - from));
    }
  }
});
