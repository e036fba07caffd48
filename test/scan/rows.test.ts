import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Expected, reservedBytes } from "../../src/scan/table.ts";
import { pretty } from "../sources/text.ts";
import { compare, simd, twins } from "./oracle.ts";

const till = "2024-06-15T12:34:56.789Z";
const expected: Expected = { type: "Observation", till, key: "0f".repeat(16), members: [] };
const updated = "2020-01-01T00:00:00.000Z";
const resource = ({ type = "Observation", id = "a", lastUpdated = updated }) =>
  `{"resourceType":${JSON.stringify(type)},"id":${JSON.stringify(id)},"meta":{"lastUpdated":${JSON.stringify(lastUpdated)}}}`;
const entry = (of: string, mode = '"search":{"mode":"match"},') => `{${mode}"resource":${of}}`;
const bundle = (entries: string[]) => `{"resourceType":"Bundle","entry":[${entries.join()}]}`;
const range = (length: number) => Array.from({ length }, (_, n) => n);
const ascii = range(128).map((n) => String.fromCharCode(n));

describe("rows that are plainly a match:", () => {
  const replaced = (text: string, at: number, by: string) => text.slice(0, at) + by + text.slice(at + 1);
  const cases: Record<string, [entry: string, plain: boolean][]> = {
    "search modes": [
      [entry(resource({})), true],
      [entry(resource({}), ""), true],
      [entry(resource({}), '"search":{},'), true],
      ...["include", "outcome", "other", "", "matc", "matches", "Match"].map((mode): [string, boolean] => [
        entry(resource({}), `"search":{"mode":"${mode}"},`),
        false,
      ]),
    ],
    types: ["Observation", "Observatio", "Observations", "observation", "Patient", "", "Obs\u00e9rvation"].map(
      (type) => [entry(resource({ type })), type === "Observation"],
    ),
    "no type, id or meta": [
      [entry('{"id":"a","meta":{"lastUpdated":"2020-01-01T00:00:00.000Z"}}'), false],
      [entry('{"resourceType":"Observation","meta":{"lastUpdated":"2020-01-01T00:00:00.000Z"}}'), false],
      [entry('{"resourceType":"Observation","id":"a"}'), false],
      [entry('{"resourceType":"Observation","id":"a","meta":{}}'), false],
      [entry('{"resourceType":"Observation","id":1,"meta":{"lastUpdated":2}}'), false],
    ],
    "lengths of ids": range(200).map((length) => [
      entry(resource({ id: "x".repeat(length) })),
      length >= 1 && length <= 64,
    ]),
    "every character at places of an id": [0, 1, 14, 15, 16, 17, 31, 32, 62, 63].flatMap((at) =>
      [...ascii, "\u00e9", "\u0161", "\u{1f469}"].map((by): [string, boolean] => [
        entry(resource({ id: replaced("0123456789abcdefghijklmnopqrstuvwxyz.-ABCDEFGHIJKLMNOPQRSTUVWXYZ", at, by) })),
        /^[A-Za-z0-9.-]$/.test(by),
      ]),
    ),
    "every character at the end of an id": ascii.map((by) => [
      entry(resource({ id: `x${by}` })),
      /^[A-Za-z0-9.-]$/.test(by),
    ]),
    "every character at every place of an instant": range(24).flatMap((at) =>
      ascii.map((by): [string, boolean] => {
        const lastUpdated = replaced(till, at, by);
        return [
          entry(resource({ lastUpdated })),
          /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(lastUpdated) && lastUpdated < till,
        ];
      }),
    ),
    "instants of other forms": [
      "",
      "2020",
      "2020-01-01",
      "2020-01-01T00:00:00Z",
      "2020-01-01T00:00:00.000000Z",
      "2020-01-01T00:00:00.000+01:00",
      "2020-01-01T00:00:00.00+0",
      `${updated} `,
      ` ${updated}`,
      updated.slice(1),
    ].map((lastUpdated) => [entry(resource({ lastUpdated })), false]),
  };
  for (const { kind, read, table } of twins)
    for (const [name, list] of Object.entries(cases))
      test(`${kind}: ${name}`, () => {
        for (const page of [bundle(list.map(([text]) => text)), pretty(bundle(list.map(([text]) => text)))]) {
          read(Buffer.from(page), expected);
          assert.equal(table.count, list.length);
          assert.equal(table.handedOver, false);
          for (const [row, [text, plain]] of list.entries())
            assert.equal(table.plainRows(row, row + 1), plain ? row + 1 : row, text);
        }
      });

  test("the first row that is not plain is returned, and the end if there is none", () => {
    const page = bundle([1, 1, 0, 1, 0, 1, 1].map((plain) => entry(resource(plain ? {} : { type: "Patient" }))));
    for (const { read, table } of twins) {
      read(Buffer.from(page), expected);
      assert.deepEqual(
        [
          [0, 7],
          [0, 2],
          [2, 2],
          [2, 7],
          [3, 7],
          [5, 7],
          [7, 7],
          [5, 6],
        ].map(([from, to]) => table.plainRows(from!, to!)),
        [2, 2, 2, 2, 4, 7, 7, 6],
      );
    }
  });

  test("simd: a row that is spelled with escapes is not plain", () => {
    const page = bundle([
      entry(resource({})),
      entry(resource({}).replace("Obs", "\\u004fbs")),
      entry(resource({}).replace('"a"', '"\\u0061"')),
      entry(resource({}).replace("2020", "202\\u0030")),
      entry(resource({}), '"search":{"mode":"m\\u0061tch"},'),
    ]);
    simd.read(Buffer.from(page), expected);
    assert.deepEqual(
      [0, 1, 2, 3, 4].map((row) => simd.table.plainRows(row, row + 1) > row),
      [true, false, false, false, false],
    );
  });

  test("rows of a page that is handed over to the twin are judged, too", () => {
    const page = bundle([
      entry(resource({}).replace('"meta"', '"\\u0078":1,"meta"')),
      entry(resource({ type: "Patient" })),
      entry(resource({})),
    ]);
    for (const { read, table } of twins) {
      read(Buffer.from(bundle([entry("{}")])), expected);
      read(Buffer.from(page), expected);
      assert.deepEqual([table.plainRows(0, 3), table.plainRows(2, 3)], [1, 3]);
    }
    assert.equal(simd.table.handedOver, true);
  });

  test("a table that expects nothing has no plain row, nor members", () => {
    for (const { read, table } of twins) {
      read(Buffer.from(bundle([entry(resource({}))])), { ...expected, till: "0000-01-01T00:00:00.000Z" });
      assert.equal(table.plainRows(0, 1), 0);
      assert.equal(table.member(0, 0), undefined);
    }
  });

  test("a row older than expected is not plainly a match, whichever digit of its instant says so", () => {
    const from = "2024-05-05T05:05:05.555Z";
    const instants = range(24).flatMap((at) => [..."0123456789"].map((by) => replaced(from, at, by)));
    for (const { read, table } of twins)
      for (const lastUpdated of [...instants, from, till, "2024-06-15T12:34:56.788Z"]) {
        read(Buffer.from(bundle([entry(resource({ lastUpdated }))])), { ...expected, from });
        const is =
          /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(lastUpdated) && lastUpdated >= from && lastUpdated < till;
        assert.equal(table.plainRows(0, 1), is ? 1 : 0, lastUpdated);
      }
  });

  test("what is expected can be changed between two scans", () => {
    const page = Buffer.from(bundle([entry(resource({}).replace("}}", '},"x":1,"y":{}}'))]));
    for (const { read, table } of twins)
      for (const members of [["x"], ["y", "x"], [], ["meta", "x", "y"], ["y"]]) {
        read(page, { ...expected, members });
        assert.deepEqual(
          members.map((_, index) =>
            table.bytes.toString("utf8", table.member(0, index)!.from, table.member(0, index)!.to),
          ),
          members.map((name) => ({ x: "1", y: "{}", meta: `{"lastUpdated":"${updated}"}` })[name]),
        );
      }
  });

  test("expectations and rows that make no sense are a mistake of the caller", () => {
    const wrong: Partial<Expected>[] = [
      { type: "" },
      { type: "x".repeat(65) },
      { type: "Obs\u00e9rvation" },
      { till: "2020" },
      { till: `${till} ` },
      { from: "2020-01-01" },
      { key: "00" },
      { members: Array.from({ length: 17 }, (_, n) => `a${n}`) },
      { members: ["x".repeat(63)] },
      { members: ["\u00e9"] },
      { members: [""] },
      { members: ["X"] },
      { members: ["x", "y", "x"] },
      { members: ['a"'] },
      { base: "http://x y" },
    ];
    for (const { table, read } of twins) {
      for (const change of wrong)
        assert.throws(() => table.expect({ ...expected, ...change }), RangeError, JSON.stringify(change));
      read(Buffer.from(bundle([entry(resource({}))])), expected);
      for (const call of [
        () => table.plainRows(0, 2),
        () => table.plainRows(-1, 1),
        () => table.prints(0, 2, reservedBytes + 4096),
        () => table.prints(0, 1, 0),
        () => table.prints(0, 1, 1 << 30),
      ])
        assert.throws(call, RangeError, String(call));
    }
  });
});

