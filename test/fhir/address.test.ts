import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { type Address, addresses } from "../../src/fhir/address.ts";
import { propertyRuns } from "../tools/sample.ts";

const parts = ({ href, origin, host, pathname, search }: Address) => ({ href, origin, host, pathname, search });

/** The result for a link, or its error, as if every link were parsed. */
function parsed(link: string, base: URL): Record<string, string> | "elsewhere" | "invalid" {
  let url: URL;
  try {
    url = new URL(link, base);
  } catch {
    return "invalid";
  }
  return url.origin === base.origin && `${url.pathname}/`.startsWith(base.pathname) ? parts(url) : "elsewhere";
}

function found(link: string, base: URL): Record<string, string> | "elsewhere" | "invalid" {
  try {
    return parts(addresses(base)(link));
  } catch (error) {
    assert.equal((error as { reason?: string }).reason, "SourceInconsistent");
    return /is no URL/.test((error as Error).message) ? "invalid" : "elsewhere";
  }
}

const bases = [
  "http://127.0.0.1:8080/fhir/",
  "https://fhir.example.org/",
  "https://user:word@example.org/a/b/",
  "http://[::1]/r4/",
];
const pieces = [
  ..."/?#%.&=:@;,|~_-+'\"<>\\^`{}[]!$*() \t\n\r\u00e9\0",
  ...[
    "..",
    "/../",
    "/./",
    "//",
    "%2e",
    "%2E%2e",
    "%2f",
    "Patient",
    "_getpages=3f",
    "0",
    "http://",
    "//other/",
    "@other/",
    ":81",
    "?a",
    "/Patient?",
  ],
];

test("a link gives the same address whether it is parsed or not", () => {
  const link = fc
    .array(fc.oneof(fc.constantFrom(...pieces), fc.string({ maxLength: 3 })), { maxLength: 8 })
    .map((list) => list.join(""));
  fc.assert(
    fc.property(fc.constantFrom(...bases), fc.boolean(), link, (text, whole, rest) => {
      const base = new URL(text);
      const all = whole ? text + rest : rest;
      assert.deepEqual(found(all, base), parsed(all, base));
    }),
    propertyRuns(50_000, 10000),
  );
});

for (const rest of [
  "Patient?_count=300&_lastUpdated=ge2020-01-01T00:00:00.000Z&_offset=600",
  "?_getpages=7c1f-11&_getpagesoffset=20&_count=20&_pretty=true&_bundletype=searchset",
  "Patient?ct=ab%2Bc%3D%3D&code=http://loinc.org|8310-5",
  "Patient/a.b-c/_history?_page=2",
  "",
])
  test(`${rest || "the base"} need not be parsed`, () => {
    const base = new URL(bases[0]!);
    const address = addresses(base)(base.href + rest);
    assert.ok(!(address instanceof URL));
    assert.deepEqual(parts(address), parts(new URL(base.href + rest)));
  });

for (const link of [
  "http://127.0.0.1:8080/other/Patient",
  "http://127.0.0.1:8080/fhir/../Patient",
  "https://127.0.0.1:8080/fhir/",
  "//elsewhere/fhir/",
  "/",
])
  test(`${link} leads elsewhere`, () => {
    assert.throws(() => addresses(new URL(bases[0]!))(link), { reason: "SourceInconsistent" });
  });

