import assert from "node:assert/strict";
import { test } from "node:test";
import type { Report, TypeCount } from "../../src/contracts.ts";
import { renderReport } from "../../src/worker/report.ts";

const totals = { files: 12, resources: 123_456, bytes: 123_456_789, errors: 0 };
const sealed: Report = {
  v: 1,
  uid: "0a1b2c3d-0000-0000-0000-000000000001",
  command: "seal",
  transactionTime: "2026-03-04T05:06:06.999Z",
  packages: 0,
  totals,
  manifestSHA256: "ab".repeat(32),
  exact: false,
};
/** as many types as R5 has, with names as long as they are there on average */
const names = Array.from({ length: 157 }, (_, index) => `SomeTypeOfOurs${100 + index}`);
const parsed = (report: Report) => {
  const text = renderReport(report);
  assert.ok(Buffer.byteLength(text) <= 3500, `${Buffer.byteLength(text)} bytes`);
  return JSON.parse(text) as Report;
};

test("a report that fits is whole: types that are not proven come first, then the largest", () => {
  const types: TypeCount[] = [
    { type: "Small", ...totals, resources: 1, proof: "counted" },
    { type: "Large", ...totals, proof: "counted" },
    { type: "Agreed", ...totals, resources: 2, proof: "agreed" },
    { type: "None", ...totals, resources: 0, proof: "none" },
  ];
  const { types: told, others } = parsed({ ...sealed, types });
  assert.deepEqual(told, [types[3], types[2], types[1], types[0]]);
  assert.equal(others, undefined);
});

test("where the counts of all types do not fit, the proof of each is told", () => {
  const proofs = names.map((_, index) => (index === 150 ? "none" : index === 151 ? "agreed" : "counted"));
  const types = names.map((type, index): TypeCount => ({ type, ...totals, proof: proofs[index]! }));
  for (const count of [60, 157]) {
    const some = types.slice(-count);
    const { types: told = [], others = {} } = parsed({ ...sealed, types: some });
    const found = new Map([
      ...told.map(({ type, proof }) => [type, proof] as const),
      ...Object.entries(others).flatMap(([proof, ofProof]) => ofProof.map((type) => [type, proof] as const)),
    ]);
    assert.deepEqual(
      [...found].sort(),
      some.map(({ type, proof }) => [type, proof]).sort(),
      `each of ${count} types once`,
    );
  }
});

test("a report without proofs has the largest types and names no others", () => {
  const types = names.map((type, index): TypeCount => ({ type, ...totals, expected: index }));
  const { types: told = [], others } = parsed({ ...sealed, command: "plan", types });
  assert.ok(told.length > 20);
  assert.equal(told[0]?.type, names.at(-1));
  assert.equal(others, undefined);
});

test("where even the names do not fit, as many types as fit are told, and those that are not proven first", () => {
  const types = Array.from(
    { length: 400 },
    (_, index): TypeCount => ({ type: `SomeTypeOfOurs${index}`, ...totals, proof: index === 399 ? "none" : "counted" }),
  );
  const { types: told = [], others } = parsed({ ...sealed, types });
  assert.ok(told.length > 20);
  assert.deepEqual([told[0]?.type, told[0]?.proof, others], ["SomeTypeOfOurs399", "none", undefined]);
});
