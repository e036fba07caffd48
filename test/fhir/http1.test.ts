import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { TransportError } from "../../src/fhir/http.ts";
import { AnswerParser, renderRequest } from "../../src/fhir/http1.ts";
import { bytes, kept, ok, type Parsed, parseAnswer, parseHoweverCut } from "./parsed.ts";

describe("answers, however they are cut", () => {
  const cases: [name: string, text: string, expected: Partial<Parsed>, ends?: boolean][] = [
    ["with a length", ok("Content-Length: 5\r\n", "hello"), { status: 200, body: "hello", done: true, keptMs: kept }],
    ["of length 0", ok("Content-Length: 0\r\n"), { status: 200, body: "", done: true, keptMs: kept }],
    [
      "chunked",
      ok("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n10\r\n, this is a body\r\n0\r\n\r\n"),
      { body: "hello, this is a body", done: true, keptMs: kept },
    ],
    [
      "chunked, in capitals and with zeros",
      ok("TRANSFER-ENCODING: Chunked\r\n", "000A\r\n0123456789\r\n000\r\n\r\n"),
      { body: "0123456789" },
    ],
    [
      "chunked, with extensions and trailers",
      ok("Transfer-Encoding: chunked\r\n", '3;a=b;c="d e"\r\nabc\r\n0;last\r\nDigest: x\r\nEtag: y\r\n\r\n'),
      { body: "abc", done: true, keptMs: kept, headers: { "transfer-encoding": "chunked" } },
    ],
    ["to the end of the connection", ok("", "to the end"), { body: "to the end", done: true, keptMs: 0 }, true],
    ["to the end, which does not come", ok("", "to the"), { body: "to the", done: false, keptMs: 0 }],
    ["HTTP/1.0 to the end", "HTTP/1.0 200 OK\r\n\r\nold", { body: "old", done: true, keptMs: 0 }, true],
    ["HTTP/1.0 closes", "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nold", { body: "old", done: true, keptMs: 0 }],
    [
      "HTTP/1.0 is kept",
      "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 3\r\n\r\nold",
      { body: "old", keptMs: kept },
    ],
    ["204 has no body", "HTTP/1.1 204 No Content\r\n\r\n", { status: 204, body: "", done: true, keptMs: kept }],
    [
      "304 has no body, whatever its length says",
      "HTTP/1.1 304 x\r\nContent-Length: 5\r\n\r\n",
      { body: "", done: true, keptMs: kept },
    ],
    [
      "a 204 with a body is not followed by another answer",
      "HTTP/1.1 204 x\r\nContent-Length: 1\r\n\r\nx",
      { body: "", keptMs: 0 },
    ],
    [
      "after interim ones",
      "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
      { status: 200, headers: { "content-length": "2" }, body: "ok", done: true },
    ],
    ["without a reason", "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", { status: 200, done: true }],
    [
      "without a reason and the space before it",
      "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
      { status: 200, done: true },
    ],
    [
      "with a reason in Latin-1",
      "HTTP/1.1 404 Pas trouv\xe9\r\nContent-Length: 0\r\n\r\n",
      { status: 404, done: true },
    ],
    ["of a status beyond the known", "HTTP/1.1 799 x\r\nContent-Length: 0\r\n\r\n", { status: 799, done: true }],
    [
      "the same length twice",
      ok("Content-Length: 2\r\nContent-Length: 2\r\n", "ok"),
      { body: "ok", headers: { "content-length": "2" } },
    ],
    [
      "the same length as a list",
      ok("Content-Length: 2, 2\r\n", "ok"),
      { body: "ok", headers: { "content-length": "2" } },
    ],
    [
      "bytes behind it end the connection, not the answer",
      ok("Content-Length: 2\r\n", "okHTTP/1.1 200 OK"),
      { body: "ok", done: true, keptMs: 0 },
    ],
    [
      "bytes behind the last chunk, too",
      ok("Transfer-Encoding: chunked\r\n", "0\r\n\r\nx"),
      { body: "", done: true, keptMs: 0 },
    ],
    ["closed when it is whole", ok("Content-Length: 2\r\n", "ok"), { body: "ok", done: true, keptMs: 0 }, true],
    [
      "closed in its body",
      ok("Content-Length: 3\r\n", "ok"),
      { body: "ok", done: false, code: "CONNECTION_CLOSED" },
      true,
    ],
    [
      "closed before its last chunk",
      ok("Transfer-Encoding: chunked\r\n", "2\r\nok\r\n"),
      { body: "ok", done: false, code: "CONNECTION_CLOSED" },
      true,
    ],
    [
      "closed in its trailers",
      ok("Transfer-Encoding: chunked\r\n", "0\r\na: b\r\n"),
      { done: false, code: "CONNECTION_CLOSED" },
      true,
    ],
    ["closed in its head", "HTTP/1.1 200 OK\r\nContent-", { done: false, code: "CONNECTION_CLOSED" }, true],
    ["closed after an interim one", "HTTP/1.1 100 Continue\r\n\r\n", { done: false, code: "CONNECTION_CLOSED" }, true],
    ["closed before a byte", "", { done: false, code: "CONNECTION_CLOSED" }, true],
  ];
  for (const [name, text, expected, ends] of cases)
    test(name, () => {
      const parsed = parseHoweverCut(text, ends);
      assert.deepEqual({ ...parsed, ...expected }, parsed);
      assert.equal(parsed.code, expected.code);
    });

  test("parts of a body are not copied", () => {
    const chunks: Buffer[] = [];
    const parser = new AnswerParser({ head: () => {}, body: (chunk) => chunks.push(chunk) });
    const whole = bytes(ok("Transfer-Encoding: chunked\r\n", "2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n"));
    const own = Buffer.allocUnsafeSlow(whole.length);
    whole.copy(own);
    parser.write(own);
    assert.deepEqual(chunks.map(String), ["ab", "cde"]);
    for (const chunk of chunks) assert.equal(chunk.buffer, own.buffer);
  });

  test("the parser knows whether a byte has arrived", () => {
    const parser = new AnswerParser({ head: () => {}, body: () => {} });
    assert.equal(parser.begun, false);
    parser.write(bytes("H"));
    assert.equal(parser.begun, true);
  });
});

