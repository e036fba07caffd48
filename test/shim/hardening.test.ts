import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { type AddressInfo, connect } from "node:net";
import { Writable } from "node:stream";
import { after, before, suite, test } from "node:test";
import {
  array,
  asyncProperty,
  assert as check,
  constantFrom,
  oneof,
  record,
  string,
  tuple,
  uint8Array,
} from "fast-check";
import { pino } from "pino";
import { headers, name, type Shim, shim, statusURL } from "./memory.ts";

let made: Shim;
let port: number;
let log = "";
before(async () => {
  const sink = new Writable({
    write(chunk, _encoding, done) {
      log += chunk;
      done();
    },
  });
  made = shim({
    settings: "limits: { exportsPerClient: 0, pollsPerMinute: 0 }",
    random: randomBytes,
    log: pino({ level: "debug" }, sink),
  });
  await made.app.listen({ host: "127.0.0.1", port: 0 });
  port = (made.app.server.address() as AddressInfo).port;
});
after(() => made?.app.close());

/** Sends bytes as they are, and gives what comes back. */
function raw(bytes: string | Uint8Array): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    let answer = "";
    socket.on("data", (chunk) => (answer += chunk));
    socket.on("error", () => resolve(answer));
    socket.on("close", () => resolve(answer));
    socket.end(bytes);
  });
}
const isOutcome = (answer: string) =>
  assert.match(answer, /content-type: application\/fhir\+json[\s\S]*"resourceType":"OperationOutcome"/i);

suite("requests that are malformed or too large", () => {
  test("bytes that are not HTTP: 400 with an OperationOutcome", async () => {
    const answer = await raw("HELLO\r\n\r\n");
    assert.match(answer, /^HTTP\/1.1 400 /);
    isOutcome(answer);
  });

  test("headers of more than 64 KiB: 431", async () => {
    const answer = await raw(`GET /$export HTTP/1.1\r\nhost: x\r\nx: ${"a".repeat(70_000)}\r\n\r\n`);
    assert.match(answer, /^HTTP\/1.1 431 /);
    isOutcome(answer);
  });

  test("a URL that is too long for the object: 414, and the text says to use POST", async () => {
    const answer = await raw(
      `GET /$export?_type=${"A".repeat(20_000)} HTTP/1.1\r\nhost: x\r\naccept: */*\r\nprefer: respond-async\r\nconnection: close\r\n\r\n`,
    );
    assert.match(answer, /^HTTP\/1.1 414 /);
    assert.match(answer, /by POST/);
  });

  test("a body of more than 1 MB: 413", async () => {
    const body = Buffer.alloc((1 << 20) + 1, 32);
    const answer = await made.app.inject({
      method: "POST",
      url: "/$export",
      headers: { ...headers, "content-type": "application/json" },
      body,
    });
    assert.equal(answer.statusCode, 413);
    assert.match(answer.body, /larger than 1 MB/);
  });

  test("a body that ends too early starts nothing", async () => {
    const count = made.store.objects.size;
    await raw(
      `POST /$export HTTP/1.1\r\nhost: x\r\naccept: */*\r\nprefer: respond-async\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{"resourceType":"Parameters"}`,
    );
    assert.equal(made.store.objects.size, count);
  });

  test("two lengths, or length and chunks (request smuggling): 400", async () => {
    const start = "POST /$export HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n";
    assert.match(await raw(`${start}content-length: 6\r\n\r\nabcde`), /^HTTP\/1.1 400 /);
    assert.match(await raw(`${start}transfer-encoding: chunked\r\n\r\n0\r\n\r\n`), /^HTTP\/1.1 400 /);
  });

  test("requests that never end, and connections on which nothing moves, have their limits", async () => {
    const { server } = made.app;
    // Node checks open requests every 30 s; the limits themselves are 60 s
    assert.deepEqual(
      [server.requestTimeout, server.headersTimeout > 0 && server.headersTimeout <= 60_000],
      [60_000, true],
    );
    assert.equal(server.timeout, 300_000);
  });
});

