import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { type Headers, TransportError } from "../../src/fhir/http.ts";
import { AnswerParser, renderRequest } from "../../src/fhir/http1.ts";

interface Parsed {
  status?: number;
  headers?: Headers;
  body: string;
  done: boolean;
  keptMs: number;
  /** of a TransportError */
  code?: string;
}

/** Feeds an answer in parts. @param ends the connection ends after them
 *  @param passes what is expected is not written but put where it belongs */
function parse(parts: Buffer[], ends = false, passes = false): Parsed {
  const parsed: Parsed = { body: "", done: false, keptMs: 0 };
  const parser = new AnswerParser({
    head: (status, headers) => {
      assert.equal(parsed.status, undefined, "one head");
      Object.assign(parsed, { status, headers: { ...headers } });
    },
    body: (chunk) => {
      assert(parsed.status !== undefined && chunk.length > 0);
      parsed.body += chunk.toString("latin1");
    },
  });
  try {
    for (const part of parts) {
      if (passes && parser.expected > 0) {
        parsed.body += part.toString("latin1");
        parser.pass(part.length);
        continue;
      }
      // the socket's buffer is another's as soon as write returns
      const lent = Buffer.from(part);
      parser.write(lent);
      lent.fill("!");
    }
    if (ends) parser.finish();
  } catch (error) {
    if (!(error instanceof TransportError)) throw error;
    parsed.code = error.code;
  }
  return { ...parsed, done: parser.done, keptMs: parser.keptMs };
}

const bytes = (text: string) => Buffer.from(text, "latin1");
/** in one piece, byte by byte, and in two pieces cut anywhere: always the same */
function parseCut(text: string, ends = false): Parsed {
  const whole = bytes(text);
  const once = parse([whole], ends);
  const one = [...whole].map((byte) => Buffer.of(byte));
  assert.deepEqual(parse(one, ends), once, "byte by byte");
  assert.deepEqual(parse(one, ends, true), once, "what is expected, passed");
  for (let at = 0; at <= whole.length; at++)
    assert.deepEqual(parse([whole.subarray(0, at), whole.subarray(at)], ends), once, `cut at ${at}`);
  return once;
}

const ok = (head: string, body = "") => `HTTP/1.1 200 OK\r\n${head}\r\n${body}`;
const kept = Number.POSITIVE_INFINITY;

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
      const parsed = parseCut(text, ends);
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

  test("that no byte has come is known", () => {
    const parser = new AnswerParser({ head: () => {}, body: () => {} });
    assert.equal(parser.begun, false);
    parser.write(bytes("H"));
    assert.equal(parser.begun, true);
  });
});

