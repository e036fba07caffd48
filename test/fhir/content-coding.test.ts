import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync, zstdCompressSync } from "node:zlib";
import { decoded, isPacked, withoutMark } from "../../src/fhir/content-coding.ts";

const text = Buffer.from('{"resourceType":"Bundle"}'.repeat(50));
const tooLong = () => new Error("too long");
const unpack = (coding: string | undefined, body: Buffer, most = 10_000) =>
  decoded(body, { "content-encoding": coding }, most, tooLong);

describe("what is packed is unpacked", () => {
  const cases: [coding: string | undefined, body: Buffer, isPacked: boolean][] = [
    [undefined, text, false],
    ["identity", text, false],
    ["", text, false],
    ["gzip", gzipSync(text), true],
    ["x-gzip", gzipSync(text), true],
    ["GZIP", gzipSync(text), true],
    ["deflate", deflateSync(text), true],
    ["deflate", deflateRawSync(text), true],
    ["br", brotliCompressSync(text), true],
    ["zstd", zstdCompressSync(text), true],
    ["deflate, gzip", gzipSync(deflateSync(text)), true],
    ["identity, gzip", gzipSync(text), true],
  ];
  for (const [coding, body, packed] of cases)
    test(String(coding), () => {
      assert.equal(isPacked({ "content-encoding": coding }), packed);
      assert.deepEqual(unpack(coding, body), text);
    });
});

test("the bound holds for the unpacked bytes", () => {
  const bomb = gzipSync(Buffer.alloc(1 << 20));
  assert.throws(() => unpack("gzip", bomb, 1000), /too long/);
  assert.throws(() => unpack("br", brotliCompressSync(Buffer.alloc(1 << 20)), 1000), /too long/);
});

test("what is not packed as the header says may be another one the next time", () => {
  for (const coding of ["gzip", "deflate", "br", "zstd"])
    assert.throws(() => unpack(coding, text), {
      class: "transient",
      message: new RegExp(`Content-Encoding ${coding}`),
    });
});

test("a coding that nobody knows ends the export, and the message names the header", () => {
  for (const coding of ["compress", "aes128gcm", "constructor"])
    assert.throws(() => unpack(coding, text), { class: "terminal", message: /Content-Encoding.*proxy/ });
});

test("a byte order mark is taken off", () => {
  assert.deepEqual(withoutMark(Buffer.from("\ufeff{}")), Buffer.from("{}"));
  assert.deepEqual(withoutMark(Buffer.from("{}")), Buffer.from("{}"));
});
