import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { build, wasmPath } from "../../src/scan/assembly/build.ts";
import { nothingExpected } from "../../src/scan/expected.ts";
import { OwnMemory } from "../../src/scan/own.ts";
import * as plainTwin from "../../src/scan/plain.ts";
import { hasSimd, pickScanner, tableBytes } from "../../src/scan/simd.ts";
import { reservedBytes, slack } from "../../src/scan/table.ts";
import { bundle } from "../sources/bundle.ts";
import { generate } from "../sources/generator.ts";
import type { Current } from "../sources/store.ts";
import { compact, pretty } from "../sources/text.ts";
import { compare, simd, twins } from "./oracle.ts";

const base = "https://fhir.example/r4";
const samples = generate({ seed: 7, scale: 0.1 });
const sample = (from: number, to: number, next?: string) => {
  const entries = samples
    .slice(from, to)
    .map((resource) => ({ ...resource, bytes: Buffer.from(resource.text) }) as unknown as Current);
  return bundle(
    { type: "searchset", base, self: `${base}/Patient?a=b`, next, total: samples.length, entries },
    [],
  ).toString();
};

const own = new OwnMemory();
const scanPage = (page: Uint8Array) => own.read(page).table.page();

test("scan.wasm is what its sources compile to", async () => {
  assert.equal(Buffer.compare(await build(), readFileSync(wasmPath)), 0, "run node src/scan/assembly/build.ts");
});

