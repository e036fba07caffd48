import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import dns from "node:dns";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import type { TLSSocket } from "node:tls";
import { until } from "../tools/until.ts";
import { makeAuthority } from "./certificates.ts";
import { clientOf, codeOf, PlacedBody, serveWire, type Wire, whole } from "./wire.ts";

const authority = makeAuthority();
const another = makeAuthority("another authority");
const tls = authority.issue("server");
const folders: string[] = [];
after(() => {
  for (const folder of folders) rmSync(folder, { recursive: true });
});

/** A folder with the files of a source, and a function that changes them. */
function secrets(files: Record<string, string>): { folder: string; write: (files: Record<string, string>) => void } {
  const folder = mkdtempSync(join(tmpdir(), "fhir-export-"));
  folders.push(folder);
  mkdirSync(join(folder, "source"));
  const write = (files: Record<string, string>) => {
    for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, "source", name), text);
  };
  write(files);
  return { folder, write };
}
const ca = { "ca.crt": authority.cert };
const pair = ({ cert, key }: { cert: string; key: string }) => ({ "tls.crt": cert, "tls.key": key });
const ok = (socket: Socket) => void socket.write(whole("ok"));
const socketOf = (server: Wire, index: number) => server.sockets[index] as TLSSocket;

describe("over TLS", () => {
  test("with a private authority, by IP address: HTTP/1.1, and no server name is sent", async () => {
    await using server = await serveWire(ok, { tls });
    const { get } = clientOf(server, {}, secrets(ca).folder);
    assert.deepEqual([await get(), await get(), server.connections], ["ok", "ok", 1]);
    assert.deepEqual([socketOf(server, 0).alpnProtocol, socketOf(server, 0).servername], ["http/1.1", false]);
  });

  test("a body is put where its receiver wants it", async () => {
    const bytes = randomBytes(700_000);
    await using server = await serveWire(
      (socket) => {
        socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${bytes.length}\r\n\r\n`);
        socket.write(bytes);
      },
      { tls },
    );
    const { ask } = clientOf(server, {}, secrets(ca).folder);
    for (const most of [Number.POSITIVE_INFINITY, 1000]) {
      const into = new PlacedBody(bytes.length, most);
      await ask(into);
      assert(into.bytes.equals(bytes) && into.came.placed > 500_000);
    }
    assert.equal(server.connections, 1);
  });

  test("by name: the server name is sent", async () => {
    await using server = await serveWire(ok, { tls, name: "localhost" });
    assert.equal(await clientOf(server, {}, secrets(ca).folder).get(), "ok");
    assert.equal(socketOf(server, 0).servername, "localhost");
    assert.match(server.asked[0]!.text, /\r\nhost: localhost:\d+\r\n/);
  });

  test("a server of another authority, or of another name, gets no byte of a request", async () => {
    await using server = await serveWire(ok, { tls });
    assert.equal(
      await codeOf(clientOf(server, {}, secrets({ "ca.crt": another.cert }).folder).get()),
      "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
    );
    assert.equal(await codeOf(clientOf(server).get()), "UNABLE_TO_VERIFY_LEAF_SIGNATURE");
    // Every address of 127.0.0.0/8 is this machine.
    await using elsewhere = await serveWire(ok, { tls, host: "127.0.0.2" });
    assert.equal(await codeOf(clientOf(elsewhere, {}, secrets(ca).folder).get()), "ERR_TLS_CERT_ALTNAME_INVALID");
    assert.deepEqual([server.received, elsewhere.received], [0, 0]);
  });

  test("with a client certificate; without it there is no answer", async () => {
    await using server = await serveWire(ok, {
      tls: { ...tls, ca: authority.cert, requestCert: true, rejectUnauthorized: true },
    });
    const { get } = clientOf(server, {}, secrets({ ...ca, ...pair(authority.issue("worker")) }).folder);
    assert.equal(await get(), "ok");
    assert.equal(socketOf(server, 0).getPeerCertificate().subject.CN, "worker");
    assert.match(await codeOf(clientOf(server, {}, secrets(ca).folder).get()), /CERTIFICATE_REQUIRED|ECONNRESET/);
  });

  test("a TLS session is resumed until the files change", async () => {
    const seen: [subject: string, isReused: boolean][] = [];
    const note = (socket: Socket) => {
      const secure = socket as TLSSocket;
      seen.push([secure.getPeerCertificate().subject.CN as string, secure.isSessionReused()]);
      socket.write("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    };
    await using server = await serveWire(note, {
      tls: { ...tls, ca: authority.cert, requestCert: true, rejectUnauthorized: true },
    });
    const { folder, write } = secrets({ ...ca, ...pair(authority.issue("old")) });
    const { get } = clientOf(server, {}, folder);
    await get();
    await get();
    write(pair(authority.issue("new")));
    await get();
    assert.deepEqual(seen, [
      ["old", false],
      ["old", true],
      ["new", false],
    ]);
  });

  test("rotated files count for new connections only", async () => {
    await using server = await serveWire(ok, { tls });
    const { folder, write } = secrets(ca);
    const { get } = clientOf(server, {}, folder);
    await get();
    server.setTLS(another.issue("server"));
    write({ "ca.crt": another.cert });
    assert.deepEqual([await get(), server.connections], ["ok", 1]);
    server.sockets[0]!.destroy();
    await until("the connection's end", async () => server.open === 0);
    assert.equal(await get(), "ok");
    write(ca);
    server.sockets[1]!.destroy();
    await until("the connection's end", async () => server.open === 0);
    assert.equal(await codeOf(get()), "UNABLE_TO_VERIFY_LEAF_SIGNATURE");
  });

  test("files that are not valid fail the request, and not the next one with valid files", async () => {
    let answer = () => {};
    await using server = await serveWire((socket) => void (answer = () => socket.end(whole("ok"))), { tls });
    const { folder, write } = secrets(ca);
    const { get } = clientOf(server, { max: 1 }, folder);
    const failure = { class: "terminal", reason: "SourceUnauthorized" };
    const first = get();
    const waiting = [get(), get()].map((one) => assert.rejects(one, failure));
    await until("the first request", async () => server.asked.length === 1);
    write({ "ca.crt": "SECRET" });
    server.sockets[0]!.destroy();
    await assert.rejects(first, { code: "CONNECTION_CLOSED" });
    await Promise.all(waiting);
    write(ca);
    const last = get();
    await until("the last request", async () => server.asked.length === 2);
    answer();
    assert.equal(await last, "ok");
  });

  test("a body larger than a TLS record", async () => {
    const body = "x".repeat(1_000_000);
    await using server = await serveWire((socket) => void socket.write(whole(body)), { tls });
    assert.equal(await clientOf(server, {}, secrets(ca).folder).get(), body);
  });

  test("a server that does not complete the TLS handshake fails the request in time", async () => {
    const sockets: Socket[] = [];
    const server = createServer((socket) => void sockets.push(socket.on("error", () => {}).resume()));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const url = new URL(`https://127.0.0.1:${(server.address() as { port: number }).port}/`);
    assert.equal(await codeOf(clientOf({ url }, { connect: 50 }, secrets(ca).folder).get()), "CONNECT_TIMEOUT");
    await until("the connection's end", async () => sockets.every(({ destroyed, readable }) => destroyed || !readable));
    for (const socket of sockets) socket.destroy();
    server.close();
  });
});

describe("addresses", () => {
  const hasIPv6 = Object.values(networkInterfaces()).some((all) => all?.some(({ address }) => address === "::1"));

  test("of IPv6", { skip: !hasIPv6 && "this machine has no ::1" }, async () => {
    await using server = await serveWire(ok, { host: "::1" });
    assert.equal(await clientOf(server).get(), "ok");
    assert.match(server.asked[0]!.text, /\r\nhost: \[::1\]:\d+\r\n/);
  });

  for (const scheme of ["http", "https"])
    test(`of a name with two addresses, of which one works (${scheme})`, async (context) => {
      await using server = await serveWire(ok, { name: "localhost", ...(scheme === "https" && { tls }) });
      const lookup = (_: string, __: unknown, found: (error: null, all: dns.LookupAddress[]) => void) =>
        found(null, [
          { address: "::1", family: 6 },
          { address: "127.0.0.1", family: 4 },
        ]);
      const mock = context.mock.method(dns, "lookup", lookup as unknown as typeof dns.lookup);
      const { get } = clientOf(server, {}, secrets(ca).folder);
      assert.deepEqual([await get(), await get(), server.connections], ["ok", "ok", 1]);
      assert.equal(mock.mock.callCount(), 1);
    });
});
