import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { TransportError } from "../../src/fhir/http.ts";
import { AnswerParser } from "../../src/fhir/http1.ts";
import { bytes, ok, parseAnswer, parseHoweverCut } from "./parsed.ts";

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
      const parsed = parseHoweverCut(text);
      assert.equal(parsed.code, code);
      assert.equal(parsed.done, false);
    });

  test("a line of chunk extensions, and trailers, of more than 64 KiB", () => {
    const head = ok(chunked);
    assert.equal(parseAnswer([bytes(`${head}1;${"x".repeat(70_000)}\r\n`)]).code, "HTTP_HEAD_TOO_LARGE");
    const trailers = "a: b\r\n".repeat(11_000);
    assert.equal(parseAnswer([bytes(`${head}0\r\n${trailers}\r\n`)]).code, "HTTP_HEAD_TOO_LARGE");
    const many = "1;xxxxxxxxxx\r\ny\r\n".repeat(10_000);
    assert.equal(parseAnswer([bytes(`${head}${many}0\r\n\r\n`)]).done, true, "of each line, not of all");
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

  test("an answer that is cut anywhere gives the same as in one piece", () =>
    fc.assert(
      fc.property(rendered, fc.array(fc.nat(), { maxLength: 20 }), ({ content, text, framing }, cuts) => {
        const ends = framing === "end";
        const once = parseAnswer([bytes(text)], ends);
        assert.equal(once.body, content);
        assert.equal(once.done, true);
        assert.deepEqual(parseAnswer(cut(bytes(text), cuts), ends), once);
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
          assert.deepEqual(parseAnswer(cut(whole, cuts), true), parseAnswer([whole], true));
        },
      ),
      { numRuns: 1000 },
    ));

  test("garbage is an error, found quickly", () =>
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2000 }), (garbage) => {
        const { code, done } = parseAnswer([Buffer.from(garbage)], true);
        assert(code !== undefined && !done);
      }),
    ));
});
