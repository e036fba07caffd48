import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { earlyNext, linkHeaderNext } from "../../src/scan/early.ts";
import { compact, pretty } from "../sources/text.ts";

const link = '"link":[{"relation":"self","url":"s"},{"relation":"next","url":"http://x/n?a=b"}]';
const next = "http://x/n?a=b";
const early = (text: string) => earlyNext(Buffer.from(text));

describe("the next link in the first bytes of a page:", () => {
  const found: Record<string, [text: string, next: string | undefined]> = {
    "before the entries": [
      `{"resourceType":"Bundle","id":"a","meta":{"tag":[1,{}]},"total":3,${link},"entry":[{"resource":{"id`,
      next,
    ],
    "at the very end of the bytes": [`{"resourceType":"Bundle",${link}`, next],
    "the list of links is cut": [`{"resourceType":"Bundle",${link.slice(0, -1)}`, undefined],
    "no next": ['{"resourceType":"Bundle","link":[{"relation":"self","url":"s"}],"entry":[', undefined],
    "no link": ['{"resourceType":"Bundle","entry":[]}', undefined],
    "behind the entries": [`{"resourceType":"Bundle","entry":[],${link}}`, undefined],
    "link that is no list": ['{"resourceType":"Bundle","link":{"relation":"next","url":"no"},"entry":[', undefined],
    "a url that is no string": ['{"resourceType":"Bundle","link":[{"relation":"next","url":["no"]}]', undefined],
    "spelled with escapes": [
      '{"resourceType":"B\\u0075ndle","l\\u0069nk":[{"relation":"n\\u0065xt","url":"http:\\/\\/x\\u002fn?a=b"}],"e',
      "http://x/n?a=b",
    ],
    "a byte order mark": [`\uFEFF {"resourceType":"Bundle",${link},`, next],
    "white space everywhere": [`${pretty(`{"resourceType":"Bundle",${link},"entry":[]}`)}`, next],
    "decoys: in a string": [
      `{"resourceType":"Bundle","x":"\\",${link.replaceAll('"', '\\"')},\\"","entry":[`,
      undefined,
    ],
    "decoys: in an object": [`{"resourceType":"Bundle","x":{${link}},"entry":[`, undefined],
    "decoys: in a list": [
      `{"resourceType":"Bundle","x":[{${link}}],"links":[{"relation":"next","url":"no"}],"entry":[`,
      undefined,
    ],
    "decoys: in a string that is cut": [`{"resourceType":"Bundle","x":"{${link.replaceAll('"', '\\"')}`, undefined],
    "decoys: deeper in the link": [
      '{"resourceType":"Bundle","link":[{"extension":[{"relation":"next","url":"no"}]}],',
      undefined,
    ],
    "another resource": [`{"resourceType":"Patient",${link},`, undefined],
    "not JSON": ["<html>", undefined],
    "a list": [`[{${link}}]`, undefined],
    nothing: ["", undefined],
    "nested without end": [`{"x":${"[".repeat(60_000)}`, undefined],
  };
  for (const [name, [text, expected]] of Object.entries(found)) test(name, () => assert.equal(early(text), expected));

  test("wherever a page is cut, the link is the right one or not known", () => {
    const page = `{"resourceType":"Bundle","type":"searchset","total":12,${link},"entry":[{"resource":{"link":[{"relation":"next","url":"no"}]}}]}`;
    for (const text of [page, pretty(page)])
      for (let at = 0; at <= text.length; at++) {
        // the list of links must be whole
        const known = text.slice(0, at).includes("]");
        assert.equal(early(text.slice(0, at)), known ? next : undefined, `cut at ${at}`);
      }
  });

  test("property: whatever stands before the link, it is the one that JSON.parse finds", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.constantFrom("a", "links", "entries", "meta", "\u00e9"), fc.jsonValue({ maxDepth: 4 })), {
          maxLength: 5,
        }),
        fc.array(
          fc.record({ relation: fc.constantFrom("next", "self", "nexx"), url: fc.string({ unit: "grapheme" }) }),
        ),
        fc.boolean(),
        fc.nat(),
        (before, links, isPretty, place) => {
          const members = [
            ...before.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`),
            `"link":${JSON.stringify(links)}`,
          ];
          const text = `{${members.join()},"entry":[]}`;
          const bytes = Buffer.from(isPretty ? pretty(text) : compact(text));
          const expected = links.findLast(({ relation }) => relation === "next")?.url;
          assert.equal(earlyNext(bytes), expected);
          const cut = earlyNext(bytes.subarray(0, place % bytes.length));
          assert(cut === undefined || cut === expected);
        },
      ),
      { numRuns: 500 },
    );
  });
});

describe("the next link in a Link header:", () => {
  for (const [name, value, expected] of [
    ["none", undefined, undefined],
    ["empty", "", undefined],
    ["one", '<http://x/n?a=b>; rel="next"', "http://x/n?a=b"],
    ["a token", "<n>;rel=next", "n"],
    ["several links", '<s>; rel="self", <n>; rel="next", <l>; rel="last"', "n"],
    ["several headers", ['<s>; rel="self"', '<n>; rel="next"'], "n"],
    ["several relations", '<n>; rel="last next"', "n"],
    ["spelled in capitals", '<n>; REL="Next"', "n"],
    ["other parameters before and behind", '<n>; title="a"; rel=next; media=x', "n"],
    ["commas and semicolons in the target", '<http://x?a=b,c;rel="self",d>; rel="next"', 'http://x?a=b,c;rel="self",d'],
    ["a decoy in a quoted parameter", '<s>; title=", <no>; rel=\\"next\\", "; rel=self, <n>; rel=next', "n"],
    ["a decoy that only begins or ends like next", '<s>; rel="nextish", <t>; rel="x-next", <u>; xrel=next', undefined],
    ["a quoted pair", '<n>; rel="n\\ext"', "n"],
    ["the first rel counts", "<no>; rel=self; rel=next", undefined],
    ["a link of another resource, by its anchor", '<no>; rel=next; anchor="http://y"', undefined],
    ["parameters without a value", "<n>; x; rel=next;", "n"],
    ["white space", '  <n>  ;  rel  =  "next"  ', "n"],
    ["empty elements", ', ,<n>; rel="next",', "n"],
    ["no relation", "<no>", undefined],
    ["no target", "no; rel=next", undefined],
    ["a target without end", "<no; rel=next", undefined],
    ["a quote without end", '<no>; title="; rel=next', undefined],
    ["text behind the parameters", "<no>; rel=next x", undefined],
    ["text before the parameters", '<no> x; rel="next"', undefined],
  ] as const)
    test(name, () => assert.equal(linkHeaderNext(value as string | string[] | undefined), expected));

  test("property: a header is read as it was written", () => {
    const token = fc.stringMatching(/^[a-z]{1,8}$/);
    const quoted = fc.string().filter((text) => !/[\r\n]/.test(text));
    const links = fc.array(
      fc.record({
        target: fc.string().filter((text) => !/[>\s]/.test(text)),
        rel: fc.constantFrom("next", "self", "prev"),
        title: fc.option(quoted),
        media: fc.option(token),
        first: fc.boolean(),
      }),
    );
    fc.assert(
      fc.property(links, (list) => {
        const header = list.map(({ target, rel, title, media, first }) => {
          const others = [
            ...(title === null ? [] : [`title="${title.replace(/["\\]/g, "\\$&")}"`]),
            ...(media === null ? [] : [`media=${media}`]),
          ];
          return [`<${target}>`, ...(first ? [`rel="${rel}"`, ...others] : [...others, `rel=${rel}`])].join("; ");
        });
        const expected = list.find(({ rel }) => rel === "next")?.target;
        assert.equal(linkHeaderNext(header.join(", ")), expected);
        assert.equal(linkHeaderNext(header), expected);
      }),
      { numRuns: 500 },
    );
  });

  test("a long hostile header does not take long", () => {
    for (const text of [
      `<a>${"; a".repeat(50_000)}"`,
      `<a>; a="${"\\".repeat(100_001)}`,
      `<a>${" ".repeat(100_000)}x`,
      ",".repeat(100_000),
    ])
      assert.equal(linkHeaderNext(text), undefined);
  });
});