describe("headers", () => {
  const headersOf = (fields: string) => parseCut(ok(`${fields}Content-Length: 0\r\n`)).headers;

  test("names in lower case, values without what is around them", () => {
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

  test("several of one name are an array, of three, too", () => {
    const headers = headersOf("Set-Cookie: a\r\nLink: <1>\r\nset-cookie: b\r\nSET-COOKIE: c\r\nlink: <2>\r\n");
    assert.deepEqual(headers, { "set-cookie": ["a", "b", "c"], link: ["<1>", "<2>"], "content-length": "0" });
  });

  test("names that an object has by itself", () => {
    const headers = headersOf("constructor: a\r\n__proto__: b\r\nhasOwnProperty: c\r\n")!;
    assert.deepEqual(Object.entries(headers).slice(0, 2), [
      ["constructor", "a"],
      ["__proto__", "b"],
    ]);
    assert.equal(({} as Record<string, unknown>).b, undefined);
  });

  test("64 KiB of them, and no more; interim answers count", () => {
    const filled = (length: number) => `X: ${"x".repeat(length - 5)}\r\n`;
    const rest = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".length;
    const parts = (text: string) =>
      Array.from({ length: Math.ceil(text.length / 1000) }, (_, i) => bytes(text.slice(i * 1000, i * 1000 + 1000)));
    assert.equal(parse(parts(ok(`${filled(65_536 - rest)}Content-Length: 0\r\n`))).done, true);
    assert.equal(parse(parts(ok(`${filled(65_537 - rest)}Content-Length: 0\r\n`))).code, "HTTP_HEAD_TOO_LARGE");
    assert.equal(parse(parts("x".repeat(70_000))).code, "HTTP_HEAD_TOO_LARGE", "a line without end");
    const interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(3000);
    assert.equal(parse(parts(interim)).code, "HTTP_HEAD_TOO_LARGE");
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
      assert.equal(parseCut(ok(`${fields}Content-Length: 0\r\n`)).keptMs, expected),
    );
});

describe("what is refused", () => {
  const chunked = "Transfer-Encoding: chunked\r\n";
  const cases: [name: string, text: string, code: string][] = [
    ["another protocol", "SSH-2.0-OpenSSH\r\n", "HTTP_STATUS_LINE"],
    ["HTTP/2", "HTTP/2.0 200 OK\r\n", "HTTP_STATUS_LINE"],
    ["HTTP/0.9", "<html>\r\n", "HTTP_STATUS_LINE"],
    ["a status of four digits", "HTTP/1.1 2000 OK\r\n", "HTTP_STATUS_LINE"],
    ["a status of two digits", "HTTP/1.1 20 OK\r\n", "HTTP_STATUS_LINE"],
    ["status 0", "HTTP/1.1 000 OK\r\n", "HTTP_STATUS_LINE"],
    ["two spaces before the status", "HTTP/1.1  200 OK\r\n", "HTTP_STATUS_LINE"],
    ["another case of HTTP", "http/1.1 200 OK\r\n", "HTTP_STATUS_LINE"],
    ["an empty line before it", "\r\nHTTP/1.1 200 OK\r\n", "HTTP_STATUS_LINE"],
    ["an upgrade", "HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\n\r\n", "HTTP_STATUS_LINE"],
    ["LF after the status line", "HTTP/1.1 200 OK\n", "HTTP_LINE_END"],
    ["LF after a header", ok("A: b\nContent-Length: 0\r\n"), "HTTP_LINE_END"],
    ["LF as the empty line", "HTTP/1.1 200 OK\r\nA: b\r\n\n", "HTTP_LINE_END"],
    ["a CR within a value", ok("A: b\rContent-Length: 0\r\n"), "HTTP_LINE_END"],
    ["CR CR LF", ok("A: b\r\r\n"), "HTTP_LINE_END"],
    ["CR as the end of the status line", "HTTP/1.1 200 OK\rA: b\r\n", "HTTP_LINE_END"],
    ["a folded header", ok("A: b\r\n c\r\n"), "HTTP_FOLDED_HEADER"],
    ["one folded with a tab", ok("A: b\r\n\tc: d\r\n"), "HTTP_FOLDED_HEADER"],
    ["a space before the first header", ok(" A: b\r\n"), "HTTP_FOLDED_HEADER"],
    ["a space before the colon", ok("Content-Length : 0\r\n"), "HTTP_HEADER"],
    ["a tab before the colon", ok("Content-Length\t: 0\r\n"), "HTTP_HEADER"],
    ["a space in a name", ok("Content Length: 0\r\n"), "HTTP_HEADER"],
    ["NUL in a name", ok("Content\0Length: 0\r\n"), "HTTP_CHARACTER"],
    ["NUL in a value", ok("A: b\0c\r\n"), "HTTP_CHARACTER"],
    ["DEL in a value", ok("A: b\x7fc\r\n"), "HTTP_CHARACTER"],
    ["a letter beyond ASCII in a name", ok("\xc4: b\r\n"), "HTTP_HEADER"],
    ["no name", ok(": b\r\n"), "HTTP_HEADER"],
    ["no colon", ok("Content-Length\r\n"), "HTTP_HEADER"],
    ["a length with a sign", ok("Content-Length: +5\r\n"), "HTTP_CONTENT_LENGTH"],
    ["a negative length", ok("Content-Length: -5\r\n"), "HTTP_CONTENT_LENGTH"],
    ["a length in hexadecimal", ok("Content-Length: 0x5\r\n"), "HTTP_CONTENT_LENGTH"],
    ["a length with a space", ok("Content-Length: 5 5\r\n"), "HTTP_CONTENT_LENGTH"],
    ["no length at all", ok("Content-Length:\r\n"), "HTTP_CONTENT_LENGTH"],
    ["a length that is a fraction", ok("Content-Length: 5.0\r\n"), "HTTP_CONTENT_LENGTH"],
    ["a length beyond 2^53", ok("Content-Length: 9007199254740992\r\n"), "HTTP_CONTENT_LENGTH"],
    ["two lengths", ok("Content-Length: 5\r\nContent-Length: 6\r\n"), "HTTP_CONTENT_LENGTH"],
    ["two lengths as a list", ok("Content-Length: 5, 6\r\n"), "HTTP_CONTENT_LENGTH"],
    ["a list with an empty length", ok("Content-Length: 5,\r\n"), "HTTP_CONTENT_LENGTH"],
    ["two spellings of one length", ok("Content-Length: 5, 05\r\n"), "HTTP_CONTENT_LENGTH"],
    ["a wrong length in a 204", "HTTP/1.1 204 x\r\nContent-Length: x\r\n\r\n", "HTTP_CONTENT_LENGTH"],
    ["chunked and a length", ok(`${chunked}Content-Length: 5\r\n`), "HTTP_TRANSFER_ENCODING"],
    ["a length and chunked", ok(`Content-Length: 5\r\n${chunked}`), "HTTP_TRANSFER_ENCODING"],
    ["chunked twice", ok(chunked + chunked), "HTTP_TRANSFER_ENCODING"],
    ["chunked twice in a list", ok("Transfer-Encoding: chunked, chunked\r\n"), "HTTP_TRANSFER_ENCODING"],
    ["another coding", ok("Transfer-Encoding: gzip\r\n"), "HTTP_TRANSFER_ENCODING"],
    ["another coding, then chunked", ok("Transfer-Encoding: gzip, chunked\r\n"), "HTTP_TRANSFER_ENCODING"],
    ["another coding after chunked", ok(`${chunked}Transfer-Encoding: identity\r\n`), "HTTP_TRANSFER_ENCODING"],
    ["something like chunked", ok("Transfer-Encoding: xchunked\r\n"), "HTTP_TRANSFER_ENCODING"],
    ["no coding", ok("Transfer-Encoding:\r\n"), "HTTP_TRANSFER_ENCODING"],
    ["chunked in HTTP/1.0", `HTTP/1.0 200 OK\r\n${chunked}\r\n`, "HTTP_TRANSFER_ENCODING"],
    ...[
      "",
      " 5",
      "5 ",
      "5 ;x",
      "+5",
      "-5",
      "0x5",
      "5h",
      "g",
      ";x",
      "20000000000000",
      "fffffffffffffffffffff",
      "5\0",
    ].map((size): [string, string, string] => [
      `a chunk's size "${size.replace("\0", "\\0")}"`,
      ok(chunked, `${size}\r\nhello`),
      size.includes("\0") ? "HTTP_CHARACTER" : "HTTP_CHUNK_SIZE",
    ]),
    ["LF after a chunk's size", ok(chunked, "5\nhello\r\n"), "HTTP_LINE_END"],
    ["LF in an extension", ok(chunked, "5;a\nhello\r\n"), "HTTP_LINE_END"],
    ["a CR in an extension", ok(chunked, "5;a\rb\r\nhello\r\n"), "HTTP_LINE_END"],
    ["LF after a chunk", ok(chunked, "5\r\nhello\n0\r\n\r\n"), "HTTP_LINE_END"],
    ["a chunk that is longer than its size", ok(chunked, "5\r\nhello!\r\n"), "HTTP_CHUNK_END"],
    ["a trailer without a name", ok(chunked, "0\r\nHTTP/1.1 200 OK\r\n\r\n"), "HTTP_HEADER"],
    ["LF after the trailers", ok(chunked, "0\r\na: b\r\n\n"), "HTTP_LINE_END"],
  ];
  for (const [name, text, code] of cases)
    test(name, () => {
      const parsed = parseCut(text);
      assert.equal(parsed.code, code);
      assert.equal(parsed.done, false);
    });

  test("a line of chunk extensions, and trailers, of more than 64 KiB", () => {
    const head = ok(chunked);
    assert.equal(parse([bytes(`${head}1;${"x".repeat(70_000)}\r\n`)]).code, "HTTP_HEAD_TOO_LARGE");
    const trailers = "a: b\r\n".repeat(11_000);
    assert.equal(parse([bytes(`${head}0\r\n${trailers}\r\n`)]).code, "HTTP_HEAD_TOO_LARGE");
    const many = "1;xxxxxxxxxx\r\ny\r\n".repeat(10_000);
    assert.equal(parse([bytes(`${head}${many}0\r\n\r\n`)]).done, true, "of each line, not of all");
  });

  test("errors hold nothing of the answer", () => {
    for (const text of ["SECRET\r\n", ok("SECRET\r\n"), ok("Content-Length: SECRET\r\n"), ok(chunked, "SECRET\r\n")])
      assert.throws(
        () => new AnswerParser({ head: () => {}, body: () => {} }).write(bytes(text)),
        (error: Error) =>
          error instanceof TransportError && !/SECRET/.test(`${error.message}${error.stack}${error.cause}`),
      );
  });
});

describe("by chance", () => {
  const token = fc
    .stringMatching(/^[a-z][a-z-]{0,10}$/)
    .filter((name) => !/^(content-length|transfer-encoding|connection|keep-alive)$/.test(name));
  const fields = fc.array(fc.tuple(token, fc.stringMatching(/^[!-~]{0,20}$/)), { maxLength: 5 });
  const body = fc.array(fc.uint8Array({ minLength: 1, maxLength: 50 }), { maxLength: 6 });
  const rendered = fc
    .tuple(fields, body, fc.constantFrom("length", "chunked", "end"))
    .map(([fields, body, framing]) => {
      const parts = body.map((part) => Buffer.from(part).toString("latin1"));
      const content = parts.join("");
      const lines = fields.map(([name, value]) => `${name}: ${value}\r\n`).join("");
      if (framing === "length")
        return { content, text: ok(`${lines}Content-Length: ${content.length}\r\n`, content), framing };
      if (framing === "end") return { content, text: ok(lines, content), framing };
      const chunks = parts.map((part) => `${part.length.toString(16)};x\r\n${part}\r\n`).join("");
      return { content, text: ok(`${lines}Transfer-Encoding: chunked\r\n`, `${chunks}0\r\n\r\n`), framing };
    });
  const cut = (whole: Buffer, cuts: number[]) => {
    const at = [0, ...cuts.map((cut) => cut % (whole.length + 1)).sort((a, b) => a - b), whole.length];
    return at.slice(1).map((end, i) => whole.subarray(at[i], end));
  };

  test("answers that are cut anywhere are what they are in one piece", () =>
    fc.assert(
      fc.property(rendered, fc.array(fc.nat(), { maxLength: 20 }), ({ content, text, framing }, cuts) => {
        const ends = framing === "end";
        const once = parse([bytes(text)], ends);
        assert.equal(once.body, content);
        assert.equal(once.done, true);
        assert.deepEqual(parse(cut(bytes(text), cuts), ends), once);
      }),
    ));

  test("answers in which bytes are changed are answers or TransportErrors, the same however they are cut", () =>
    fc.assert(
      fc.property(
        rendered,
        fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 }),
        fc.array(fc.nat(), { maxLength: 10 }),
        ({ text }, changes, cuts) => {
          const whole = bytes(text);
          for (const [at, byte] of changes) whole[at % whole.length] = byte;
          assert.deepEqual(parse(cut(whole, cuts), true), parse([whole], true));
        },
      ),
      { numRuns: 1000 },
    ));

  test("garbage is no answer, and takes no time", () =>
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2000 }), (garbage) => {
        const { code, done } = parse([Buffer.from(garbage)], true);
        assert(code !== undefined && !done);
      }),
    ));
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

  // the last two would be CR and LF as Latin-1
  for (const value of ["a\r\nb: c", "a\nb", "a\rb", "a\0b", "a\x7f", "a\u010db", "a\u010ab"])
    test(`no header ${JSON.stringify(value)}`, () =>
      assert.throws(
        () => renderRequest({ ...get, headers: { x: value } }),
        (error: Error) => error instanceof TransportError && error.code === "HTTP_REQUEST",
      ));

  test("no name that is none, no path with a line end", () => {
    for (const name of ["", "a b", "a:", "a\r\nb"])
      assert.throws(() => renderRequest({ ...get, headers: { [name]: "x" } }), { code: "HTTP_REQUEST" });
    const url = { pathname: "/a\r\nb: c", search: "", host: "example.org" } as URL;
    assert.throws(() => renderRequest({ ...get, url, headers: {} }), { code: "HTTP_REQUEST" });
  });
});