suite("random requests", () => {
  // most requests are such that something reads them: of 400, at least a few are accepted and many are refused with 400
  const methods = oneof(
    { arbitrary: constantFrom("GET", "POST"), weight: 3 },
    { arbitrary: constantFrom("PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"), weight: 1 },
  );
  const segments = oneof(
    string(),
    constantFrom(
      "$export",
      "%24export",
      "Patient",
      "Group",
      "..",
      "%2e%2e",
      "_operations",
      "export",
      name,
      "files",
      "_work/plan.json",
      "metadata",
      "%00",
      "%zz",
    ),
  );
  const kickOffs = constantFrom(["$export"], ["Patient", "$export"], ["Group", "g-1", "$export"]);
  const paths = oneof(
    array(segments, { maxLength: 5 }),
    { arbitrary: kickOffs, weight: 2 },
    constantFrom(["_operations", "export", name], ["metadata"]),
  );
  const queries = oneof(
    constantFrom("", "_type=Patient"),
    string(),
    constantFrom("_since=SECRET", "_typeFilter=Patient%3Fname%3DSECRET", "%", "&&=", "_type=%C0%80"),
  );
  const bodies = oneof(
    uint8Array({ maxLength: 200 }),
    constantFrom(
      Buffer.from(
        '{"resourceType":"Parameters","parameter":[{"name":"patient","valueReference":{"reference":"Patient/SECRET"}}]}',
      ),
    ),
  );

  test("every answer is a documented one, errors are OperationOutcomes, and none holds a stack or data of the request", async () => {
    const tally = new Map<number, number>();
    const known = new Set([200, 202, 400, 404, 405, 406, 413, 414, 415]);
    await check(
      asyncProperty(
        record({
          method: methods,
          path: paths,
          query: queries,
          body: bodies,
          sent: constantFrom<Record<string, string>>(headers, {}),
        }),
        async ({ method, path, query, body, sent }) => {
          const url = encodeURI(`/${path.join("/")}?${query}`.toWellFormed());
          const answer = await made.app.inject({
            method: method as "GET",
            url,
            headers: { ...sent, ...(method === "POST" && { "content-type": "application/fhir+json" }) },
            ...(method === "POST" && { body: Buffer.from(body) }),
          });
          tally.set(answer.statusCode, (tally.get(answer.statusCode) ?? 0) + 1);
          assert(known.has(answer.statusCode), `${method} ${url}: ${answer.statusCode}`);
          if (answer.statusCode >= 400 && method !== "HEAD")
            assert.equal(answer.json().resourceType, "OperationOutcome");
          assert.doesNotMatch(answer.body, /SECRET|node_modules|\.ts:\d|at Object\./);
        },
      ),
      { numRuns: 2000 },
    );
    assert(tally.get(202)! >= 3 && tally.get(400)! >= 50, JSON.stringify([...tally]));
  });

  test("random bytes do no harm", async () => {
    await check(
      asyncProperty(
        tuple(constantFrom("GET /$export HTTP/1.1\r\n", "", `GET ${statusURL}`), uint8Array({ maxLength: 300 })),
        async ([start, bytes]) => {
          await raw(Buffer.concat([Buffer.from(start), bytes]));
        },
      ),
      { numRuns: 100 },
    );
    assert.equal((await made.get("/healthz")).statusCode, 200);
  });

  test("the log holds no query and no value of a parameter", () => {
    assert(log.includes("audit"));
    assert.doesNotMatch(log, /SECRET|_since|_typeFilter/);
  });
});

suite("settings of limits", () => {
  test("unfinished exports of a client: 429 with Retry-After, until one ends", async () => {
    let number = 0;
    const { get, store } = shim({
      settings: "limits: { exportsPerClient: 2 }",
      random: (bytes) => new Uint8Array(bytes).fill(++number),
    });
    const statuses = async () => (await get("/$export", headers)).statusCode;
    assert.deepEqual([await statuses(), await statuses(), await statuses()], [202, 202, 429]);
    const refused = await get("/$export", headers);
    assert.equal(refused.headers["retry-after"], "60");
    assert.equal(refused.json().issue[0].code, "throttled");
    [...store.objects.values()][0]!.spec.cancel = true;
    assert.equal(await statuses(), 202);
  });

  test("polls: 429 with Retry-After, and never for another export", async () => {
    const { get } = shim({ settings: "limits: { pollsPerMinute: 6 }" });
    await get("/$export", headers);
    const all = [];
    for (let n = 0; n < 12; n++) all.push(await get(statusURL));
    assert.deepEqual(
      [...new Set(all.slice(0, 10).map(({ statusCode }) => statusCode)), all[10]!.statusCode],
      [202, 429],
    );
    assert.equal(all[10]!.headers["retry-after"], "10");
  });
});
