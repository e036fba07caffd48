import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { rm } from "node:fs/promises";
import { request as httpRequest, type IncomingHttpHeaders } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { after, before, describe, test } from "node:test";
import { gunzipSync, gzipSync } from "node:zlib";
import Fastify, { type FastifyInstance } from "fastify";
import { type DownloadOptions, download } from "../../src/shim/download.ts";
import { sendAnswer } from "../../src/shim/route.ts";
import type { Store } from "../../src/sink/store.ts";
import { type Place, storage } from "../sink/stores.ts";
import { startTCPProxy } from "../tools/tcp-proxy.ts";
import { until } from "../tools/until.ts";

const { kinds, place, azurite } = storage();
/** Larger than the buffers of sockets, so that a client that does not read is noticed. */
const content = Buffer.from(
  Array.from({ length: 400_000 }, (_, n) => `{"resourceType":"Basic","id":"b-${n}","x":"${"y".repeat(20)}"}\n`).join(
    "",
  ),
);
const packed = gzipSync(content.subarray(0, 4_000_000));
const sha256 = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex");
const plainFile = { path: "Basic-0001-1.ndjson", sha256: sha256(content), fileSize: content.length };
const packedFile = { path: "Basic-0001-1.ndjson.gz", sha256: sha256(packed), fileSize: packed.length };

interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  body: Buffer;
}

/** Serves downloads from a store. */
async function serve(store: Store, options: Partial<DownloadOptions> = {}) {
  const ended: string[] = [];
  const app: FastifyInstance = Fastify();
  app.get("/*", async (request, reply) => {
    const item = request.url.endsWith(".gz") ? packedFile : plainFile;
    return sendAnswer(
      reply,
      await download(request.headers, store, item, {
        delivery: "Stream",
        redirectSeconds: 60,
        onEnd: (how, bytes) => ended.push(`${how} ${bytes}`),
        ...options,
      }),
    );
  });
  await app.listen({ host: "127.0.0.1", port: 0 });
  const { port } = app.server.address() as AddressInfo;
  const get = (path: string, headers: Record<string, string> = {}) =>
    new Promise<Answer>((resolve, reject) => {
      httpRequest({ host: "127.0.0.1", port, path: `/${path}`, headers }, async (answer) => {
        const chunks: Buffer[] = [];
        try {
          for await (const chunk of answer) chunks.push(chunk as Buffer);
          resolve({ status: answer.statusCode!, headers: answer.headers, body: Buffer.concat(chunks) });
        } catch (error) {
          reject(error);
        }
      })
        .on("error", reject)
        .end();
    });
  return { get, port, ended, close: () => app.close() };
}

