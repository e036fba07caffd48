import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { pretty } from "../sources/text.ts";
import { compare, expectations, plain, simd, twins } from "./oracle.ts";

const bundle = (resources: string[], rest = "") =>
  `{"resourceType":"Bundle"${rest},"entry":[${resources.map((resource) => `{"fullUrl":"http://x/A/1","resource":${resource},"search":{"mode":"match"}}`).join()}]}`;
const entry = (inside: string) => `{"resourceType":"Bundle","entry":[${inside}]}`;

const usual =
  '{"resourceType":"Patient","id":"a1","meta":{"versionId":"7","lastUpdated":"2020-01-01T00:00:00Z"},"active":true,"n":[1.50,1E+2,-0]}';
const repeat = (text: string, times: number) => text.repeat(times);

const likeOthers = (id: string, mode: string) =>
  `{"fullUrl":"http://x","resource":{"resourceType":"T","id":"${id}","meta":{"versionId":"1","lastUpdated":"2020","p":["x"]},"n":1},"search":{"mode":"${mode}"}}`;

// pages that the SIMD scanner reads itself
const pages: Record<string, string> = {
  "the usual": bundle([usual, usual]),
  "links, total and modes": `{"resourceType":"Bundle","total":12,"link":[{"relation":"self","url":"http://x/A?b=1"},{"url":"http:\\/\\/x\\u002fn","relation":"next"},{"relation":"nexx","url":"no"}],"entry":[{"resource":{},"search":{"mode":"include"}},{"search":{"mode":"outcome"},"resource":{}},{"resource":{},"search":{"mode":"other"}},{"resource":{},"search":{"mode":"é"}},{"resource":{},"search":{"score":1}},{"resource":{},"search":"match"},{"resource":{}}]}`,
  "no entries": '{"resourceType":"Bundle","entry":[]}',
  "no entry at all": '{"resourceType":"Bundle"}',
  "entries without resource": entry(
    '{"fullUrl":"x"},{},[],1,"a",null,{"resource":null},{"resource":[{"id":"no"}]},{"resource":{"id":"yes"}},{"response":{"status":"204"}}',
  ),
  "entry, link and total of other kinds":
    '{"resourceType":"Bundle","entry":{"resource":{"id":"no"}},"link":{"relation":"next","url":"no"},"total":"12"}',
  "a total that is no count": '{"resourceType":"Bundle","total":1.5}',
  "an empty resource": entry('{"resource":{}}'),
  "shuffled members": entry(
    '{"search":{"mode":"match"},"resource":{"x":{"id":"no"},"meta":{"tag":[{"lastUpdated":"no","versionId":"no"}],"lastUpdated":"2020","versionId":"3"},"id":"b","y":[{"meta":{"lastUpdated":"no"}}],"resourceType":"A"},"fullUrl":"x"}',
  ).replace("}]}", '}],"total":3,"link":[{"relation":"next","url":"n"}]}'),
  "decoys in strings, in deeper objects and in contained resources": bundle([
    '{"resourceType":"Patient","id":"real","contained":[{"resourceType":"Bundle","id":"no","meta":{"lastUpdated":"no"},"entry":[{"resource":{"id":"deep"}}]}],"text":"\\"resource\\":{\\"id\\":\\"x\\"}","link":[{"relation":"next","url":"no"}],"entry":[{"resource":{"id":"no"}}],"x":"id","y":"meta","z":"resourceType"}',
  ]),
  "names that end or begin like those that matter": bundle([
    '{"xid":"no","idx":"no","i":"no","resourceTypeX":"no","XresourceType":"no","aresourceType":"no","metal":{"lastUpdated":"no"},"ameta":{"lastUpdated":"no"}}',
    '{"meta":{"xlastUpdated":"no","lastUpdatedx":"no","versionIds":"no","aversionId":"no"},"id":"yes","ID":"no","iD":"no","Id":"no","resourcetype":"no"}',
  ]),
  "decoys outside resources": entry(
    '{"resources":{"id":"no"},"xresource":{"id":"no"},"extension":{"resource":{"id":"no"}},"searchx":{"mode":"no"},"resource":{"id":"yes"},"search":{"modes":"no","x":{"mode":"no"},"mode":"match"}}',
  ).replace(
    '"entry"',
    '"entries":[{"resource":{"id":"no"}}],"xentry":[{"resource":{"id":"no"}}],"totals":5,"links":[{"relation":"next","url":"no"}],"entry"',
  ),
  "values of the wrong kind": bundle([
    '{"resourceType":5,"id":null,"meta":"2020"}',
    '{"resourceType":{"a":"b"},"id":["x"],"meta":[{"lastUpdated":"no"}]}',
    '{"id":{"id":"no"},"meta":{"lastUpdated":{"lastUpdated":"no"},"versionId":3}}',
    '{"meta":{},"id":""}',
  ]),
  "members twice: the last counts": entry(
    '{"resource":"no","resource":{"id":"a","id":"b","meta":{"lastUpdated":"no","versionId":"no"},"meta":{"lastUpdated":"no","lastUpdated":"yes"},"resourceType":"A","resourceType":"B"},"search":{"mode":"no"},"search":{"mode":"include","mode":"match"}},{"resource":{"id":"c","id":1},"search":{"mode":"no"},"search":{}},{"resource":{"meta":{"lastUpdated":"no"},"meta":1},"search":{"mode":"no"},"search":7}',
  ),
  "members of the Bundle twice":
    '{"resourceType":"Patient","resourceType":"Bundle","total":1,"total":2,"link":[{"relation":"next","url":"no"}],"link":[{"relation":"self","url":"no","url":"s"},{"relation":"next","relation":"self"}],"entry":[{"fullUrl":"no"}],"entry":[{"resource":{"id":"yes"}}]}',
  "link and total twice, the last are no list and no number":
    '{"resourceType":"Bundle","link":[{"relation":"next","url":"no"}],"link":1,"total":1,"total":null}',
  "numbers stay as they are spelled": bundle([
    '{"id":"a","v":[1.50,0.010,1E+2,1e-7,-0.0,12345678901234567890,1.0E+2]}',
  ]),
  "numbers that JavaScript cannot hold, and minus zero": bundle(['{"v":[1e999,-1E-999,-0,-0.0,0e0,9007199254740993]}']),
  "values side by side in lists of every kind": bundle([
    '{"id":"a","v":[1,"b",true,[2,[]],{"c":[]},null,[{},{"d":1,"e":[3,"f"]}]],"g":[[[]],[{}]],"h":[{"i":[],"j":{}}]}',
  ]),
  "every escape": bundle(['{"x":{"y":"\\"\\\\\\/\\b\\f\\n\\r\\t\\u0aF9"},"id":"\\b\\f"}']),
  "every kind of value outside resources":
    '{"resourceType":"Bundle","x":[-1,0,-0.50,12E+3,1e-2,true,false,null,"",[],{},{"a":[[1]],"b":{"c":{}}}],"total":7}',
  "strings that begin like names that matter": bundle([
    '{"resourceType":"A","id":"a","meta":{"versionId":"1","lastUpdated":"2020","x":"lastUpdateds:1","y":"versionIds:1"},"v":{},"w":"metas:1","x":"resourceTypes:1","y":"ids:1","z":"id:1"}',
    '{"x":{},"metas:":{"lastUpdated":"no"},"resourceTypes:":"no","ids:":"no","meta":{"lastUpdateds:":"no","versionIds:":"no","versionId":"1"}}',
  ]),
  "escapes in values": bundle([
    '{"id":"\\u0061\\"\\\\b","resourceType":"P\\/","x":"\\\\","y":"\\\\\\"{[","meta":{"lastUpdated":"2020\\u002d01","versionId":"\\t"}}',
  ]),
  "texts that are not ASCII": bundle([
    '{"id":"Zoë","resourceType":"患者","meta":{"lastUpdated":"👩","versionId":"\uFEFF1"},"x":"\u2028"}',
  ]),
  "lone surrogates": bundle(['{"id":"\\ud800","x":"\\udc00\\ud800x","y":"\\ud83d\\ude00"}']),
  "long names and values": bundle([
    `{"${repeat("n", 70)}":1,"id":"${repeat("i", 300)}","${repeat("m", 16)}":2,"${repeat("k", 15)}":3,"x":"${repeat("v", 5000)}"}`,
  ]),
  "deep nesting": bundle([
    `{"id":"a","x":${repeat("[", 50)}${repeat("]", 50)},"y":${repeat('{"a":', 50)}1${repeat("}", 50)}}`,
  ]),
  "white space wherever it may be": ` \n{ "resourceType" :\t"Bundle" ,\r\n"total" : 3 , "link" : [ { "relation" : "next" , "url" : "n" } ] , "entry" : [ { "resource" : { "resourceType" : "A" , "id" : "b  c" , "meta" : { "lastUpdated" : "2020" , "versionId" : "1" } , "x" : [ 1 , { } , [ ] ] } , "search" : { "mode" : "match" } } ] }\n `,
  "huge runs of white space": entry(
    `{"resource":${repeat(" ", 9000)}{${repeat("\n", 9000)}"id"${repeat("\t", 70)}:${repeat("\r", 200)}"a"${repeat(" ", 9000)}}}${repeat("\n", 8192)}`,
  ),
  "a byte order mark": `\uFEFF${bundle([usual])}`,
  "no white space in one resource, some in the other": bundle([usual, usual.replace(",", " ,"), usual]),
  "white space between resources only": bundle([usual, usual]).replaceAll("},{", "} ,\n{"),
  "entries alike, and then not": entry(
    [
      ...["match", "match", "include", "include", "outcome", "match", "é", "é", "other"].map((mode, n) =>
        likeOthers(`a${n}`, mode),
      ),
      likeOthers("b", "match").replace(',"search":{"mode":"match"}', ""),
      likeOthers("c", "match").replace('"match"}', '"match"},"search":{"mode":"include"}'),
      likeOthers("d", "match").replace('"match"}', '"match","mode":"include"}'),
      likeOthers("e", "match").replace('"id"', '"ID":"no","id"'),
      likeOthers("f", "match").replace('"n":1', '"id":"g","n":1'),
      likeOthers("h", "match").replace('"n":1', '"resourceType":"B","meta":{"versionId":"2"},"n":1'),
      likeOthers("i", "match").replace('"p":', '"lastUpdated":"2021","p":'),
      likeOthers("j", "match").replace('"p":', '"versionId":"9","p":'),
      likeOthers("k", "match").replace('"p":[', '"p":[{"lastUpdated":"no","versionId":"no"},'),
      likeOthers("l", "match").replace('"versionId":"1",', ""),
      likeOthers("m", "match").replace('"meta":{', '"meta":{"lastUpdated":"no",'),
      likeOthers("n", "match").replace('"meta":', '"metas":'),
      likeOthers('o\\u0061\\"', "match"),
      likeOthers("Zoë", "match"),
      likeOthers("q", "match").replace('"fullUrl":', '"fullUrl":"no","fullUrl":'),
      likeOthers("r", "match").replace("http://x", "http://x\\\\"),
      likeOthers("s", "match").replace('"http://x"', "null"),
      likeOthers("t", "match").replace('"T"', "null"),
      likeOthers("u", "match").replace('"u"', "null"),
      likeOthers("v", "match").replace('"1"', "1"),
      ...["w", "x", "y"].map((id) => likeOthers(id, "match")),
    ].join(),
  ),
  "the same from the start, but a member of another kind first": entry(
    ["a", "b", "c"]
      .map(
        (id) =>
          `{"search":"no","resource":{"id":"${id}"},"x":"${id}"},{"x":"${id}","y":1,"resource":{"id":"${id}${id}"}}`,
      )
      .join(),
  ),
  "entries whose second member is no resource": entry(
    ["a", "b", "c"].map((id) => `{"fullUrl":"${id}","x":"${id}","resource":{"id":"${id}"}}`).join(),
  ),
  "long texts between values, alike": entry(
    ["a", "b", "c"]
      .map(
        (id) =>
          `{"fullUrl":"${id}",${repeat(" ", 200)}"resource":{"resourceType":${repeat(" ", 126)}"A","id":${repeat(" ", 123)}"${id}","meta":{}}}`,
      )
      .join(),
  ),
  "tabs and carriage returns long after line feeds": `{\n"resourceType":"Bundle",\n${repeat(" ", 20_000)}\n"entry":[{\n"resource":{\t"id"\r\n:\t"a"}}${repeat("\r\n", 9000)}]\t}`,
  "Y, y, _ and DEL in strings": bundle(['{"id":"Yy_\u007f","x":"[Y]{y}(_)\u007f"}']),
};

