import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { OwnMemory } from "../../src/scan/own.ts";
import { printer } from "../../src/scan/print.ts";
import type { Expected } from "../../src/scan/table.ts";
import { compact, pretty } from "../sources/text.ts";

const expected: Expected = {
  type: "Binary",
  till: "2030-01-01T00:00:00.000Z",
  key: "0f".repeat(16),
  members: ["subject"],
};
const binary = (id: string, bytes: number) =>
  `{"resourceType":"Binary","id":"${id}","meta":{"lastUpdated":"2020-01-01T00:00:00.000Z"},"data":"${"QUJD".repeat(bytes >> 2)}","subject":{"reference":"Patient/${id}"}}`;
const bundle = (resources: string[]) =>
  Buffer.from(`{"resourceType":"Bundle","entry":[${resources.map((text) => `{"resource":${text}}`).join()}]}`);

describe("pages in a memory of their own", () => {
  test("a page of 20 MB: all questions about its rows, and each of its lines", () => {
    const own = new OwnMemory();
    const resources = [binary("a", 10e6), pretty(binary("b", 10e6)), binary("c", 8)];
    const { table, memory, out } = own.read(bundle(resources), expected);
    assert.deepEqual([table.count, table.handedOver, table.plainRows(0, 3), out % 8], [3, false, 3, 0]);
    assert.deepEqual(
      [0, 1, 2].map((row) => [table.id(row), table.reference(row, 0) !== "parse"]),
      [
        ["a", true],
        ["b", true],
        ["c", true],
      ],
    );
    table.prints(0, 3, out);
    assert.equal(
      Buffer.from(memory.buffer).toString("hex", out, out + 48),
      ["a", "b", "c"].map((id) => printer(expected.key)(id).toString("hex")).join(""),
    );
    for (const [row, text] of resources.entries()) {
      const end = table.emit(row, row + 1, out);
      assert.equal(Buffer.compare(Buffer.from(memory.buffer, out, end - out), Buffer.from(`${compact(text)}\n`)), 0);
    }
  });

  test("the memory is used again for a page that fits, and replaced for one that does not", () => {
    const own = new OwnMemory();
    const first = own.read(bundle([binary("a", 3e6)]), expected).memory;
    const second = own.read(bundle([binary("b", 2e6), binary("c", 100)]), expected);
    assert.equal(second.memory, first);
    assert.deepEqual([second.table.count, second.table.id(1)], [2, "c"]);
    const third = own.read(bundle([binary("d", 5e6)]), expected);
    assert.notEqual(third.memory, first);
    assert.deepEqual([third.table.count, third.table.id(0), third.table.plainRows(0, 1)], [1, "d", 1]);
  });

  test("there is room for the fingerprints of as many rows as a page can have", () => {
    const many = 200_000;
    const { table, memory, out } = new OwnMemory().read(bundle(Array.from({ length: many }, () => "{}")), expected);
    assert.equal(table.count, many);
    table.prints(0, many, out);
    assert.equal(
      Buffer.from(memory.buffer).toString("hex", out + (many - 1) * 16, out + many * 16),
      printer(expected.key)("").toString("hex"),
    );
    assert.equal(table.emit(0, many, out), out + 3 * many);
  });

  test("after something that is no page, the next page is read", () => {
    const own = new OwnMemory();
    assert.throws(() => own.read(Buffer.from("<html>"), expected), { kind: "syntax" });
    assert.equal(own.read(bundle([binary("a", 8)]), expected).table.count, 1);
  });
});