for (const kind of kinds)
  describe(`downloads from ${kind}`, () => {
    let where: Place;
    let store: Store;
    let service: Awaited<ReturnType<typeof serve>>;
    before(async () => {
      where = await place(kind);
      store = await where.open();
      await store.prepare();
      await store.create(plainFile.path, content);
      await store.create(packedFile.path, packed);
      service = await serve(store);
    });
    after(async () => {
      await service.close();
      await store.close();
    });

    test("a whole file", async () => {
      const { status, headers, body } = await service.get(plainFile.path);
      assert.equal(status, 200);
      assert(body.equals(content));
      assert.equal(headers["content-type"], "application/fhir+ndjson");
      assert.equal(headers["content-length"], String(content.length));
      assert.equal(headers["accept-ranges"], "bytes");
      assert.equal(headers.etag, `"${plainFile.sha256}"`);
      assert.equal(headers["repr-digest"], `sha-256=:${createHash("sha256").update(content).digest("base64")}:`);
      // the client may have the last byte a moment before the service knows of the end
      assert.equal(
        await until("the end of the download", async () => service.ended.pop()),
        `complete ${content.length}`,
      );
    });

    test("ranges together make the whole file, so a broken download can continue where it broke", async () => {
      const etag = (await service.get(plainFile.path, { range: "bytes=0-0" })).headers.etag!;
      const parts: Buffer[] = [];
      for (let start = 0; start < content.length; start += 7_000_001) {
        const { status, headers, body } = await service.get(plainFile.path, {
          range: `bytes=${start}-${start + 7_000_000}`,
          "if-range": etag,
        });
        assert.equal(status, 206);
        assert.equal(
          headers["content-range"],
          `bytes ${start}-${Math.min(start + 7_000_000, content.length - 1)}/${content.length}`,
        );
        parts.push(body);
      }
      assert(Buffer.concat(parts).equals(content));
    });

    test("conditions", async () => {
      const etag = `"${plainFile.sha256}"`;
      const status = async (headers: Record<string, string>) => (await service.get(plainFile.path, headers)).status;
      assert.equal(await status({ "if-none-match": etag }), 304);
      assert.equal(await status({ "if-none-match": '"x"', range: "bytes=0-1" }), 206);
      assert.equal(await status({ "if-match": '"x"' }), 412);
      assert.equal(await status({ range: `bytes=${content.length}-` }), 416);
      assert.equal(await status({ accept: "application/json" }), 406);
    });

    test("a client that accepts gzip gets the stored bytes, and ranges of them", async () => {
      const { headers, body } = await service.get(packedFile.path, { "accept-encoding": "gzip" });
      assert.deepEqual(
        [headers["content-encoding"], headers.vary, headers["content-length"]],
        ["gzip", "accept-encoding", String(packed.length)],
      );
      assert(body.equals(packed));
      const part = await service.get(packedFile.path, { "accept-encoding": "gzip", range: "bytes=100-" });
      assert.equal(part.status, 206);
      assert(part.body.equals(packed.subarray(100)));
    });

    test("other clients get the file unpacked, with another tag and without ranges", async () => {
      const { status, headers, body } = await service.get(packedFile.path, { range: "bytes=0-9" });
      assert.deepEqual([status, headers["content-encoding"], headers["accept-ranges"]], [200, undefined, "none"]);
      assert(body.equals(gunzipSync(packed)));
      const other = await service.get(packedFile.path, { "accept-encoding": "gzip" });
      assert.notEqual(headers.etag, other.headers.etag);
    });

    test("a client that goes away ends the read from storage", async () => {
      const socket = connect(service.port, "127.0.0.1");
      socket.write(`GET /${plainFile.path} HTTP/1.1\r\nhost: x\r\n\r\n`);
      await new Promise((resolve) => socket.once("data", resolve));
      socket.pause();
      const mark = service.ended.length;
      socket.destroy();
      const how = await until("the end of the read", async () => service.ended[mark]);
      assert.match(how, /^aborted \d+$/);
      assert(Number(how.split(" ")[1]) < content.length);
    });

    test("for a client that does not read, storage is not read ahead", async () => {
      const socket = connect(service.port, "127.0.0.1");
      socket.write(`GET /${plainFile.path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`);
      await new Promise((resolve) => socket.once("readable", resolve));
      const mark = service.ended.length;
      await new Promise((resolve) => setTimeout(resolve, 500));
      assert.equal(service.ended.length, mark, "nobody has taken 20 MB");
      let bytes = 0;
      for await (const chunk of socket) bytes += (chunk as Buffer).length;
      assert(bytes > content.length);
    });

    test("a file that storage has lost is a 503, not an empty file", async () => {
      await store.create("gone", Buffer.from("x"));
      await store.remove("gone");
      const answer = await download(
        {},
        store,
        { path: "gone", sha256: "", fileSize: 1 },
        { delivery: "Stream", redirectSeconds: 60 },
      );
      assert.equal(answer.status, 503);
    });

    test("a stored file that has become shorter breaks the connection, so that it does not look whole", async () => {
      await store.create("short", Buffer.from("abc"));
      const service = await serve({ ...store, stream: () => store.stream("short") });
      await assert.rejects(service.get(plainFile.path));
      await service.close();
    });
  });