describe("headers", () => {
  const headersOf = (fields: string) => parseHoweverCut(ok(`${fields}Content-Length: 0\r\n`)).headers;

  test("names become lower case, and values lose the blanks around them", () => {
    const value = 'application/fhir+json; charset="utf-8"';
    assert.deepEqual(
      headersOf(`Content-TYPE: \t ${value} \t\r\nX-Empty:\r\nX-None: \t \r\nX-Colon:a:b\r\nX-Latin: \xa0\xe9\xa0\r\n`),
      {
        "content-type": value,
        "x-empty": "",
        "x-none": "",
        "x-colon": "a:b",
        "x-latin": "\xa0\xe9\xa0",
        "content-length": "0",
      },
    );
  });

  test("several headers of one name become an array", () => {
    const headers = headersOf("Set-Cookie: a\r\nLink: <1>\r\nset-cookie: b\r\nSET-COOKIE: c\r\nlink: <2>\r\n");
    assert.deepEqual(headers, { "set-cookie": ["a", "b", "c"], link: ["<1>", "<2>"], "content-length": "0" });
  });

  test("names such as __proto__ that objects have by themselves", () => {
    const headers = headersOf("constructor: a\r\n__proto__: b\r\nhasOwnProperty: c\r\n")!;
    assert.deepEqual(Object.entries(headers).slice(0, 2), [
      ["constructor", "a"],
      ["__proto__", "b"],
    ]);
    assert.equal(({} as Record<string, unknown>).b, undefined);
  });

  test("64 KiB of headers are accepted and no more, those of interim answers included", () => {
    const filled = (length: number) => `X: ${"x".repeat(length - 5)}\r\n`;
    const rest = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".length;
    const parts = (text: string) =>
      Array.from({ length: Math.ceil(text.length / 1000) }, (_, i) => bytes(text.slice(i * 1000, i * 1000 + 1000)));
    assert.equal(parseAnswer(parts(ok(`${filled(65_536 - rest)}Content-Length: 0\r\n`))).done, true);
    assert.equal(parseAnswer(parts(ok(`${filled(65_537 - rest)}Content-Length: 0\r\n`))).code, "HTTP_HEAD_TOO_LARGE");
    assert.equal(parseAnswer(parts("x".repeat(70_000))).code, "HTTP_HEAD_TOO_LARGE", "a line without end");
    const interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(3000);
    assert.equal(parseAnswer(parts(interim)).code, "HTTP_HEAD_TOO_LARGE");
  });
});