describe("spans of wanted members:", () => {
  const rest = "other names than the wanted ones, and the same names inside strings and deeper";
  const values = [
    '{"a":{"b":[]}}',
    "[]",
    "[1,{}]",
    '"s"',
    '""',
    '"a\\"b"',
    "1",
    "-1.50e+3",
    "true",
    "false",
    "null",
    "{}",
    '"x\\\\"',
    '"\u00e9"',
  ];
  const list: string[] = [
    ...values.map((value) => `{"x":${value}}`),
    ...values.map((value) => `{"a":1,"x":${value},"b":2}`),
    ...values.flatMap((value) => ['{"n":"no"}', "1"].map((other) => `{"x":${value},"a":{},"x":${other}}`)),
    ...values.flatMap((value) => ['{"n":"no"}', "1"].map((other) => `{"x":${other},"x":${value}}`)),
    '{"a":{"x":"no"},"b":[{"x":"no"}],"c":"x","d":"x:","e":"\\"x\\":1","X":1,"xx":2,"x-":3,"":4}',
    '{"resourceType":"T","x":{},"id":"a","meta":{}}',
    '{"resourceType":"T","id":"a","x":1,"meta":{}}',
    '{"resourceType":"T","id":"a","x":2,"meta":{"x":"no"}}',
    '{"resourceType":"T","id":"a","meta":{},"x":3}',
    '{"resourceType":"T","id":"a","meta":{"x":[]}}',
    '{"a":"\\\\","x":{},"b":"\\n","x":"yes"}',
    '{"a":"\\\\","x":{"c":"\\\\"}}',
    '{"\\u0078":1}',
    '{"x":1,"\\u0078":{"a":2}}',
    `{"a":"${rest}","x" : { } , "b":"\\"${rest}"}`,
    `{"x":"${"v".repeat(9000)}","y":{}}`,
    `{"x":{"a":"${"v".repeat(9000)}"},"y":${"[".repeat(40)}${"]".repeat(40)}}`,
    `{"x":[${'{"a":[1]},'.repeat(3000)}1],"y":{}}`,
    `{"a":[${'{"a":[1]},'.repeat(3000)}1],"x":{}}`,
    "{}",
  ];
  for (const twin of twins)
    test(`${twin.kind}: values of all kinds, in all places`, () => {
      for (const members of [["x"], ["y", "x"], ["id", "x"], ["meta", "x", "resourceType"]]) {
        const wanted = { ...expected, members };
        for (const text of list)
          compare(twin, Buffer.from(bundle([entry(text), entry(text), entry("{}"), entry(text)])), wanted);
        for (const text of list)
          compare(twin, Buffer.from(pretty(bundle([entry(text), entry("{}"), entry(text)]))), wanted);
        compare(twin, Buffer.from(bundle(list.map((text) => entry(text)))), wanted);
      }
    });

  test("names of every length, beside names that begin or end like them", () => {
    for (const length of range(62)) {
      const name = "abcdefghij".repeat(7).slice(0, length + 1);
      const others = [
        name.slice(0, -1),
        `${name}k`,
        `${name.slice(0, -1)}X`,
        name.toUpperCase(),
        `x${name}`,
        name.slice(1),
      ].filter(Boolean);
      const members = others.map((other, n) => `${JSON.stringify(other)}:${n % 2 ? n : `{"n":${n}}`}`);
      for (const text of [members, [`"${name}":"yes"`, ...members], [...members, `"${name}":{}`]].map(
        (all) => `{${all.join()}}`,
      ))
        for (const twin of twins)
          for (const wanted of [
            [name],
            [...new Set([`${name}k`.slice(0, 62), name])],
            [...range(15).map((n) => `abcdefgh${n}`), name],
          ]) {
            compare(twin, Buffer.from(bundle([entry(text), entry(pretty(text)), entry(text)])), {
              ...expected,
              members: wanted,
            });
            assert.equal(twin.table.handedOver, false);
          }
    }
  });

  test("members at every place of a block, and around the end of a segment", () => {
    const text = '{"a":1,"x":{"b":"\\\\"},"c":"\\"","y":[{}],"x":{"d":2},"z":"x"}';
    for (const at of [...range(130), ...range(400).map((n) => 7900 + n)]) {
      const page = bundle([entry(`{"p":"${"x".repeat(at)}","q":1}`), entry(text)]);
      compare(simd, Buffer.from(page), { ...expected, members: ["x", "z", "y"] });
    }
  });

  test("a page with a member that has no value is refused as no JSON", () => {
    for (const { kindOf } of twins)
      for (const text of ['{"x":}', '{"x":,"y":{}}', '{"x":[1}', '{"x":tru}', '{"x":]}', '{"a":"\\\\","x":}'])
        assert.equal(kindOf(bundle([entry(text)]), undefined, { ...expected, members: ["x"] }), "syntax", text);
  });

  test("a page with more rows than there is room for spans is handed over to the twin, with the same result", () => {
    const members = [..."abcdefghijklmnop"];
    const rows = (many: number) =>
      Buffer.from(bundle(range(many).map((n) => entry(`{"id":"${n}","a":{"n":${n}},"p":[${n}]}`, ""))));
    for (const [many, of, handedOver] of [
      [682, 16, false],
      [683, 16, true],
      [2731, 4, false],
      [2732, 4, true],
    ] as const) {
      compare(simd, rows(many), { ...expected, members: members.slice(-of) });
      assert.equal(simd.table.handedOver, handedOver, `${many} rows`);
    }
  });
});
