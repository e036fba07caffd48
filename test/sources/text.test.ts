import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { compact, members, pretty, raw, stamp, subset, write } from "./text.ts";

suite("JSON text", () => {
  test("raw tokens are written as given", () => {
    assert.equal(
      write({ a: raw("1.50"), b: [raw("1.0E+2")], c: undefined, d: raw('"\\u00e9\\/"') }),
      '{"a":1.50,"b":[1.0E+2],"d":"\\u00e9\\/"}',
    );
  });

  test("pretty and compact change white space only", () => {
    const text = write({ a: [], b: {}, c: [raw("1.50"), 'blank "{ } \\" inside'], d: { e: null } });
    assert.notEqual(pretty(text), text);
    assert.ok(pretty(text).includes("\n  "));
    assert.equal(compact(pretty(text)), text);
    assert.deepEqual(JSON.parse(pretty(text)), JSON.parse(text));
  });

  test("members gives the spans of names and values", () => {
    const text = '{ "a" : {"x":"}"} , "b\\"": [1, "]"],"c":1.50}';
    assert.deepEqual(
      members(text).map(({ name, start, end }) => [name, text.slice(start, end)]),
      [
        ["a", '{"x":"}"}'],
        ['b"', '[1, "]"]'],
        ["c", "1.50"],
      ],
    );
  });

  const version = { versionId: "2", lastUpdated: "2026-01-01T00:00:00.000Z" };
  for (const [name, text, stamped] of [
    [
      "replaces a version",
      '{"id":"a","meta":{"versionId":"1","profile":["p"]},"v":1.50}',
      '{"id":"a","meta":{"versionId":"2","lastUpdated":"2026-01-01T00:00:00.000Z","profile":["p"]},"v":1.50}',
    ],
    [
      "adds meta",
      '{"id":"a","v":1.50}',
      '{"meta":{"versionId":"2","lastUpdated":"2026-01-01T00:00:00.000Z"},"id":"a","v":1.50}',
    ],
  ] as const)
    test(`stamp ${name} and leaves the rest`, () => assert.equal(stamp(text, version), stamped));

  test("subset keeps the elements asked for and tags the resource", () => {
    const cut = subset(
      '{"resourceType":"X","id":"a","meta":{"tag":[{"code":"t"}]},"v":1.50,"_v":{"id":"w"},"z":2}',
      new Set(["v"]),
    );
    assert.match(cut, /"v":1\.50,"_v":/);
    const parsed = JSON.parse(cut) as { meta: { tag: { code: string }[] }; z?: number };
    assert.deepEqual(
      parsed.meta.tag.map(({ code }) => code),
      ["t", "SUBSETTED"],
    );
    assert.equal(parsed.z, undefined);
  });
});
