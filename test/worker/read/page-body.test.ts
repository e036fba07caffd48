import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, describe, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import { SourceClient } from "../../../src/fhir/client.ts";
import { PageFailure } from "../../../src/fhir/retries.ts";
import { PageMemory } from "../../../src/worker/page-memory.ts";
import { PageReader } from "../../../src/worker/read/pages.ts";

const slot = 64 << 10;
const largest = 1 << 20;
const kinds = ["length", "chunked", "gzip", "random"] as const;
type Kind = (typeof kinds)[number];
const pages = 12;

let server: Server;
let baseURL: string;
/** by URL, how often it was asked for */
const asked = new Map<string, number>();
/** Bytes of the data of a page: some fit into a slot, the largest are nearly all that there is room for. What can
 *  hardly be packed lies there twice for a while. */
const sizeOf = (kind: Kind, chain: number, page: number) =>
  [kind === "random" ? 500 : 900, 20, 300, 62, 65, 450, 130, 480][(chain * 3 + page) % 8]! << 10;
const noise = randomBytes(largest).toString("base64");
const dataOf = (kind: Kind, size: number) =>
  kind === "random" ? noise.slice(0, size) : "QUJD".repeat(Math.ceil(size / 4));
const lineOf = (kind: Kind, chain: number, page: number) =>
  `{"resourceType":"Basic","id":"c${chain}-${page}","data":"${dataOf(kind, sizeOf(kind, chain, page))}"}`;

before(async () => {
  server = createServer((request, response) => {
    const { searchParams, pathname, search } = new URL(request.url!, "http://source");
    asked.set(search, (asked.get(search) ?? 0) + 1);
    const [kind, chain, page] = [
      searchParams.get("kind") as Kind,
      Number(searchParams.get("chain")),
      Number(searchParams.get("page")),
    ];
    const self = `${baseURL}${pathname.slice("/fhir".length)}`;
    const next = `{"relation":"next","url":"${self}?kind=${kind}&chain=${chain}&page=${page + 1}"}`;
    const link = page + 1 < pages ? next : "";
    const resource =
      pathname === "/fhir/Bomb" ? `{"resourceType":"Basic","id":"b"${" ".repeat(largest)}}` : lineOf(kind, chain, page);
    const body = Buffer.from(
      `{"resourceType":"Bundle","type":"searchset","link":[${link}],"entry":[{"resource":${resource}}]}`,
    );
    response.setHeader("content-type", "application/fhir+json");
    if (kind === "gzip" || kind === "random") response.setHeader("content-encoding", "gzip");
    if (kind === "length") response.setHeader("content-length", body.length);
    const sent = kind === "gzip" || kind === "random" ? gzipSync(body) : body;
    for (let at = 0; at < sent.length; at += 40_000) response.write(sent.subarray(at, at + 40_000));
    response.end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  baseURL = `http://127.0.0.1:${(server.address() as AddressInfo).port}/fhir`;
});
after(() => {
  server.closeAllConnections();
  server.close();
});

const sourceOf = (requests: number) =>
  new SourceClient(
    {
      baseURL,
      auth: { kind: "none" },
      count: 1,
      settleSeconds: 0,
      history: false,
      retrySeconds: 1,
      share: { requests },
    },
    "/nowhere",
    new AbortController().signal,
  );
const expected = {
  type: "Basic",
  till: "2030-01-01T00:00:00.000Z",
  key: "00112233445566778899aabbccddeeff",
  members: [],
};

describe("pages that are larger than their slots", () => {
  for (const kind of [...kinds, undefined])
    test(`of four chains share one memory, ${kind ?? "mixed"}`, async () => {
      const source = sourceOf(4);
      const memory = new PageMemory(4, 1 << 16, slot, largest);
      let held = 0;
      let most = 0;
      const runChain = async (chain: number) => {
        const own = kind ?? kinds[chain]!;
        const reader = await PageReader.open(source, memory, expected);
        let link: string | undefined = `Basic?kind=${own}&chain=${chain}&page=0`;
        for (let page = 0; link !== undefined; page++) {
          const view = await reader.read(link, { purpose: page === 0 ? "search" : "next", canAskLess: false });
          assert.ok(view.kind === "page");
          const { table, lines, prints } = view;
          const size = table.bytes.length > slot ? table.bytes.length : 0;
          held += size;
          most = Math.max(most, held);
          // Others receive their pages meanwhile.
          await pause(2);
          assert.equal(table.count, 1);
          prints.make(table, 0, 1);
          const out = Buffer.alloc(lines.room(0, 1));
          assert.equal(out.toString("latin1", 0, lines.emit(0, 1, out, 0)), `${lineOf(own, chain, page)}\n`);
          held -= size;
          link = source.next(link, table);
        }
        await reader.close();
      };
      await Promise.all([0, 1, 2, 3].map(runChain));
      assert.ok(most > largest / 3 && most <= largest, `${most} bytes at a time`);
      // All room was given back: the largest page finds it.
      memory.large.take(largest).release();
      await source.close();
    });

  test("are asked for again where there was no room, and by one request at a time, too", async () => {
    const source = sourceOf(1);
    const memory = new PageMemory(2, 1 << 16, slot, largest);
    const all = memory.large.take(largest);
    const reader = await PageReader.open(source, memory, expected);
    asked.clear();
    const link = "Basic?kind=chunked&chain=9&page=5";
    const read = reader.read(link, { purpose: "search", canAskLess: false });
    // It waits without a request under way: another one has its turn.
    while (!asked.has("?kind=chunked&chain=9&page=5")) await pause(1);
    await source.get("Basic?kind=length&chain=0&page=1", () => undefined, { purpose: "probe" });
    all.release();
    assert.equal((await read).kind, "page");
    assert.equal(asked.get("?kind=chunked&chain=9&page=5"), 2);
    await reader.close();
    memory.large.take(largest).release();
    await source.close();
  });

  for (const kind of kinds)
    test(`beyond all that there is room for: a smaller one is to be asked for, ${kind}`, async () => {
      const source = sourceOf(2);
      const memory = new PageMemory(2, 1 << 16, slot, largest);
      const reader = await PageReader.open(source, memory, expected);
      const link = `Bomb?kind=${kind}&chain=0&page=0`;
      await assert.rejects(
        reader.read(link, { purpose: "search", canAskLess: true }),
        (error) => error instanceof PageFailure && error.isTooMuch && error.status === 413,
      );
      await reader.close();
      memory.large.take(largest).release();
      await source.close();
    });
});
