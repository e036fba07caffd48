import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { getCACertificates, setDefaultCACertificates } from "node:tls";
import { tlsHint } from "../../src/fhir/tls.ts";
import { type Source, startSource } from "../sources/server.ts";
import { startTokenServer, type TokenServer, type TokenServerOptions } from "../sources/token-server.ts";
import { makeAuthority } from "./certificates.ts";
import { failureOf, signedClients } from "./signed.ts";

const open = signedClients();
const authority = makeAuthority();
const another = makeAuthority("another authority");
const own = authority.issue("server");
let source: Source;
const servers: TokenServer[] = [];
const start = async (options: TokenServerOptions) => {
  const server = await startTokenServer({ source: source.baseURL, tls: own, ...options });
  servers.push(server);
  return server;
};
/** A server with https, and one that also demands a client certificate. */
let plain: TokenServer;
let mutual: TokenServer;
before(async () => {
  source = await startSource({ scale: 0.01 });
  plain = await start({});
  mutual = await start({ tls: { ...own, ca: authority.cert } });
});
after(() => Promise.all([source.close(), ...servers.map((server) => server.close())]));

const none = { kind: "none" } as const;
const pair = ({ cert, key }: { cert: string; key: string }) => ({ "tls.crt": cert, "tls.key": key });

describe("private certificate authority", () => {
  test("is trusted, for the links of pages, too", async () => {
    const { client } = await open(plain.baseURL, none, { "ca.crt": authority.cert });
    const nextOf = (body: Buffer) =>
      (JSON.parse(body.toString()) as { link: { relation: string; url: string }[] }).link.find(
        ({ relation }) => relation === "next",
      )!.url;
    const next = await client.get("Patient?_count=1", ({ body }) => nextOf(body), { purpose: "search" });
    assert.match(next, /^https:/);
    assert.equal(await client.get(next, ({ status }) => status, { purpose: "next" }), 200);
  });

  test("several certificates in one file are trusted", async () => {
    const { get } = await open(plain.baseURL, none, { "ca.crt": `${another.cert}\n${authority.cert}` });
    assert.equal(await get(), 200);
  });

  for (const [name, files, code] of [
    ["without it", {}, "UNABLE_TO_VERIFY_LEAF_SIGNATURE"],
    ["another one", { "ca.crt": another.cert }, "UNABLE_TO_VERIFY_LEAF_SIGNATURE"],
  ] as const)
    test(`${name}: waiting, and the message names the certificate`, async () => {
      const failure = await failureOf((await open(plain.baseURL, none, files, { retrySeconds: 0 })).get());
      assert.deepEqual([failure.class, failure.reason], ["waiting", "SourceUnreachable"]);
      assert.match(failure.message, new RegExp(`${code}.*certificate.*spec\\.tls\\.caRef`));
    });

  test("a file without a certificate", async () => {
    const failure = await failureOf((await open(plain.baseURL, none, { "ca.crt": "SECRET" })).get());
    assert.deepEqual([failure.class, failure.reason], ["terminal", "SourceUnauthorized"]);
    assert.match(failure.message, /"ca\.crt" of spec\.tls\.caRef/);
  });

  test("when it is rotated while a client lives, new connections trust only the new one", async () => {
    const server = await start({});
    const { get, write } = await open(server.baseURL, none, { "ca.crt": authority.cert }, { retrySeconds: 0 });
    await get();
    server.setTLS(another.issue("server"));
    server.endConnections();
    assert.match((await failureOf(get())).message, /spec\.tls\.caRef/);
    await write("ca.crt", another.cert);
    assert.equal(await get(), 200);
  });
});

