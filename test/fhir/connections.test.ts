import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { describe, test } from "node:test";
import { resetSocket } from "../tools/reset.ts";
import { until } from "../tools/until.ts";
import { clientOf, codeOf, collector, inParts, PlacedBody, serveWire, whole } from "./wire.ts";

describe("an answer", () => {
  test("in parts: the head and the body are complete, with the time and the first byte", async () => {
    await using server = await serveWire((socket) =>
      inParts(socket, "HT", "TP/1.1 203 x\r\nA", ": b\r", "\n\r\n", "hello"[0]!, "ello").then(() => socket.end()),
    );
    const into = collector();
    const seen: string[] = [];
    const head = await clientOf(server).ask({
      start: ({ a }) => seen.push(`start ${a}`),
      write: (chunk) => {
        into.write(chunk);
        seen.push("write");
      },
    });
    assert.deepEqual([head.status, head.headers.a, head.first, into.bytes.toString()], [203, "b", 0x68, "hello"]);
    assert.deepEqual([seen[0], seen[1]], ["start b", "write"]);
    assert(head.ms > 0 && head.ms < 60_000);
    assert.match(server.asked[0]!.text, /^GET \/fhir\/Patient\?_count=1 HTTP\/1\.1\r\nhost: 127\.0\.0\.1:\d+\r\n/);
  });

  test("larger than the socket's buffer, chunked or not", async () => {
    const bytes = randomBytes(3_000_000);
    await using server = await serveWire((socket, { number }) => {
      if (number === 0) return inParts(socket, `HTTP/1.1 200 OK\r\nContent-Length: ${bytes.length}\r\n\r\n`, bytes);
      socket.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
      for (let at = 0; at < bytes.length; at += 77_777) {
        const part = bytes.subarray(at, at + 77_777);
        socket.write(`${part.length.toString(16)}\r\n`);
        socket.write(part);
        socket.write("\r\n");
      }
      socket.write("0\r\n\r\n");
    });
    const { ask } = clientOf(server);
    for (const _ of [0, 1]) {
      const into = collector();
      await ask(into);
      assert(into.bytes.equals(bytes));
    }
    assert.equal(server.connections, 1);
  });

  for (const most of [Number.POSITIVE_INFINITY, 100_000, 7])
    test(`is put where its receiver wants it, ${most} bytes at most at a time`, async () => {
      const bytes = randomBytes(700_000);
      const head = `HTTP/1.1 200 OK\r\nContent-Length: ${bytes.length}\r\n\r\n`;
      const parts = [
        [head, bytes],
        [head + bytes.toString("latin1", 0, 100), bytes.subarray(100)],
        [head, bytes.subarray(0, 1), bytes.subarray(1)],
      ];
      await using server = await serveWire((socket, { number }) => inParts(socket, ...parts[number]!));
      const { ask, get } = clientOf(server, { max: 1 });
      for (const _ of parts) {
        const into = new PlacedBody(bytes.length, most);
        const { first } = await ask(into);
        assert(into.bytes.equals(bytes));
        assert.equal(first, bytes[0]);
        // The last 64 KiB are read into the buffer of the connection, and copied.
        assert(into.came.placed >= bytes.length - 2 * 65_536, JSON.stringify(into.came));
      }
      parts.push([whole("and on")]);
      assert.deepEqual([await get(), server.connections], ["and on", 1]);
    });

  test("comes by write where it has no place: a short body, small chunks, and what no longer fits", async () => {
    const bytes = randomBytes(200_000);
    const chunked = (size: number) =>
      Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) => {
        const part = bytes.subarray(i * size, (i + 1) * size);
        return `${part.length.toString(16)}\r\n${part.toString("latin1")}\r\n`;
      }).join("");
    const head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    await using server = await serveWire((socket, { number }) =>
      number < 2
        ? socket.write(`${head}${chunked([8000, 100_000][number]!)}0\r\n\r\n`, "latin1")
        : socket.write(whole("short")),
    );
    const { ask } = clientOf(server, { max: 1 });
    const came = [];
    for (const body of [bytes, bytes, Buffer.from("short")]) {
      const into = new PlacedBody(body.length);
      await ask(into);
      assert(into.bytes.equals(body));
      came.push(into.came.placed > 0);
    }
    assert.deepEqual([came, server.connections], [[false, true, false], 1]);
  });

  test("is put nowhere after its request was aborted", async () => {
    const bytes = Buffer.alloc(1_000_000, "x");
    let go = () => {};
    await using server = await serveWire((socket) => {
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${bytes.length}\r\n\r\n`);
      socket.write(bytes.subarray(0, 300_000));
      go = () => void socket.write(bytes.subarray(300_000));
    });
    const { ask } = clientOf(server);
    const into = new PlacedBody(bytes.length);
    const stop = new AbortController();
    const asked = ask(into, [stop.signal]);
    await until("the first part", async () => into.length === 300_000);
    go();
    stop.abort(new Error("not wanted"));
    into.memory.fill("!");
    await assert.rejects(asked, { message: "not wanted" });
    await until("the connection's end", async () => server.open === 0);
    assert(into.memory.every((byte) => byte === 0x21));
  });

  test("without a body has no first byte; a POST has its form", async () => {
    await using server = await serveWire((socket) => socket.write("HTTP/1.1 204 x\r\n\r\n"));
    const { ask } = clientOf(server);
    assert.equal((await ask(collector(), undefined, "_id=1%2C2")).first, undefined);
    assert.match(server.asked[0]!.text, /^POST .*content-length: 9\r\n\r\n_id=1%2C2$/s);
  });

  test("after 103 Early Hints", async () => {
    await using server = await serveWire((socket) =>
      inParts(socket, "HTTP/1.1 103 x\r\nLink: </a>\r\n\r\n", whole("ok")),
    );
    const { get } = clientOf(server);
    assert.deepEqual([await get(), await get(), server.connections], ["ok", "ok", 1]);
  });

  test("of HTTP/1.0 to the end of the connection", async () => {
    await using server = await serveWire((socket) =>
      inParts(socket, "HTTP/1.0 200 OK\r\n\r\nol", "d").then(() => socket.end()),
    );
    const { get } = clientOf(server);
    assert.deepEqual([await get(), await get(), server.connections], ["old", "old", 2]);
  });
});

describe("a connection", () => {
  test("is used again, for one request at a time", async () => {
    await using server = await serveWire((socket) => setImmediate(() => socket.write(whole("ok"))));
    const { get } = clientOf(server);
    for (let i = 0; i < 5; i++) assert.equal(await get(), "ok");
    assert.equal(server.connections, 1);
  });

  test("is opened only while there are fewer than allowed; requests that wait are served in order over those that become free", async () => {
    const order: string[] = [];
    await using server = await serveWire((socket) => setTimeout(() => socket.write(whole("ok")), 5));
    const { connections } = clientOf(server, { max: 2 });
    await Promise.all(
      Array.from({ length: 9 }, async (_, i) => {
        const url = new URL(`/${i}`, server.url);
        await connections.exchange({ url, method: "GET", headers: {} }, collector(), []);
        order.push(String(i));
      }),
    );
    assert.deepEqual([server.most, server.connections], [2, 2]);
    assert.deepEqual(
      server.asked.map(({ text }) => /\d/.exec(text)![0]),
      [..."012345678"],
    );
    assert.deepEqual(order.toSorted(), [..."012345678"]);
  });

  test("ends after some time without a request, and is not used again where its timer is late", async () => {
    await using server = await serveWire((socket) => socket.write(whole("ok")));
    const { get } = clientOf(server, { idle: 20 });
    await get();
    await until("the connection's end", async () => server.open === 0);
    await get();
    // While this runs, no timer can fire.
    for (const until = performance.now() + 50; performance.now() < until; );
    await get();
    assert.equal(server.connections, 3);
  });

  test("is not used within the last second that the server keeps it", async () => {
    let hint = "timeout=1";
    await using server = await serveWire((socket) =>
      socket.write(`HTTP/1.1 200 OK\r\nKeep-Alive: ${hint}\r\nContent-Length: 0\r\n\r\n`),
    );
    const { get } = clientOf(server);
    await get();
    await get();
    assert.equal(server.connections, 2);
    hint = "timeout=100";
    await get();
    await get();
    assert.equal(server.connections, 3);
  });

  for (const [name, text] of [
    ["Connection: close", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"],
    ["bytes behind the answer", `${whole("ok")}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil`],
  ] as const)
    test(`is not used again after ${name}`, async () => {
      await using server = await serveWire((socket) => socket.write(text));
      const { get } = clientOf(server);
      assert.deepEqual([await get(), await get(), server.connections], ["ok", "ok", 2]);
      await until("the connections' end", async () => server.open === 0);
    });

  test("is not used again after bytes that nobody asked for", async () => {
    await using server = await serveWire((socket) => socket.write(whole("ok")));
    const { get } = clientOf(server);
    await get();
    server.sockets[0]!.write(whole("evil"));
    await until("the connection's end", async () => server.open === 0);
    assert.deepEqual([await get(), server.connections], ["ok", 2]);
  });

  test("is not used again when the answer came before the whole request was sent", async () => {
    const form = `_id=${"1".repeat(30_000_000)}`;
    const server = createServer((socket) => {
      socket.on("error", () => {});
      socket.once("data", () => socket.pause().write("HTTP/1.1 413 x\r\nContent-Length: 0\r\n\r\n"));
    });
    let connections = 0;
    server.on("connection", () => connections++);
    await once(server.listen(0, "127.0.0.1"), "listening");
    const { ask } = clientOf({ url: new URL(`http://127.0.0.1:${(server.address() as { port: number }).port}/`) });
    for (const _ of [0, 1]) assert.equal((await ask(collector(), undefined, form)).status, 413);
    assert.equal(connections, 2);
    server.close();
  });

  test("keeps no process alive when it is idle", { timeout: 60_000 }, async () => {
    await using server = await serveWire((socket) => socket.write(whole("ok")));
    const folder = JSON.stringify(join(import.meta.dirname, "../../src/fhir/"));
    const code = `
      const { Connections } = await import(${folder} + "connections.ts");
      const { socketOpener } = await import(${folder} + "tls.ts");
      const url = new URL(${JSON.stringify(server.url)});
      const connections = new Connections(socketOpener("/nonexistent", url), { max: 1, idle: 3600_000 });
      for (const _ of [0, 1]) await connections.exchange({ url, method: "GET", headers: {} }, { start() {}, write() {} }, []);`;
    const child = spawn(process.execPath, ["--input-type=module", "-e", code], { stdio: "inherit", timeout: 30_000 });
    assert.deepEqual(await once(child, "exit"), [0, null]);
    assert.deepEqual([server.asked.length, server.connections], [2, 1]);
  });
});