describe("how long a connection is kept", () => {
  const cases: [fields: string, keptMs: number][] = [
    ["", kept],
    ["Connection: keep-alive\r\n", kept],
    ["Connection: close\r\n", 0],
    ["Connection: CLOSE\r\n", 0],
    ["Connection: keep-alive , Close ,x\r\n", 0],
    ["Connection: x\r\nConnection: close\r\n", 0],
    ["Connection: not-close\r\n", kept],
    ["Keep-Alive: timeout=5\r\n", 4000],
    ["Keep-Alive: timeout=5, max=100\r\n", 4000],
    ["Keep-Alive: max=100,Timeout=60\r\n", 59_000],
    ["Keep-Alive: timeout=1\r\n", 0],
    ["Keep-Alive: timeout=0\r\n", 0],
    ["Keep-Alive: mytimeout=5\r\n", kept],
    ["Keep-Alive: timeout=x\r\n", kept],
    ["Connection: close\r\nKeep-Alive: timeout=5\r\n", 0],
  ];
  for (const [fields, expected] of cases)
    test(fields.trim().replace("\r\n", ", ") || "nothing said", () =>
      assert.equal(parseHoweverCut(ok(`${fields}Content-Length: 0\r\n`)).keptMs, expected),
    );
});

describe("requests", () => {
  const get = { url: new URL("https://example.org:8443/fhir/Patient?_count=1&name=%C3%A9#x"), method: "GET" as const };

  test("as they are sent", () => {
    assert.equal(
      renderRequest({ ...get, headers: { accept: "application/fhir+json", authorization: "Bearer x" } }),
      "GET /fhir/Patient?_count=1&name=%C3%A9 HTTP/1.1\r\nhost: example.org:8443\r\nconnection: keep-alive\r\naccept: application/fhir+json\r\nauthorization: Bearer x\r\n\r\n",
    );
    assert.equal(
      renderRequest({ url: new URL("http://[::1]/x"), method: "POST", headers: {}, body: "a=é" }).toString(),
      "POST /x HTTP/1.1\r\nhost: [::1]\r\nconnection: keep-alive\r\ncontent-length: 4\r\n\r\na=é",
    );
  });

  // In Latin-1 the last two would become CR and LF.
  for (const value of ["a\r\nb: c", "a\nb", "a\rb", "a\0b", "a\x7f", "a\u010db", "a\u010ab"])
    test(`no header ${JSON.stringify(value)}`, () =>
      assert.throws(
        () => renderRequest({ ...get, headers: { x: value } }),
        (error: Error) => error instanceof TransportError && error.code === "HTTP_REQUEST",
      ));

  test("a header name that is not valid, or a path with a line end, is refused", () => {
    for (const name of ["", "a b", "a:", "a\r\nb"])
      assert.throws(() => renderRequest({ ...get, headers: { [name]: "x" } }), { code: "HTTP_REQUEST" });
    const url = { pathname: "/a\r\nb: c", search: "", host: "example.org" } as URL;
    assert.throws(() => renderRequest({ ...get, url, headers: {} }), { code: "HTTP_REQUEST" });
  });
});