// pages that the SIMD scanner hands over to the twin; the same rules hold for them
const handedOver: Record<string, string> = {
  "names with escapes": entry('{"resource":{"id":"a"},"\\u0072esource":{"id":"b","i\\u0064":"c"}}'),
  "an own name with escapes": bundle([
    '{"id":"no","i\\u0064":"yes","\\u006deta":{"lastUpdated":"2020"},"\\u0072esourceType":"A"}',
  ]),
  "resources twice": entry('{"resource":{"id":"no"},"resource":{"id":"yes"}},{"resource":{"id":"no"},"resource":1}'),
  "entry twice": '{"resourceType":"Bundle","entry":[{"resource":{"id":"no"}}],"entry":[{"resource":{"id":"yes"}}]}',
  "entry twice, the last is no list": '{"resourceType":"Bundle","entry":[{"resource":{"id":"no"}}],"entry":1}',
  "a name with an escaped quote": bundle(['{"x":{},"a\\"id":"no"}', '{"x":{},"\\"id\\"":"no"}']),
  "a name with an escape in meta": bundle(['{"meta":{"lastUpdated":"no","lastUpd\\u0061ted":"yes"}}']),
  "a name with an escape in meta, behind those that are like others": entry(
    `${likeOthers("a", "match")},${likeOthers("b", "match").replace('"p":', '"\\u006castUpdated":"2021","p":')}`,
  ),
  "a name of the Bundle with escapes": `{"resourceType":"Bundle","\\u0065ntry":[{"resource":${usual}}]}`,
  "a relation with escapes": '{"resourceType":"Bundle","link":[{"relation":"n\\u0065xt","url":"yes"}]}',
  "a type with escapes": '{"resourceType":"B\\u0075ndle","total":4}',
  "nesting deeper than the scanner goes": bundle([`{"id":"a","x":${repeat("[", 70)}${repeat("]", 70)}}`]),
  "nesting outside resources": `{"resourceType":"Bundle","x":${repeat("[", 70)}${repeat("]", 70)}}`,
};