describe("a kept connection that the server has closed", () => {
  test("while it was idle: the next request gets a new one", async () => {
    await using server = await serveWire((socket) => socket.write(whole("ok")));
    const { get } = clientOf(server);
    await get();
    server.sockets[0]!.end();
    await until("the connection's end", async () => server.sockets[0]!.destroyed);
    assert.deepEqual([await get(), server.connections], ["ok", 2]);
  });

  for (const [name, end] of [
    ["closes", (socket: Socket) => void socket.end()],
    ["resets", (socket: Socket) => void resetSocket(socket)],
  ] as const)
    for (const form of [undefined, "_id=1"])
      test(`it ${name} as a ${form ? "POST" : "GET"} arrives: the request is sent again, before those that wait`, async () => {
        await using server = await serveWire((socket, { connection, number }) =>
          connection === 0 && number === 1 ? end(socket) : void socket.write(whole(`${connection}`)),
        );
        const { get } = clientOf(server, { max: 1 });
        assert.equal(await get(), "0");
        assert.deepEqual(await Promise.all([get(undefined, form), get(undefined, "second")]), ["1", "1"]);
        assert.deepEqual(
          server.asked.map(({ text }) => text.split("\r\n\r\n")[1]),
          ["", form ?? "", form ?? "", "second"],
        );
      });

  test("and closes the new one, too: that is an error, and the request is not sent a third time", async () => {
    await using server = await serveWire((socket, { connection, number }) =>
      connection === 0 && number === 0 ? void socket.write(whole("ok")) : void socket.end(),
    );
    const { get } = clientOf(server);
    await get();
    assert.equal(await codeOf(get()), "CONNECTION_CLOSED");
    assert.equal(server.asked.length, 3);
    assert.equal(await codeOf(get()), "CONNECTION_CLOSED");
    assert.equal(server.asked.length, 4, "a new connection is not asked twice");
  });

  test("after a byte of the answer: that is an error at once", async () => {
    await using server = await serveWire(
      (socket, { number }) => void (number === 0 ? socket.write(whole("ok")) : socket.end("H")),
    );
    const { get } = clientOf(server);
    await get();
    assert.equal(await codeOf(get()), "CONNECTION_CLOSED");
    assert.equal(server.asked.length, 2);
  });

  test("without a word: that is an error in time, and the request is not sent again", async () => {
    await using server = await serveWire((socket, { number }) => void (number === 0 && socket.write(whole("ok"))));
    const { get } = clientOf(server, { head: 100 });
    await get();
    assert.equal(await codeOf(get()), "HEADERS_TIMEOUT");
    assert.equal(server.asked.length, 2);
  });

  test("with all others that are kept: each request gets one that works", async () => {
    await using server = await serveWire(
      (socket, { number }) => void (number === 0 ? socket.write(whole("ok")) : socket.end()),
    );
    const { get } = clientOf(server, { max: 3 });
    await Promise.all([get(), get(), get()]);
    assert.deepEqual(await Promise.all([get(), get(), get()]), ["ok", "ok", "ok"]);
    assert.equal(server.connections, 6);
  });
});
