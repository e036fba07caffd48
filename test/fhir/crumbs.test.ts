import assert from "node:assert/strict";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import type { Task } from "../../src/contracts.ts";
import { SourceClient } from "../../src/fhir/client.ts";
import { probePage } from "../../src/fhir/reads.ts";
import { serveWire } from "./wire.ts";

const entries = Array.from({ length: 50 }, (_, n) => ({ resource: { resourceType: "Patient", id: `p${n}` } }));
const bundle = Buffer.from(JSON.stringify({ resourceType: "Bundle", type: "searchset", entry: entries }));

const chunked = (body: Buffer, size: number): string => {
  const chunks = Array.from({ length: Math.ceil(body.length / size) }, (_, n) =>
    body.subarray(n * size, (n + 1) * size).toString("latin1"),
  );
  return [...chunks, ""].map((chunk) => `${chunk.length.toString(16)}\r\n${chunk}\r\n`).join("");
};

/** @param pack how the server packs where gzip is asked for
 *  @returns of each request, whether gzip was asked for */
async function ask(times: number, size: number, pack: (body: Buffer) => Buffer): Promise<boolean[]> {
  const isGzip = (text: string) => /\r\naccept-encoding: gzip\r\n/.test(text);
  await using wire = await serveWire((socket: Socket, { text }) => {
    const coding = isGzip(text) ? "content-encoding: gzip\r\n" : "";
    const body = isGzip(text) ? pack(bundle) : bundle;
    const head = `HTTP/1.1 200 OK\r\ncontent-type: application/fhir+json\r\ntransfer-encoding: chunked\r\n${coding}\r\n`;
    socket.write(head + chunked(body, size), "latin1");
  });
  const source: Task["source"] = {
    baseURL: wire.url.href,
    auth: { kind: "none" },
    count: 100,
    settleSeconds: 0,
    history: true,
    retrySeconds: 30,
    share: { requests: 1 },
  };
  const client = new SourceClient(source, tmpdir(), new AbortController().signal);
  try {
    for (let n = 0; n < times; n++) {
      const answer = await probePage(client, "Patient");
      assert("page" in answer);
      assert.equal(answer.page.entries.length, entries.length);
    }
    return wire.asked.map(({ text }) => isGzip(text));
  } finally {
    await client.close();
  }
}

test("a source that sends its answers in crumbs is asked for gzip from then on", async () => {
  assert.deepEqual(await ask(3, 36, gzipSync), [false, true, true]);
});

test("other sources are not: unpacking takes longer than a fast network", async () => {
  assert.deepEqual(await ask(3, 1000, gzipSync), [false, false, false]);
});

test("what cannot be unpacked is asked for again without gzip, and all that follows, too", async () => {
  assert.deepEqual(await ask(3, 36, (body) => body), [false, true, false, false]);
});
