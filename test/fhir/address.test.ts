import assert from "node:assert/strict";
import { test } from "node:test";
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
    return (error as { reason?: string }).reason === "SourceInconsistent" ? "elsewhere" : "invalid";
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
