import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { gunzipSync, inflateRawSync } from "node:zlib";
import { array, assert as check, property, uint8Array } from "fast-check";
import { addToCRC, deflateSegment, gzipHeader, gzipTrailer } from "../../src/sink/gzip.ts";

/** A gzip file as a writer makes it. */
function pack(segments: readonly Uint8Array[]): Buffer {
  const crc = segments.reduce(addToCRC, 0);
  const bytes = segments.reduce((sum, { length }) => sum + length, 0);
  return Buffer.concat([gzipHeader, ...segments.map(deflateSegment), gzipTrailer(crc, bytes)]);
}

suite("a gzip file of segments", () => {
  test("is one member with the content of all segments", () => {
    check(
      property(array(uint8Array({ maxLength: 5000 }), { maxLength: 8 }), (segments) => {
        const packed = pack(segments);
        const content = Buffer.concat(segments);
        // gunzip checks length and CRC
        assert(gunzipSync(packed).equals(content));
        // inflateRaw stops at the end of the first member
        assert(inflateRawSync(packed.subarray(10)).equals(content));
      }),
    );
  });

  test("does not unpack with a wrong trailer", () => {
    const packed = pack([Buffer.from("abc")]);
    packed[packed.length - 5]! ^= 1;
    assert.throws(() => gunzipSync(packed), /incorrect data check|incorrect length check/);
  });
});