describe("pages as the sample server sends them:", () => {
  for (const [name, spell] of [
    ["as they are", (text: string) => text],
    ["compact", compact],
    ["pretty", pretty],
  ] as const)
    test(name, () => {
      let entries = 0;
      for (let from = 0; from < samples.length; from += 50) {
        const page = Buffer.from(spell(sample(from, from + 50, `${base}?page=${from}`)));
        for (const twin of twins) compare(twin, page);
        // a valid page is handed over only for names with escapes, which no server writes
        assert.equal(simd.table.handedOver, false);
        entries += simd.table.count;
      }
      assert.equal(entries, samples.length);
    });

  test("a page in a memory of its own answers as the twin does", () => {
    for (const text of [
      sample(0, 80),
      pretty(sample(80, 160)),
      '{"resourceType":"Bundle","\\u0065ntry":[{"resource":{"id":"a"}}]}',
    ]) {
      const page = Buffer.from(text);
      assert.deepEqual(scanPage(page), plainTwin.scanPage(page));
      assert.deepEqual(scanPage(new Uint8Array(page)), plainTwin.scanPage(page));
    }
    for (const text of ["", "<", '{"resourceType":"Patient"}', sample(0, 9).slice(0, -9)]) {
      const page = Buffer.from(text);
      const messageOf = (scan: typeof scanPage) => {
        try {
          return scan(page);
        } catch (error) {
          return String(error);
        }
      };
      assert.equal(messageOf(scanPage), messageOf(plainTwin.scanPage));
    }
  });

  test("a resource of 20 MB, compact and pretty", () => {
    const data = Buffer.from(samples.map(({ text }) => text).join()).toString("base64");
    const big = `{"resourceType":"Binary","id":"big","meta":{"lastUpdated":"2020"},"contentType":"a/b","data":"${data.repeat(Math.ceil(20e6 / data.length))}"}`;
    const list = `{"resourceType":"List","id":"long","entry":[${Array.from({ length: 200_000 }, (_, n) => `{"item":{"reference":"Patient/${n}","display":"{\\"[${n}"}}`).join()}]}`;
    const text = `{"resourceType":"Bundle","entry":[{"resource":${big}},{"resource":${list}},{"resource":${pretty(list)}}]}`;
    const page = Buffer.from(text);
    const found = scanPage(page);
    assert.deepEqual(
      found.entries.map(({ type, id, compact, start, end }) => [type, id, compact, end - start]),
      [
        ["Binary", "big", true, big.length],
        ["List", "long", true, list.length],
        ["List", "long", false, pretty(list).length],
      ],
    );
    assert.deepEqual(found, plainTwin.scanPage(page));
  });
});

describe("the SIMD scanner in one memory:", () => {
  const pageBytes = 65_536;
  const room = tableBytes(pageBytes);
  const at = reservedBytes + 2 * room + slack;
  const memory = new WebAssembly.Memory({ initial: 8, maximum: 8 });
  const bytes = Buffer.from(memory.buffer);
  const scanner = pickScanner(memory);
  const [one, other] = [scanner.table(reservedBytes, pageBytes), scanner.table(reservedBytes + room, pageBytes)];
  const put = (text: string, offset: number) => {
    bytes.write(text, offset);
    return Buffer.byteLength(text);
  };

  test("two tables do not touch each other, and rows can be emitted in any order", () => {
    const out = at + 2 * (pageBytes + slack);
    one.scan(at, put(sample(0, 20), at));
    other.scan(at + pageBytes + slack, put(pretty(sample(20, 50)), at + pageBytes + slack));
    assert.deepEqual([one.count, other.count], [20, 30]);
    let end = other.emit(29, 30, out);
    end = one.emit(3, 5, end);
    end = one.emit(0, 0, end);
    end = other.emit(0, 1, end);
    const expected = [49, 3, 4, 20].map((n) => `${compact(samples[n]!.text)}\n`).join("");
    assert.equal(bytes.toString("utf8", out, end), expected);
    assert.deepEqual(
      [one.id(19), one.versionId(19), one.lastUpdated(19), other.type(0)],
      [samples[19]!.id, samples[19]!.versionId, JSON.parse(samples[19]!.text).meta.lastUpdated, samples[20]!.type],
    );
  });

  test("a page with more rows than a real page has is handed over to the twin", () => {
    const many = (n: number) =>
      `{"resourceType":"Bundle","entry":[${Array.from({ length: n }, (_, id) => `{"resource":{"id":"${id}"}}`).join()}]}`;
    one.scan(at, put(many(257), at));
    assert.deepEqual([one.count, one.handedOver, one.id(256)], [257, false, "256"]);
    one.scan(at, put(many(258), at));
    assert.deepEqual([one.count, one.handedOver, one.id(257)], [258, true, "257"]);
  });

  test("a place that does not fit is a mistake of the caller", () => {
    one.scan(at, put(sample(0, 2), at));
    for (const call of [
      () => one.scan(reservedBytes, 10),
      () => one.scan(bytes.length - 100, 50),
      () => one.scan(at, pageBytes + 1),
      () => one.emit(0, 3, at + pageBytes),
      () => one.emit(-1, 1, at + pageBytes),
      () => one.emit(0, 1, bytes.length - 200),
      () => one.emit(0, 1, 0),
      () => scanner.table(0, pageBytes),
      () => scanner.table(reservedBytes + 4, pageBytes),
      () => scanner.table(bytes.length - room + 8, pageBytes),
      () => pickScanner(memory, false).table(0, 1).scan(0, 10),
    ])
      assert.throws(call, RangeError, String(call));
  });

  test("a page may end at the last byte that the memory has room for", () => {
    const text = sample(0, 3);
    const offset = bytes.length - slack - Buffer.byteLength(text);
    one.scan(offset, put(text, offset));
    assert.equal(one.count, 3);
    assert.equal(one.handedOver, false);
  });

  test("a reference at the end of such a page does not go on in the bytes behind it", () => {
    const base = `https://x/${"y".repeat(180)}/`;
    one.expect({
      type: "Observation",
      till: "2030-01-01T00:00:00.000Z",
      key: "00".repeat(16),
      members: ["subject"],
      base,
    });
    for (const target of [
      "Patient/a",
      `${base}Patient/${"x".repeat(64)}`,
      base,
      base.slice(0, 20),
      "Patient/",
      "Group/a",
    ])
      for (const behind of ["a", '"', "}", " ", base.slice(20)]) {
        const text = `{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Observation","id":"a","subject":{"reference":"${target}"}}}]}`;
        const offset = bytes.length - slack - text.length;
        put(text, offset);
        bytes.write(behind.repeat(slack), offset + text.length, slack);
        one.scan(offset, text.length);
        assert.equal(one.handedOver, false);
        const found = one.reference(0, 0);
        const id = /Patient\/(.+)$/.exec(target)?.[1];
        assert.equal(typeof found === "string" ? undefined : one.bytes.toString("latin1", found.from, found.to), id);
        one.prints(0, 1, at);
        assert.equal(one.plainRows(0, 1), 0);
      }
    one.expect(nothingExpected);
  });

  test("bytes behind a page are not read as part of it, and none beyond the memory are read", () => {
    const end = bytes.length - slack;
    const spaces = " ".repeat(100);
    const entries = `{${spaces}"fullUrl":"a","resource":{"id":"a"}},{`;
    for (const [cut, behind] of [
      ['{"resourceType":"Bundle","x":[null', ",null"],
      ['{"resourceType":"Bundle","x":{"a":null', ',"a":null'],
      ['{"resourceType":"Bundle","x":"', "x"],
      ['{"resourceType":"Bundle","x":1', "1"],
      ['{"resourceType":"Bundle",', " "],
      [`{"resourceType":"Bundle","entry":[${entries}`, " "],
    ] as const) {
      bytes.write(cut, end - cut.length);
      bytes.write(behind.repeat(slack), end, slack);
      assert.throws(() => one.scan(end - cut.length, cut.length), { kind: "truncated" }, cut);
    }
    for (const behind of [" ", "  }", "\n", "}", '"', "\0"]) {
      const text = `${sample(0, 2)}  \n`;
      put(text, end - Buffer.byteLength(text));
      bytes.write(behind.repeat(slack), end, slack);
      one.scan(end - Buffer.byteLength(text), Buffer.byteLength(text));
      assert.deepEqual([one.count, one.handedOver], [2, false]);
    }
  });

  test("the twin stands in for a machine without SIMD", () => {
    assert.equal(hasSimd(), true);
    assert.deepEqual([pickScanner(memory).kind, pickScanner(memory, false).kind], ["simd", "plain"]);
  });
});
