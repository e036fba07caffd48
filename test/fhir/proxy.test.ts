import assert from "node:assert/strict";
import { createServer, type Server } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { after, before, describe, test } from "node:test";
import { type Source, startSource } from "../sources/server.ts";
import { startTokenServer, type TokenServer } from "../sources/token-server.ts";
import { makeAuthority } from "./certificates.ts";
import { failureOf, signedClients } from "./signed.ts";

const open = signedClients();
const authority = makeAuthority();
const none = { kind: "none" } as const;

/** A proxy that connects every name to this machine, as only the proxy knows the names behind it. */
async function startProxy() {
  const asked: { authority: string; authorization: string | undefined }[] = [];
  const answer = { status: 200 };
  const sockets = new Set<Socket>();
  const server: Server = createServer((_, response) => response.writeHead(502).end());
  server.on("connection", (socket) => sockets.add(socket.on("close", () => sockets.delete(socket))));
  server.on("connect", (request, client: Socket) => {
    asked.push({ authority: request.url!, authorization: request.headers["proxy-authorization"] });
    if (answer.status !== 200) return void client.end(`HTTP/1.1 ${answer.status} No\r\ncontent-length: 0\r\n\r\n`);
    const to = connect(Number(request.url!.split(":").at(-1)), "127.0.0.1", () => {
      client.write("HTTP/1.1 200 Connection established\r\n\r\n");
      to.pipe(client).pipe(to);
    });
    for (const socket of [to, client]) socket.on("error", () => [to, client].forEach((one) => void one.destroy()));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url,
    asked,
    answer,
    close: () => {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

let source: Source;
let secure: TokenServer;
let proxy: Awaited<ReturnType<typeof startProxy>>;
before(async () => {
  source = await startSource({ scale: 0.05 });
  secure = await startTokenServer({
    source: source.baseURL,
    tls: authority.issue("server"),
    clients: [{ id: "client", secret: "s3cret", scopes: ["system/*.rs"] }],
  });
  proxy = await startProxy();
});
after(async () => {
  proxy.close();
  await Promise.all([source.close(), secure.close()]);
});
const behind = (url: string) => url.replace(/127\.0\.0\.1|localhost/, "fhir.behind.invalid");

describe("a source behind a proxy", () => {
  test("http: all pages, of which some are longer than a read", async () => {
    const { client } = await open(behind(source.baseURL), none, {}, { proxy: { url: proxy.url } });
    const from = proxy.asked.length;
    const bytes = await client.get("Observation?_count=250", ({ body }) => body, { purpose: "search" });
    const direct = Buffer.from(await (await fetch(`${source.baseURL}/Observation?_count=250`)).arrayBuffer());
    assert(bytes.length > 100_000);
    assert.equal(JSON.parse(bytes.toString()).entry.length, JSON.parse(direct.toString()).entry.length);
    assert.equal(await client.get("metadata", ({ status }) => status, { purpose: "statement" }), 200);
    const { port } = new URL(source.baseURL);
    assert.deepEqual(proxy.asked.slice(from), [{ authority: `fhir.behind.invalid:${port}`, authorization: undefined }]);
  });

  test("https: the proxy sees the name alone, and the certificate is checked", async () => {
    const files = { "ca.crt": authority.cert };
    const { get } = await open(secure.baseURL, none, files, { proxy: { url: proxy.url } });
    // The server wants a sign-in, which is how its answer is known from the proxy's.
    assert.match((await failureOf(get())).message, /401/);
    assert.equal(proxy.asked.at(-1)!.authority, new URL(secure.baseURL).host);
    const another = makeAuthority("another authority");
    const { get: refused } = await open(
      secure.baseURL,
      none,
      { "ca.crt": another.cert },
      { proxy: { url: proxy.url } },
    );
    assert.match((await failureOf(refused())).message, /caRef/);
  });

  test("the token endpoint is reached through it, too", async () => {
    const files = { "ca.crt": authority.cert, "client-secret": "s3cret" };
    const auth = {
      kind: "oauth2",
      clientID: "client",
      scope: "system/*.rs",
      tokenURL: secure.tokenURL,
    } as const;
    const { get } = await open(secure.baseURL, auth, files, { proxy: { url: proxy.url } });
    const from = proxy.asked.length;
    assert.equal(await get(), 200);
    assert.equal(proxy.asked.length - from, 2);
  });

  test("user and password of the proxy are sent to it alone", async () => {
    const files = { "proxy-username": "me\n", "proxy-password": "p@ss\n" };
    const { get } = await open(behind(source.baseURL), none, files, { proxy: { url: proxy.url, hasSignIn: true } });
    assert.equal(await get(), 200);
    assert.equal(proxy.asked.at(-1)!.authorization, `Basic ${Buffer.from("me:p@ss").toString("base64")}`);
    const { get: without } = await open(
      behind(source.baseURL),
      none,
      {},
      { proxy: { url: proxy.url, hasSignIn: true } },
    );
    assert.match((await failureOf(without())).message, /Secret of spec\.proxy.*username/);
  });

  for (const [name, status] of [
    ["wants another sign-in", 407],
    ["does not let it through", 403],
  ] as const)
    test(`a proxy that ${name}: the message says so`, async () => {
      proxy.answer.status = status;
      const { get } = await open(behind(source.baseURL), none, {}, { proxy: { url: proxy.url }, retrySeconds: 0 });
      const failure = await failureOf(get());
      proxy.answer.status = 200;
      assert.equal(failure.reason, "SourceUnreachable");
      assert.match(failure.message, new RegExp(`PROXY_${status}.*spec\\.proxy`));
    });

  test("a proxy that is not there", async () => {
    const { get } = await open(
      behind(source.baseURL),
      none,
      {},
      { proxy: { url: "http://127.0.0.1:1" }, retrySeconds: 0 },
    );
    assert.match((await failureOf(get())).message, /PROXY_ECONNREFUSED.*spec\.proxy/);
  });
});

describe("headers of the FhirSource", () => {
  test("are sent with each request, and a changed Secret counts at once", async () => {
    const seen: (string | undefined)[][] = [];
    const server = createServer(({ headers }, response) => {
      seen.push([headers["x-tenant"], headers["x-api-key"], headers.accept] as string[]);
      response.writeHead(200).end('{"resourceType":"Bundle","type":"searchset"}');
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const headers = [{ name: "X-Tenant", value: "seven" }, { name: "X-API-Key" }];
    const { get, write } = await open(base, none, { "header-1": "first\n" }, { headers });
    try {
      await get();
      await write("header-1", "second");
      await get();
      assert.deepEqual(seen, [
        ["seven", "first", "application/fhir+json"],
        ["seven", "second", "application/fhir+json"],
      ]);
      await write("header-1", "a\r\nb: c");
      const failure = await failureOf(get());
      assert.match(failure.message, /Secret of header X-API-Key in spec\.headers.*characters/);
      await write("header-1", undefined);
      assert.match((await failureOf(get())).message, /X-API-Key.*no such key/);
      assert.equal(seen.length, 2);
    } finally {
      server.closeAllConnections();
      server.close();
    }
  });
});