describe("a server that calls itself by another name", () => {
  const base = new URL("https://fhir.example.org/r4/");
  const patients = "https://fhir.example.org/r4/Patient?_count=5";
  const inner = "http://hapi.fhir.svc:8080/hapi/fhir";
  const cases: [name: string, link: string, page: { asked: string; self?: string }, expected: string][] = [
    ["http for https", "http://fhir.example.org/r4/Patient?p=2", { asked: patients }, "Patient?p=2"],
    ["a lost port, a lost prefix", "https://fhir.example.org/Patient?p=2", { asked: patients }, "Patient?p=2"],
    ["the inner address", `${inner}/Patient?p=2`, { asked: patients }, "Patient?p=2"],
    ["POST searches", `${inner}/Patient/_search?p=2`, { asked: patients }, "Patient/_search?p=2"],
    [
      "a link to the inner base, which the self link names",
      `${inner}?_getpages=7`,
      { asked: patients, self: `${inner}/Patient?_count=5` },
      "?_getpages=7",
    ],
    [
      "a history",
      `${inner}/Patient/_history?page=2`,
      { asked: "https://fhir.example.org/r4/Patient/_history?_count=5" },
      "Patient/_history?page=2",
    ],
    ["a query alone is of the page that names it", "?p=2", { asked: patients }, "Patient?p=2"],
    ["the path of the base, another host", "https://10.1.2.3/r4?_getpages=7", { asked: patients }, "?_getpages=7"],
  ];
  for (const [name, link, { asked, self }, expected] of cases)
    test(name, () => {
      const page = { asked: new URL(asked), self };
      const found = addresses(base, "Auto")(link, page);
      assert.equal(found.origin, base.origin);
      const below = expected.startsWith("?") ? `/r4${expected}` : `/r4/${expected}`;
      assert.equal(found.pathname + found.search, below);
      const isOwn = link.startsWith("?");
      if (!isOwn) assert.throws(() => addresses(base, "Strict")(link, page), { message: /spec\.links/ });
    });

  test("what one self link has told counts for later pages, whose self links say nothing", () => {
    const resolve = addresses(base, "Auto");
    const page = { asked: new URL(patients), self: `${inner}/Patient?_count=5` };
    assert.equal(resolve(`${inner}?_getpages=7`, page).href, "https://fhir.example.org/r4?_getpages=7");
    for (const self of [undefined, `${inner}?_getpages=7`, `${inner}/Patient/_history`]) {
      const second = { asked: new URL("https://fhir.example.org/r4?_getpages=7"), self };
      assert.equal(resolve(`${inner}?_getpages=8`, second).href, "https://fhir.example.org/r4?_getpages=8");
    }
  });

  test("nothing that a link says leads away from the base", () => {
    const links = fc.array(fc.oneof(fc.constantFrom(...pieces), fc.string({ maxLength: 3 })), { maxLength: 8 });
    const starts = [
      "",
      "https://fhir.example.org",
      "//elsewhere/r4/Patient/",
      "http://user:word@inner/Patient/",
      inner,
    ];
    fc.assert(
      fc.property(fc.constantFrom(...starts), links, fc.boolean(), (start, rest, hasSelf) => {
        const page = { asked: new URL(patients), ...(hasSelf && { self: `${inner}/Patient` }) };
        let found: Address;
        try {
          found = addresses(base, "Auto")(start + rest.join(""), page);
        } catch (error) {
          assert.equal((error as { reason?: string }).reason, "SourceInconsistent");
          return;
        }
        assert.equal(new URL(found.href).origin, base.origin);
        assert.match(`${found.pathname}/`, /^\/r4\//);
      }),
      propertyRuns(20_000, 4000),
    );
  });

  for (const link of ["http://inner/x?_getpages=7", "https://elsewhere/", "ftp://fhir.example.org/other"])
    test(`${link} says nothing of the base`, () => {
      assert.throws(() => addresses(base, "Auto")(link, { asked: new URL(patients) }), {
        reason: "SourceInconsistent",
        message: /next link leads to/,
      });
    });

  for (const link of ["http://127.0.0.1:8080:8080/fhir/Patient", "https://", "http://[/Patient"])
    test(`${link} is no URL`, () => {
      assert.throws(() => addresses(base, "Auto")(link, { asked: new URL(patients) }), {
        class: "terminal",
        reason: "SourceInconsistent",
        message: /next link is no URL.*server, or the proxy/,
      });
    });
});
