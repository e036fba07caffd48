import assert from "node:assert/strict";
import { test } from "node:test";
import { type Random, random } from "../sources/random.ts";
import { pretty } from "../sources/text.ts";
import { readWalks } from "../tools/sample.ts";
import { compare, parsed, plain, simd } from "./oracle.ts";

// Resources are damaged at random places, in all ways that come to mind, and both scanners must refuse exactly the
// pages that JSON.parse refuses. Most damaged resources are no JSON any more; some still are, and must come out byte
// for byte.

const { seed, whole } = readWalks();
const mutations = whole ? 1_000_000 : 40_000;

const resources = [
  '{"resourceType":"Observation","id":"a1","meta":{"versionId":"1","lastUpdated":"2020-01-01T00:00:00.000Z","profile":["x"]},"code":{"coding":[{"system":"http://loinc.org","code":"8302-2"},{"a":1}],"text":"b"},"value":12.50,"flag":true,"list":[1,-2.5e3,null,"s",{},[],[{}],{"q":false}],"note":[{"text":"a\\"\\\\b\\u00e9 é {[,:]}"}],"e":{}}',
  '{"a":[[1,2],[3,"x"],[]],"b":{"c":{"d":"e","f":[]},"g":0},"h":"i","j":-0,"k":[{"l":"m","n":"o"},{"p":"q"}]}',
  '{"id":"x","v":[true,false,null],"w":["a","b","c"],"z":{"y":"1","x":2,"u":{"t":"s"}}}',
];

/** What is put in beside single bytes: parts of JSON where they do not belong, and what other formats have. */
const pieces = [
  ...[
    ",",
    ":",
    "{",
    "}",
    "[",
    "]",
    '"',
    '""',
    '"a"',
    '"a":',
    '"a":1',
    ',"a":1',
    "1,",
    "{}",
    "[]",
    "}{",
    "][",
    ",,",
    "::",
  ],
  ...[
    "[1,]",
    '{"a"}',
    '{"a":}',
    "[:]",
    '{"a":1,}',
    '{,"a":1}',
    "[,1]",
    '["a":1]',
    '{"a","b":1}',
    '{"a":1,"b"}',
    "{1:2}",
  ],
  ...["0", "1", "-", "+", ".", "e", "E", "01", "-0", ".5 1", "1 2", "1.", ".5", "1e", "1e999", "0x1", "--1", "- 1"],
  ...["true", "null", "nul", "True", "truefalse", "NaN", "Infinity", "undefined", "'a'", "/**/", "//"],
  ...[" ", "\n", "\t", "\r", "\f", "\v", "\0", "\u00a0", "\u2028", "\ufeff", "\x7f", "_", "Y", "\\"],
  ...['"\\u12"', '"\\ud800"', '"\\x"', "\\u0061", '"\t"', '"\n"', '"\0"', "\\n"],
].map((piece) => Buffer.from(piece));

/** One change at a random place. */
function damage(bytes: Buffer, { int, pick, chance }: Random): Buffer {
  const at = int(bytes.length + 1);
  const [before, behind] = [bytes.subarray(0, at), bytes.subarray(at)];
  const few = 1 + int(chance(0.2) ? 12 : 1);
  const ways = [
    () => [before, behind.subarray(few)],
    () => [before, Buffer.from([int(256)]), behind.subarray(1)],
    () => [before, Buffer.from([int(256)]), behind],
    () => [before, pick(pieces), behind],
    () => {
      const piece = pick(pieces);
      return [before, piece, behind.subarray(piece.length)];
    },
    () => {
      const from = int(bytes.length);
      return [before, bytes.subarray(from, from + int(20)), behind];
    },
  ];
  return Buffer.concat(pick(ways)());
}

/** The resources as servers spell them: compact, with a space here and there, indented, with tabs. */
const spellings: ((text: string) => string)[] = [
  (text) => text,
  (text) => text,
  (text) => text.replaceAll(",", ", "),
  (text) => text.replaceAll(":", " : "),
  pretty,
  (text) => pretty(text).replaceAll("\n", "\r\n\t"),
];

/** Whether JSON.parse takes the page. It replaces bytes that are not UTF-8, so these are looked for apart. */
function isJSON(page: Buffer): boolean {
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(page);
    return parsed(page) !== undefined;
  } catch {
    return false;
  }
}

test(`${mutations} damaged pages: the scanners refuse what JSON.parse refuses, and nothing else`, () => {
  const r = random(seed);
  const seen = { valid: 0, own: 0, refused: 0 };
  for (let n = 0; n < mutations; n++) {
    let resource: Buffer = Buffer.from(r.pick(spellings)(r.pick(resources)));
    for (let times = r.chance(0.3) ? 1 + r.int(4) : 1; times > 0; times--) resource = damage(resource, r);
    // so that each byte comes to lie at each place of a block
    const head = `{"resourceType":"Bundle","x":"${"p".repeat(r.int(140))}","entry":[{"fullUrl":"u","resource":`;
    const behind =
      ',"search":{"mode":"match"}},{"fullUrl":"u","resource":{"id":"b","t":[1]},"search":{"mode":"match"}}]}';
    const page = Buffer.concat([Buffer.from(head), resource, Buffer.from(behind)]);
    const expected = isJSON(page);
    const about = () => `seed ${seed}, page ${n}: ${JSON.stringify(resource.toString("latin1"))}`;
    assert.equal(simd.kindOf(page) === "none", expected, about());
    if (expected) {
      seen.valid++;
      if (!simd.table.handedOver) seen.own++;
      if (n % 10 === 0) compare(simd, page);
    } else seen.refused++;
    assert.equal(plain.kindOf(page) === "none", expected, about());
  }
  assert(seen.valid > mutations / 10 && seen.refused > mutations / 2, JSON.stringify(seen));
  // Valid pages are handed over to the twin for escapes in names and for deep nesting only.
  assert(seen.own > seen.valid * 0.98, JSON.stringify(seen));
});