describe("a download while storage fails", () => {
  test("a file that is removed from a directory during the download still arrives whole", async () => {
    const where = await place("directory");
    const store = await where.open();
    await store.prepare();
    await store.create(plainFile.path, content);
    const { body } = (await download({}, store, plainFile, { delivery: "Stream", redirectSeconds: 60 })) as {
      body: Readable;
    };
    const chunks: Buffer[] = [];
    for await (const chunk of body) {
      if (chunks.length === 1)
        await rm(join((where.target as { volume: { path: string } }).volume.path, "out/x", plainFile.path));
      chunks.push(chunk as Buffer);
    }
    assert(Buffer.concat(chunks).equals(content));
  });

  test("the client does not notice that connections to storage break again and again", async () => {
    const where = await place("azure");
    const direct = await where.open();
    await direct.prepare();
    await direct.create(plainFile.path, content);
    const proxy = await startTCPProxy(Number(new URL(azurite().accountURL).port));
    const through = (text: string) => text.replaceAll(`:${new URL(azurite().accountURL).port}/`, `:${proxy.port}/`);
    const { writeFile } = await import("node:fs/promises");
    await writeFile(join(where.secrets, "target", "connection-string"), through(azurite().connectionString));
    const store = await where.open();
    const { body } = (await download({}, store, plainFile, { delivery: "Stream", redirectSeconds: 60 })) as {
      body: Readable;
    };
    const chunks: Buffer[] = [];
    let bytes = 0;
    let cuts = 0;
    for await (const chunk of body) {
      chunks.push(chunk as Buffer);
      bytes += (chunk as Buffer).length;
      if (bytes > (cuts + 1) * 3_000_000) {
        cuts++;
        proxy.cut();
      }
    }
    assert(cuts >= 5, `${cuts}`);
    assert(Buffer.concat(chunks).equals(content));
    await proxy.close();
  });
});

describe("redirects", () => {
  test("a signed URL gives anybody this one file, for a while", async () => {
    const where = await place("azure");
    const store = await where.open();
    await store.prepare();
    await store.create(packedFile.path, packed);
    await store.create("other", Buffer.from("x"));
    const service = await serve(store, { delivery: "Redirect" });
    const { status, headers, body } = await service.get(packedFile.path, { "accept-encoding": "gzip" });
    assert.deepEqual([status, body.length, headers["cache-control"]], [307, 0, "no-store"]);
    const url = headers.location!;
    const there = await fetch(url);
    assert.deepEqual(
      [there.status, there.headers.get("content-type"), there.headers.get("content-encoding")],
      [200, "application/fhir+ndjson", "gzip"],
    );
    assert(Buffer.from(await there.arrayBuffer()).equals(gunzipSync(packed)));
    assert.equal((await fetch(url.replace(packedFile.path, "other"))).status, 403);
    assert.equal((await fetch(url, { method: "DELETE" })).status, 403);
    assert.equal(
      (await fetch(url, { method: "PUT", body: "x", headers: { "x-ms-blob-type": "BlockBlob" } })).status,
      403,
    );
    assert.equal((await fetch(url.replace(/se=[^&]+/, "se=2099-01-01T00%3A00%3A00Z"))).status, 403);
    // a client that cannot unpack it gets it through the service
    assert.equal((await service.get(packedFile.path)).status, 200);
    const brief = await store.signedURL!(packedFile.path, 1);
    await new Promise((resolve) => setTimeout(resolve, 1500));
    assert.equal((await fetch(brief!)).status, 403);
    await service.close();
  });

  test("a volume has no URL: it is streamed", async () => {
    const store = await (await place("directory")).open();
    await store.prepare();
    await store.create(plainFile.path, content);
    const service = await serve(store, { delivery: "Redirect" });
    assert.equal((await service.get(plainFile.path)).status, 200);
    await service.close();
  });
});