describe("the token endpoint", () => {
  const oauth2 = (server: TokenServer) => ({ kind: "oauth2", tokenURL: server.tokenURL, clientID: "c" }) as const;
  const clients = [{ id: "c", secret: "s" }];
  const files = { "client-secret": "s", "ca.crt": authority.cert };

  test("is trusted by the same authority, and gets the client certificate", async () => {
    const server = await start({ clients, tls: { ...own, ca: authority.cert } });
    const { get } = await open(server.baseURL, oauth2(server), { ...files, ...pair(authority.issue("worker")) });
    assert.equal(await get(), 200);
    assert.equal(server.asked.at(-1)?.client, "worker");
  });

  test("may have a certificate of a well-known authority; the source may not", async () => {
    const before = getCACertificates("default");
    setDefaultCACertificates([...before, another.cert]);
    try {
      const tokens = await start({ clients, tls: another.issue("tokens") });
      const server = await start({ accepts: (token) => tokens.issued.includes(token) });
      assert.equal(await (await open(server.baseURL, oauth2(tokens), files)).get(), 200);
      const failure = await failureOf((await open(tokens.baseURL, none, files, { retrySeconds: 0 })).get());
      assert.match(failure.message, /spec\.tls\.caRef/);
    } finally {
      setDefaultCACertificates(before);
    }
  });

  test("gets no secret where no trusted authority has signed its certificate", async () => {
    const server = await start({ clients });
    const { get } = await open(server.baseURL, oauth2(server), { "client-secret": "s" }, { retrySeconds: 0 });
    const failure = await failureOf(get());
    assert.deepEqual([failure.class, failure.reason], ["waiting", "SourceUnreachable"]);
    assert.match(failure.message, /auth\/token, where the source's token comes from.*spec\.tls\.caRef/);
    assert.deepEqual(server.asked, []);
  });
});

describe("client certificate", () => {
  const files = { "ca.crt": authority.cert };

  test("is sent", async () => {
    const { get } = await open(mutual.baseURL, none, { ...files, ...pair(authority.issue("worker-1")) });
    assert.equal(await get(), 200);
    assert.equal(mutual.served.at(-1)?.client, "worker-1");
  });

  test("when it is rotated while a client lives, new connections send the new one", async () => {
    const { get, write } = await open(mutual.baseURL, none, { ...files, ...pair(authority.issue("old")) });
    await get();
    for (const [name, text] of Object.entries(pair(authority.issue("new")))) await write(name, text);
    await get();
    assert.equal(mutual.served.at(-1)?.client, "old", "by the connection that is open");
    mutual.endConnections();
    await get();
    assert.equal(mutual.served.at(-1)?.client, "new");
  });

  const [one, two] = [authority.issue("one"), authority.issue("two")];
  for (const [name, given, message] of [
    ["without key", { "tls.crt": one.cert }, /no key "tls\.key".*spec\.tls\.clientCertificateRef/],
    ["without certificate", { "tls.key": one.key }, /no key "tls\.crt".*spec\.tls\.clientCertificateRef/],
    [
      "with another's key",
      { "tls.crt": one.cert, "tls.key": two.key },
      /"tls\.crt" and "tls\.key".*do not belong together/,
    ],
    ["that is none", { "tls.crt": "SECRET", "tls.key": one.key }, /"tls\.crt".*is not a certificate/],
    ["with a key that is none", { "tls.crt": one.cert, "tls.key": "SECRET" }, /"tls\.key".*is not a private key/],
  ] as const)
    test(name, async () => {
      const failure = await failureOf((await open(mutual.baseURL, none, { ...files, ...given })).get());
      assert.deepEqual([failure.class, failure.reason], ["terminal", "SourceUnauthorized"], failure.message);
      assert.match(failure.message, message);
      assert.doesNotMatch(failure.message, /SECRET/);
    });

  for (const [name, given] of [
    ["none", {}],
    ["one of another authority", pair(another.issue("worker"))],
  ] as const)
    test(`${name}: the server hangs up, which is waiting`, async () => {
      const failure = await failureOf(
        (await open(mutual.baseURL, none, { ...files, ...given }, { retrySeconds: 0 })).get(),
      );
      assert.deepEqual([failure.class, failure.reason], ["waiting", "SourceUnreachable"], failure.message);
    });
});

for (const [code, hint] of [
  ["ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED", /clientCertificateRef/],
  ["ERR_SSL_SSL/TLS_ALERT_BAD_CERTIFICATE", /clientCertificateRef/],
  ["ERR_SSL_TLSV1_ALERT_UNKNOWN_CA", /clientCertificateRef/],
  ["DEPTH_ZERO_SELF_SIGNED_CERT", /caRef/],
  ["CERT_HAS_EXPIRED", /caRef/],
  ["ERR_TLS_CERT_ALTNAME_INVALID", /caRef/],
  ["ECONNRESET", undefined],
  ["CONNECTION_CLOSED", undefined],
] as const)
  test(`${code} leads to ${hint?.source ?? "the network"}`, () =>
    hint ? assert.match(tlsHint(code) ?? "", hint) : assert.equal(tlsHint(code), undefined));
