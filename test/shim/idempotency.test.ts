import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { exportName, kickOffDigest, readIdempotencyKey } from "../../src/shim/idempotency.ts";

suite("the name of an export", () => {
  const zeros = (bytes: number) => new Uint8Array(bytes);
  test("is random without a key; with one it follows from client and key", () => {
    assert.equal(exportName("c", undefined, zeros), `export-${"a".repeat(26)}`);
    const made = exportName("c", "k", zeros);
    assert.match(made, /^export-[a-z2-7]{26}$/);
    assert.equal(exportName("c", "k", zeros), made);
    assert.notEqual(exportName("d", "k", zeros), made);
    assert.notEqual(exportName("c", "l", zeros), made);
    // two different pairs of client and key never give the same name
    assert.notEqual(exportName('c","k', "x", zeros), exportName("c", 'k","x', zeros));
  });
  const keys: [string | undefined, string | undefined | null][] = [
    [undefined, undefined],
    ["8e03978e-40d5-43e8-bc93-6894a57f9324", "8e03978e-40d5-43e8-bc93-6894a57f9324"],
    ['"8e03978e"', "8e03978e"],
    ["", null],
    ["a b", null],
    ["ü", null],
    ["x".repeat(256), null],
  ];
  for (const [header, key] of keys)
    test(`Idempotency-Key: ${header?.slice(0, 20)}`, () => {
      const found = readIdempotencyKey(header);
      if (key === null) assert.equal(found.kind, "malformed");
      else assert.deepEqual(found, key === undefined ? { kind: "absent" } : { kind: "key", key });
    });
  test("the digest of a request does not depend on the order of its fields", () => {
    assert.equal(
      kickOffDigest({ level: "System", types: ["A", "B"] }),
      kickOffDigest({ types: ["A", "B"], level: "System" }),
    );
    assert.notEqual(
      kickOffDigest({ level: "System", types: ["A", "B"] }),
      kickOffDigest({ level: "System", types: ["B", "A"] }),
    );
  });
});
