import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import type { Socket } from "node:net";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { FailureError, terminal } from "../../src/failure.ts";
import { listening } from "../../src/fhir/aborts.ts";
import { BrokenAnswer, type Head, type Receiver, TransportError } from "../../src/fhir/http.ts";
import { resetSocket } from "../tools/reset.ts";
import { until } from "../tools/until.ts";
import { clientOf, codeOf, inParts, serveWire, whole } from "./wire.ts";

const signal = new AbortController().signal;

describe("an answer that does not arrive, or only in part", () => {
  const begun = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
  const cases: [name: string, answer: (socket: Socket) => unknown, code: string][] = [
    ["nobody speaks", (socket) => socket.end(), "CONNECTION_CLOSED"],
    ["half a head", (socket) => socket.end(begun.slice(0, 20)), "CONNECTION_CLOSED"],
    ["only a head", (socket) => socket.end(begun), "broken CONNECTION_CLOSED"],
    ["half a body", (socket) => socket.end(`${begun}he`), "broken CONNECTION_CLOSED"],
    [
      "half a body, then a reset",
      (socket) => inParts(socket, `${begun}he`).then(() => resetSocket(socket)),
      "broken ECONNRESET",
    ],
    [
      "no last chunk",
      (socket) => socket.end("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n"),
      "broken CONNECTION_CLOSED",
    ],
    ["not HTTP", (socket) => socket.write("SSH-2.0-OpenSSH_9.2\r\n"), "HTTP_STATUS_LINE"],
    [
      "two lengths",
      (socket) => socket.write("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx"),
      "HTTP_CONTENT_LENGTH",
    ],
    [
      "a broken chunk",
      (socket) => socket.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok!\r\n"),
      "broken HTTP_CHUNK_END",
    ],
    ["no head in time", () => {}, "HEADERS_TIMEOUT"],
    [
      "no head in time, though bytes come",
      async (socket) => {
        socket.write("HTTP/1.1 100 x\r\n\r\nHTTP/1.1 200 OK\r\nA: ");
        while (socket.writable) await inParts(socket, "x");
      },
      "HEADERS_TIMEOUT",
    ],
    ["no body in time", (socket) => socket.write(`${begun}he`), "broken BODY_TIMEOUT"],
  ];
  for (const [name, answer, code] of cases)
    test(`${name}: ${code}`, async () => {
      await using server = await serveWire(answer);
      const { get } = clientOf(server, { head: 500, body: 500 });
      assert.equal(await codeOf(get()), code);
      await until("the connection's end", async () => server.open === 0);
      assert.equal(server.asked.length, 1);
    });

  test("a body may take longer in all than is allowed for one part of it", async () => {
    await using server = await serveWire(async (socket) => {
      socket.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n");
      for (let i = 0; i < 10; i++) {
        await sleep(100);
        socket.write(String(i));
      }
    });
    assert.equal(await clientOf(server, { head: 10_000, body: 800 }).get(), "0123456789");
  });

  test("no server listens at the address", async () => {
    const server = await serveWire(() => {});
    const { get } = clientOf(server);
    await server[Symbol.asyncDispose]();
    assert.equal(await codeOf(get()), "ECONNREFUSED");
  });
});

describe("a receiver that throws", () => {
  for (const where of ["start", "write"] as const)
    for (const [name, error] of [
      ["one of our failures: as it is", terminal("SourceInconsistent", "too long")],
      ["another error: the answer is broken off", new RangeError("offset")],
    ] as const)
      test(`${where}, ${name}`, async () => {
        await using server = await serveWire((socket) => socket.write(whole("ok")));
        const { ask, get } = clientOf(server);
        const into: Receiver = {
          start: () => {},
          write: () => {},
          [where]: () => {
            throw error;
          },
        };
        const thrown = await ask(into).then(
          () => assert.fail(),
          (thrown: Error) => thrown,
        );
        assert.equal(thrown instanceof FailureError ? thrown : thrown.cause, error);
        assert.equal(thrown instanceof BrokenAnswer, !(error instanceof FailureError));
        await until("the connection's end", async () => server.open === 0);
        assert.equal(await get(), "ok");
      });
});

