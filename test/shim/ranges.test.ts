import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { assert as check, integer, property, string } from "fast-check";
import { matchesTag, type Range, rangeOf, takesGzip, takesNDJSON } from "../../src/shim/ranges.ts";

suite("Range (RFC 9110 section 14)", () => {
  const etag = '"a"';
  const cases: Record<string, { header?: string; ifRange?: string; size?: number; range: Range }> = {
    none: { range: "whole" },
    "from the start": { header: "bytes=0-9", range: { start: 0, end: 9 } },
    "to the end": { header: "bytes=90-", range: { start: 90, end: 99 } },
    "beyond the end": { header: "bytes=90-1000", range: { start: 90, end: 99 } },
    "the last": { header: "bytes=-10", range: { start: 90, end: 99 } },
    "the last, more than there is": { header: "bytes=-1000", range: { start: 0, end: 99 } },
    "in capitals, with spaces": { header: "Bytes= 1 - 2 ", range: { start: 1, end: 2 } },
    "behind the end": { header: "bytes=100-", range: "unsatisfiable" },
    "the last none": { header: "bytes=-0", range: "unsatisfiable" },
    "backwards: not a range": { header: "bytes=9-5", range: "whole" },
    several: { header: "bytes=0-1,5-6", range: "whole" },
    "another unit": { header: "lines=0-1", range: "whole" },
    junk: { header: "bytes=a-b", range: "whole" },
    "If-Range that is still so": { header: "bytes=0-9", ifRange: '"a"', range: { start: 0, end: 9 } },
    "If-Range of another": { header: "bytes=0-9", ifRange: '"b"', range: "whole" },
    "If-Range, weak": { header: "bytes=0-9", ifRange: 'W/"a"', range: "whole" },
    "If-Range by date": { header: "bytes=0-9", ifRange: "Sun, 08 Mar 2026 12:00:00 GMT", range: "whole" },
  };
  for (const [name, { header, ifRange, size = 100, range }] of Object.entries(cases))
    test(name, () => assert.deepEqual(rangeOf(header, size, etag, ifRange), range));

  test("whatever comes, a range lies within the file", () => {
    const inside = (range: Range, size: number) =>
      typeof range === "string" || (range.start >= 0 && range.start <= range.end && range.end < size);
    check(
      property(string(), integer({ min: 1, max: 100 }), (text, size) =>
        inside(rangeOf(`bytes=${text}`, size, etag, undefined), size),
      ),
    );
    check(
      property(
        integer({ min: 0, max: 200 }),
        integer({ min: 0, max: 200 }),
        integer({ min: 1, max: 100 }),
        (from, to, size) => inside(rangeOf(`bytes=${from}-${to}`, size, etag, undefined), size),
      ),
    );
  });
});

suite("negotiation", () => {
  const gzip: [string | undefined, boolean][] = [
    [undefined, false],
    ["", false],
    ["gzip", true],
    ["GZIP", true],
    ["x-gzip", true],
    ["gzip, deflate, br", true],
    ["*", true],
    ["br", false],
    ["identity", false],
    ["gzip;q=0", false],
    ["gzip;q=0, *", false],
    ["*;q=0", false],
    ["identity;q=0, gzip;q=0.1", true],
    ["gzip;q=0.5, identity", false],
    ["gzip;q=0.5, identity;q=0.4", true],
    ["gzip;q=x", false],
  ];
  for (const [header, taken] of gzip) test(`Accept-Encoding: ${header}`, () => assert.equal(takesGzip(header), taken));

  const accept: [string | undefined, boolean][] = [
    [undefined, true],
    ["", true],
    ["*/*", true],
    ["application/*", true],
    ["application/fhir+ndjson", true],
    ["Application/NDJSON;q=0.1", true],
    ["text/html, application/fhir+ndjson", true],
    ["application/octet-stream", true],
    ["application/json", false],
    ["application/fhir+ndjson;q=0", false],
  ];
  for (const [header, taken] of accept) test(`Accept: ${header}`, () => assert.equal(takesNDJSON(header), taken));

  test("entity tags", () => {
    assert.equal(matchesTag('"b", W/"a"', '"a"', true), true);
    assert.equal(matchesTag('"b", W/"a"', '"a"', false), false);
    assert.equal(matchesTag("*", '"a"', false), true);
    assert.equal(matchesTag('"b"', '"a"', true), false);
  });
});
