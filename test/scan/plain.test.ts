import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { type Page, ScanError } from "../../src/scan/page.ts";
import { copyResource, scanPage } from "../../src/scan/plain.ts";
import { propertyRuns } from "../tools/sample.ts";

const bytes = (text: string) => Buffer.from(text);
const lines = (page: Buffer, found: Page) =>
  found.entries.map((entry) => {
    const out = Buffer.alloc(entry.end - entry.start);
    return out.subarray(0, copyResource(page, entry, out, 0)).toString();
  });
const bundle = (resources: string[], rest = "") =>
  `{"resourceType":"Bundle"${rest},"entry":[${resources.map((resource) => `{"resource":${resource}}`).join()}]}`;
const kindOf = (text: string | Buffer) => {
  try {
    scanPage(Buffer.from(text));
  } catch (error) {
    assert(error instanceof ScanError);
    return error.kind;
  }
  return "none";
};

describe("the plain scanner reads a page as JSON.parse does:", () => {
  test("links, total, mode, id, type and lastUpdated", () => {
    const page = scanPage(
      bytes(
        '{"link":[{"relation":"self","url":"http://x/A?b=1"},{"url":"http:\\/\\/x\\u002fnext","relation":"next"}],"total":12,"type":"searchset","entry":[{"search":{"mode":"include"},"fullUrl":"x","resource":{"meta":{"versionId":"1","lastUpdated":"2020-01-01T00:00:00Z"},"id":"a1","resourceType":"Patient"}},{"fullUrl":"no resource"}],"resourceType":"Bundle"}',
      ),
    );
    assert.equal(page.self, "http://x/A?b=1");
    assert.equal(page.next, "http://x/next");
    assert.equal(page.total, 12);
    assert.deepEqual(
      page.entries.map(({ type, id, lastUpdated, mode }) => ({ type, id, lastUpdated, mode })),
      [{ type: "Patient", id: "a1", lastUpdated: "2020-01-01T00:00:00Z", mode: "include" }],
    );
  });

  test("decoys: the same keys in strings, deeper objects and contained resources", () => {
    const decoy =
      '{"resourceType":"Patient","id":"real","contained":[{"resourceType":"Bundle","id":"no","entry":[{"resource":{"id":"deep"}}]}],"text":"\\"resource\\":{\\"id\\":\\"x\\"}","link":[{"relation":"next","url":"no"}]}';
    const page = scanPage(bytes(bundle([decoy])));
    assert.deepEqual([page.entries.length, page.entries[0]?.id, page.next], [1, "real", undefined]);
  });

  test("of two members with one name the last counts, even if its key is escaped", () => {
    const page = scanPage(
      bytes('{"resourceType":"Bundle","entry":[{"resource":{"id":"a"},"\\u0072esource":{"id":"b","i\\u0064":"c"}}]}'),
    );
    assert.deepEqual(
      page.entries.map(({ id }) => id),
      ["c"],
    );
  });

  test("a byte order mark and white space around the page do not matter", () => {
    assert.equal(scanPage(bytes(`\uFEFF ${bundle(["{}"])}\r\n`)).entries.length, 1);
  });
});

describe("lines are the bytes of the source", () => {
  test("decimals, escapes, member order and characters stay; white space outside strings goes", () => {
    const resource =
      '{ "b" :\t1.50 , "a":[ 1.0E+2,0.010 ] , "s" : "a  b\\"  { \\\\", "n":"Zoë \\u00e9 \u2028 \\/ 👩" }';
    const page = bytes(bundle([resource]));
    assert.deepEqual(lines(page, scanPage(page)), [
      '{"b":1.50,"a":[1.0E+2,0.010],"s":"a  b\\"  { \\\\","n":"Zoë \\u00e9 \u2028 \\/ 👩"}',
    ]);
  });

  test("property: any JSON, compact or pretty, comes out as JSON.stringify wrote it", () => {
    fc.assert(
      fc.property(
        fc.array(fc.dictionary(fc.string({ unit: "grapheme" }), fc.jsonValue({ maxDepth: 6 }))),
        fc.constantFrom(undefined, 1, "\t", "\r\n  "),
        (resources, indent) => {
          const page = Buffer.from(
            JSON.stringify(
              { resourceType: "Bundle", entry: resources.map((resource) => ({ resource })) },
              null,
              indent,
            ),
          );
          assert.deepEqual(
            lines(page, scanPage(page)),
            resources.map((resource) => JSON.stringify(resource)),
          );
        },
      ),
      { numRuns: 500 },
    );
  });
});

describe("the plain scanner refuses what is no page:", () => {
  const good = bundle(['{"id":"a","x":[1,-2.5e3,true,null,"s"]}'], ',"total":1');
  test("a page that is cut anywhere is truncated", () => {
    for (let at = 0; at < good.length; at++) assert.equal(kindOf(good.slice(0, at)), "truncated", `cut at ${at}`);
  });

  test("property: the scanner fails where JSON.parse does", () => {
    fc.assert(
      fc.property(
        fc.nat(good.length - 1),
        fc.constantFrom(...'{}[]":,0-.eE\\tn \n\u0001x'.split("")),
        (at, replacement) => {
          const text = good.slice(0, at) + replacement + good.slice(at + 1);
          let valid = true;
          try {
            JSON.parse(text);
          } catch {
            valid = false;
          }
          const kind = kindOf(text);
          assert.equal(kind === "none" || kind === "notBundle", valid, text);
        },
      ),
      propertyRuns(3000, 600),
    );
  });

  for (const [name, text, kind] of [
    ["an OperationOutcome", '{"resourceType":"OperationOutcome"}', "notBundle"],
    ["a list", "[]", "notBundle"],
    ["two documents", `${good}{}`, "syntax"],
    ["a raw control character in a string", '{"resourceType":"Bundle","a":"\n"}', "syntax"],
    ["brackets of the wrong kind", '{"resourceType":"Bundle","a":[1}}', "syntax"],
    ["nesting without end", `{"resourceType":"Bundle","a":${"[".repeat(100_000)}`, "syntax"],
  ] as const)
    test(name, () => assert.equal(kindOf(text), kind));

  test("bytes that are not UTF-8", () => assert.equal(kindOf(Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x7d])), "syntax"));
});