describe("a request that is aborted", () => {
  const reason = new Error("enough");
  const begun = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe";

  test("before it begins", async () => {
    await using server = await serveWire(() => {});
    await assert.rejects(clientOf(server).get([signal, AbortSignal.abort(reason)]), reason);
    assert.equal(server.connections, 0);
  });

  test("in the queue: the others keep their order", async () => {
    const abort = new AbortController();
    const answers: (() => void)[] = [];
    await using server = await serveWire((socket) => answers.push(() => socket.write(whole("ok"))));
    const { get } = clientOf(server, { max: 1 });
    const first = get(undefined, "first");
    const second = get([signal, abort.signal], "second");
    const third = get(undefined, "third");
    await until("the first request", async () => answers.length === 1);
    abort.abort(reason);
    await assert.rejects(second, reason);
    answers[0]!();
    await first;
    await until("the third request", async () => answers.length === 2);
    answers[1]!();
    await third;
    assert.deepEqual(
      [server.asked.map(({ text }) => text.split("\r\n\r\n")[1]), server.connections],
      [["first", "third"], 1],
    );
  });

  for (const [name, text] of [
    ["before the head", ""],
    ["in the head", "HTTP/1.1 200"],
    ["in the body", begun],
  ] as const)
    test(`${name}: its connection ends, and what waits gets another`, async () => {
      const abort = new AbortController();
      await using server = await serveWire((socket, { connection }) =>
        socket.write(connection === 0 ? text : whole("ok")),
      );
      const { get } = clientOf(server, { max: 1 });
      const first = get([signal, abort.signal]);
      const second = get();
      await until("the request", async () => server.asked.length === 1);
      await sleep(10);
      abort.abort(reason);
      await assert.rejects(first, reason);
      assert.equal(await second, "ok");
      await until("the connection's end", async () => server.open === 1);
    });

  test("while it connects", async () => {
    const abort = new AbortController();
    await using server = await serveWire((socket) => socket.write(whole("ok")));
    const { get } = clientOf(server, { max: 1 });
    const first = get([abort.signal]);
    abort.abort(reason);
    await assert.rejects(first, reason);
    assert.equal(await get(), "ok");
    assert.equal(server.asked.length, 1);
  });

  test("by its own receiver, which then gets nothing more", async () => {
    const abort = new AbortController();
    await using server = await serveWire((socket) =>
      socket.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n"),
    );
    let writes = 0;
    const into: Receiver = {
      start: () => {},
      write: () => {
        writes++;
        abort.abort(reason);
      },
    };
    await assert.rejects(clientOf(server).ask(into, [abort.signal]), reason);
    assert.equal(writes, 1);
  });

  test("leaves no listener at a signal that lives on, and neither does a request that succeeds or fails", async () => {
    const { signal } = new AbortController();
    await using server = await serveWire(
      (socket, { number }) => void (number % 3 === 2 ? socket.end("x") : socket.write(whole("ok"))),
    );
    const { get } = clientOf(server, { max: 2 });
    await Promise.allSettled(
      Array.from({ length: 30 }, (_, i) => {
        const own = new AbortController();
        if (i % 3 === 0) setTimeout(() => own.abort(reason), i);
        return get([signal, own.signal]);
      }),
    );
    assert.equal(getEventListeners(signal, "abort").length, 1);
    assert.equal(listening(signal), 0);
  });
});

test("close ends requests that are under way, that wait, and that come later", async () => {
  await using server = await serveWire((socket, { number }) => void (number === 0 && socket.write(whole("ok"))));
  const { connections, get } = clientOf(server, { max: 1 });
  await get();
  const calls: Promise<string | Head>[] = [get(), get()];
  await until("the second request", async () => server.asked.length === 2);
  connections.close();
  for (const call of [...calls, get()])
    await assert.rejects(call, (error: Error) => error instanceof TransportError && error.code === "CLIENT_CLOSED");
  await until("the connection's end", async () => server.open === 0);
});