describe("both scanners read a page as JSON.parse does:", () => {
  for (const twin of twins) {
    for (const [name, page] of Object.entries({ ...pages, ...handedOver }))
      test(`${twin.kind}: ${name}`, () => {
        for (const expected of expectations) {
          compare(twin, Buffer.from(page), expected);
          compare(twin, Buffer.from(pretty(page.replace("\uFEFF", ""))), expected);
        }
      });
  }
  test("simd: the first kind of pages is never handed over to the twin, the second kind always", () => {
    for (const [expected, of] of [
      [false, pages],
      [true, handedOver],
    ] as const)
      for (const [name, page] of Object.entries(of)) {
        simd.read(Buffer.from(page));
        assert.equal(simd.table.handedOver, expected, name);
      }
  });
  test("both give the same objects", () => {
    for (const page of Object.values({ ...pages, ...handedOver }))
      assert.deepEqual(simd.read(Buffer.from(page)), plain.read(Buffer.from(page)));
  });
});

const good = bundle(
  [usual, '{"id":"a","x":[1,-2.5e3,true,false,null,"s\\n\\u00e9"],"y":{}}'],
  ',"total":10,"link":[{"relation":"next","url":"http://x"}]',
);
const bad: [name: string, page: string | Buffer, kind: string][] = [
  ["nothing", "", "truncated"],
  ["white space alone", "  \n", "truncated"],
  ["an OperationOutcome", '{"resourceType":"OperationOutcome"}', "notBundle"],
  ["a Patient", usual, "notBundle"],
  ["no type", "{}", "notBundle"],
  ["a type that is no string", '{"resourceType":["Bundle"]}', "notBundle"],
  ["a type that only begins so", '{"resourceType":"Bundles"}', "notBundle"],
  ["a list", "[]", "notBundle"],
  ["a string", '"Bundle"', "notBundle"],
  ...[
    ...[
      "NaN",
      "Infinity",
      "undefined",
      ".5",
      ".5 1",
      "0.5 1",
      "1 2",
      "01",
      "-01",
      "+1",
      "1.",
      "1.e2",
      "1e",
      "1e+",
      "0x1",
    ],
    ...[
      "-",
      "--1",
      "- 1",
      "True",
      "nul",
      "nulll",
      "truefalse",
      "true false",
      "'a'",
      "a",
      "1a",
      '"a" "b"',
      '"a"b',
      "/**/1",
    ],
    ...["[1,]", "[,1]", "[,]", "[1,,2]", "[1 2]", "[1:2]", '["a":1]', '[1,"a":1]', '[{},"a":1]', '["a":1,2]', "[:]"],
    ...['{"a"}', '{"a":}', '{"a":1,}', '{,"a":1}', '{"a":1,,"b":2}', '{"a":1 "b":2}', '{"a" 1}', '{"a"::1}', "{:1}"],
    ...['{"a","b":1}', '{"a":1,"b"}', '{"a":{},1}', '{"a":{},1,"b":2}', '{"a":{},"b"}', '{"a":1:2}', '{"a":"b":1}'],
    ...[
      "{1:2}",
      "{[]:1}",
      "{{}:1}",
      "{null}",
      "{[]}",
      "{{}}",
      '{"a":[] "b":1}',
      '{"a":[]:1}',
      '[[]"a"]',
      "[{}[]]",
      "[1[]]",
    ],
    ...[
      "[]1",
      '[]"a"',
      '"a"[]',
      "1{}",
      '{"a":1}{}',
      "\u00a01",
      "1\u00a0",
      "[1,\u00a02]",
      "\u20281",
      "\uFEFF1",
      "1\uFEFF",
    ],
    ...["\0", "1\0", "[1,\f2]", "\v1", '"\t"', '"\n"', '"\0"', '"\u001f"', '"\\x"', '"\\u12g4"', '"\\ud83"'],
  ].map((value): [string, string, string] => [
    `in a resource: ${JSON.stringify(value)}`,
    bundle([usual, `{"id":"a","x":${value}}`, usual]),
    "syntax",
  ]),
  ["nesting deeper than 256 in a resource", bundle([`{"a":${repeat("[", 3000)}${repeat("]", 3000)}}`]), "syntax"],
  ["two documents", `${good}{}`, "syntax"],
  ["a bracket too many", `${good}}`, "syntax"],
  ["something behind white space", `${good}\n\n1`, "syntax"],
  ["HTML", "<html><body>Bad Gateway</body></html>", "syntax"],
  ["a raw line feed in a string", bundle(['{"id":"a\nb"}']), "syntax"],
  ["a raw zero in a string", bundle(['{"x":{"y":"\0"}}']), "syntax"],
  ["a raw control character in a link", good.replace("http://x", "http:\u001f"), "syntax"],
  ["a control character outside strings", bundle(['{"x":\u000b1}']), "syntax"],
  ["a form feed between members", bundle(['{"x":1,\f"y":2}']), "syntax"],
  ["a zero between entries", good.replace("},{", "},\0{"), "syntax"],
  ["brackets of the wrong kind outside", '{"resourceType":"Bundle","a":[1}}', "syntax"],
  ["brackets of the wrong kind in a resource", bundle(['{"a":[1},"b":{"c":2]}']), "syntax"],
  ["brackets crossed in a resource", bundle(['{"a":[{]}}']), "syntax"],
  ["a resource closed by the wrong kind", bundle(['{"a":1]']), "syntax"],
  ["a bracket missing in a resource", bundle(['{"a":[1}']), "syntax"],
  ["an escape that JSON does not have", bundle(['{"x":{"y":"\\x"}}']), "syntax"],
  ["an escape with too few digits", bundle(['{"x":{"y":"\\u12g4"}}']), "syntax"],
  ["an escape that the string's end cuts", bundle(['{"x":{"y":"\\u12"}}']), "syntax"],
  ["a backslash outside strings", bundle(['{"x":{"y":\\1}}']), "syntax"],
  ["letters that look like brackets to the scanner", bundle(['{"x":{"y":Y}}']), "syntax"],
  ["others of these", bundle(['{"x":{"y":_}}']), "syntax"],
  ["one that closes a bracket", bundle(['{"x":[Y}']), "syntax"],
  ["one that closes another", bundle(['{"x":{y}']), "syntax"],
  ["one that opens a bracket", bundle(['{"x":_]}']), "syntax"],
  ["one that cannot be seen", bundle(['{"x":\u007f]}']), "syntax"],
  ["an escape outside strings", bundle(['{"x":{"y":\\n}}']), "syntax"],
  ["an escaped quote outside strings", bundle(['{"x":{"y":\\"a"}}']), "syntax"],
  ["a comma missing in a list", '{"resourceType":"Bundle","x":[1 23]}', "syntax"],
  ["a word that goes wrong at its end", '{"resourceType":"Bundle","x":falsy}', "syntax"],
  ["a comma missing between entries", good.replace("},{", "}{"), "syntax"],
  ["a comma too many", good.replace("}]}", "},]}"), "syntax"],
  ["a colon missing", good.replace('"total":', '"total"'), "syntax"],
  ["a name that is no string", good.replace('"total":', "total:"), "syntax"],
  ["a number that is none", good.replace("10,", "01,"), "syntax"],
  ["a word that is none", good.replace("10,", "nulL,"), "syntax"],
  ["nesting without end", `{"resourceType":"Bundle","a":${repeat("[", 100_000)}`, "syntax"],
  [
    "nesting without end in a resource",
    `{"resourceType":"Bundle","entry":[{"resource":{"a":${repeat("[", 100_000)}`,
    "syntax",
  ],
  [
    "a raw line feed in a string, in a page full of line feeds",
    `{\n"resourceType":"Bundle","x":[${repeat("\n1,", 9000)}"a\nb"]}`,
    "syntax",
  ],
  [
    "a control character, in a page full of line feeds",
    `{\n"resourceType":"Bundle","x":[${repeat("\n1,", 9000)}\u000b1]}`,
    "syntax",
  ],
  [
    "a raw tab in a string, in a page full of line feeds",
    `{\n"resourceType":"Bundle","x":[${repeat("\n1,", 9000)}"a\tb"]}`,
    "syntax",
  ],
  [
    "a bad escape, in a page full of line feeds",
    `{\n"resourceType":"Bundle","x":[${repeat("\n1,", 9000)}"a\\x"]}`,
    "syntax",
  ],
  ["a string without end", `{"resourceType":"Bundle","a":"${repeat("x", 200)}`, "truncated"],
  ["a resource without end", good.slice(0, -60), "truncated"],
  ["bytes that are not UTF-8", Buffer.from(bundle(['{"id":"\xff\xfe"}']), "latin1"), "syntax"],
  ["half a character at the end of a string", Buffer.from(bundle(['{"x":{"y":"\xc3"}}']), "latin1"), "syntax"],
  ["a surrogate in UTF-8", Buffer.from(bundle(['{"x":{"y":"\xed\xa0\x80"}}']), "latin1"), "syntax"],
];

describe("both scanners refuse what is no page:", () => {
  for (const { kind: twin, kindOf } of twins) {
    for (const [name, page, kind] of bad) test(`${twin}: ${name}`, () => assert.equal(kindOf(page), kind));
    test(`${twin}: a page that is cut anywhere is truncated`, () => {
      for (const page of [good, pretty(good)])
        for (let at = 0; at < page.length; at++) {
          assert.equal(kindOf(page.slice(0, at)), "truncated", `cut at ${at}`);
          assert.equal(kindOf(page, at), "truncated", `cut at ${at}, going on behind`);
        }
    });
  }
  test("a page after a bad one is read as if there had been no bad one", () => {
    for (const twin of twins) {
      assert.equal(twin.kindOf(good.slice(0, -1)), "truncated");
      assert.equal(twin.table.count, 0);
      compare(twin, Buffer.from(good));
      twin.kindOf("<");
      assert.deepEqual(
        [twin.table.next, twin.table.self, twin.table.total, twin.table.count],
        [undefined, undefined, undefined, 0],
      );
    }
  });
});
