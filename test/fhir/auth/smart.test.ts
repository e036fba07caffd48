import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { decodeJwt, decodeProtectedHeader, exportJWK, generateKeyPair, importJWK, SignJWT } from "jose";
import type { Task } from "../../../src/contracts.ts";
import { type Source, startSource } from "../../sources/server.ts";
import { type Scripted, startTokenServer, type TokenServer } from "../../sources/token-server.ts";
import { failureOf, makeKeys, signedClients } from "../signed.ts";

const open = signedClients();
const keys = { RS384: await makeKeys("RS384"), ES384: await makeKeys("ES384") };
const other = await makeKeys("ES384", "other");
let source: Source;
let server: TokenServer;
before(async () => {
  source = await startSource({ scale: 0.01 });
  server = await startTokenServer({
    source: source.baseURL,
    clients: [{ id: "client-1", keys: [keys.RS384.publicKey, keys.ES384.publicKey], scopes: ["system/*.rs"] }],
  });
});
after(() => Promise.all([source.close(), server.close()]));
beforeEach(() => server.clearScript());

const smart = (key: unknown, change: Partial<Task["source"]["auth"]> = {}, baseURL = server.baseURL) =>
  open(
    baseURL,
    { kind: "smart", clientID: "client-1", scope: "system/*.rs", ...change },
    key === undefined ? {} : { "private-key.jwk": typeof key === "string" ? key : JSON.stringify(key) },
    { retrySeconds: 0.1 },
  );

describe("SMART Backend Services", () => {
  for (const alg of ["RS384", "ES384"] as const)
    test(`${alg}, endpoint by discovery`, async () => {
      const { get } = await smart(keys[alg].privateKey);
      const mark = server.asked.length;
      const started = Math.floor(Date.now() / 1000);
      assert.equal(await get(), 200);
      assert.deepEqual(
        server.asked.slice(mark).map(({ at, status }) => [at, status]),
        [
          ["discovery", 200],
          ["token", 200],
        ],
      );
      const form = Object.fromEntries(server.asked.at(-1)!.form);
      const { client_assertion: assertion = "", ...rest } = form;
      assert.deepEqual(rest, {
        grant_type: "client_credentials",
        scope: "system/*.rs",
        client_assertion_type: "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
      });
      assert.deepEqual(decodeProtectedHeader(assertion), { alg, kid: alg, typ: "JWT" });
      const { exp, jti, ...claims } = decodeJwt(assertion);
      assert.deepEqual(claims, { iss: "client-1", sub: "client-1", aud: server.tokenURL });
      assert(exp! > started + 60 && exp! <= started + 300);
      assert(jti);
    });

  test("with tokenURL there is no discovery; each token request has its own jti; the key may be rotated", async () => {
    const { get, write } = await smart(keys.RS384.privateKey, { tokenURL: server.tokenURL });
    const mark = server.asked.length;
    await get();
    server.revoke();
    await write("private-key.jwk", JSON.stringify(keys.ES384.privateKey));
    await get();
    const asked = server.asked.slice(mark);
    assert.deepEqual(
      asked.map(({ at, status }) => [at, status]),
      [
        ["token", 200],
        ["token", 200],
      ],
    );
    const assertions = asked.map(({ form }) => form.get("client_assertion")!);
    assert.equal(new Set(assertions.map((one) => decodeJwt(one).jti)).size, 2);
    assert.deepEqual(
      assertions.map((one) => decodeProtectedHeader(one).kid),
      ["RS384", "ES384"],
    );
  });

  test("the endpoint is discovered once", async () => {
    const { get } = await smart(keys.RS384.privateKey);
    const mark = server.asked.length;
    for (let i = 0; i < 3; i++) {
      await get();
      server.revoke();
    }
    assert.equal(server.asked.slice(mark).filter(({ at }) => at === "discovery").length, 1);
  });

  test("a discovery that fails for a moment", async () => {
    server.script({ at: "discovery", status: 502, headers: { "content-type": "text/html" }, body: "<html>" });
    const { client } = await smart(keys.RS384.privateKey);
    assert.equal(
      await client.get("Patient?_count=1", ({ status }) => status, { purpose: "probe", retrySeconds: 10 }),
      200,
    );
  });
});

const { d: _, ...publicOnly } = keys.RS384.privateKey;
const es256 = await generateKeyPair("ES256", { extractable: true }).then(({ privateKey }) => exportJWK(privateKey));
const wrongKeys: [name: string, key: unknown, message: RegExp][] = [
  ["none", undefined, /has no key "private-key\.jwk"/],
  ["text", "SECRET", /is not JSON/],
  ["PEM", "-----BEGIN PRIVATE KEY-----\nSECRET", /is not JSON/],
  ["a number", "7", /not a JSON Web Key/],
  ["a key set", { keys: [keys.RS384.privateKey] }, /not a JSON Web Key/],
  ["a public key", publicOnly, /public key/],
  ["another curve", { ...es256, kid: "x" }, /P-384/],
  ["a symmetric key", { kty: "oct", k: "SECRET", kid: "x" }, /kty RSA/],
  ["a key for RS256", { ...keys.RS384.privateKey, alg: "RS256" }, /another algorithm than SMART's RS384/],
  ["no kid", { ...keys.ES384.privateKey, kid: undefined }, /has no kid/],
  ["a broken key", { ...keys.ES384.privateKey, d: "SECRET" }, /is not a key that can sign/],
  ["a small RSA key", { kty: "RSA", n: "AQAB", e: "AQAB", d: "SECRET", kid: "x" }, /is not a key that can sign/],
  ["a key that the server does not know", other.privateKey, /refuses \(invalid_client\).*private-key\.jwk.*same kid/],
  ["a key under the kid of another", { ...other.privateKey, kid: "ES384" }, /refuses \(invalid_client\).*same kid/],
];
describe("SMART: messages say what is wrong with the key, and do not show it", () => {
  for (const [name, key, message] of wrongKeys)
    test(name, async () => {
      const failure = await failureOf((await smart(key)).get());
      assert.deepEqual([failure.class, failure.reason], ["terminal", "SourceUnauthorized"], failure.message);
      assert.match(failure.message, message);
      assert.doesNotMatch(`${failure.message} ${JSON.stringify(failure.cause)}`, /SECRET/);
    });
  test("an unknown client, a scope that is not granted, another audience", async () => {
    const unknown = await failureOf((await smart(keys.RS384.privateKey, { clientID: "client-2" })).get());
    assert.match(unknown.message, /invalid_client.*spec\.auth\.smart.*clientID/);
    const scope = await failureOf((await smart(keys.RS384.privateKey, { scope: "system/*.cruds" })).get());
    // The audience of the assertion is the endpoint exactly as it was named.
    const tokenURL = server.tokenURL.replace("127.0.0.1", "localhost");
    const audience = await failureOf((await smart(keys.RS384.privateKey, { tokenURL })).get());
    assert.deepEqual([audience.class, audience.reason], ["terminal", "SourceUnauthorized"]);
    assert.match(server.asked.at(-1)!.why ?? "", /"aud"/);
    assert.match(scope.message, /invalid_scope.*spec\.auth\.smart\.scope/);
  });
});

const configurations: [name: string, answer: Scripted, message: RegExp, kind?: "waiting"][] = [
  [
    "none",
    { status: 404 },
    /no SMART configuration \(404 at http:.*smart-configuration\).*spec\.auth\.smart\.tokenURL/,
  ],
  ["a web page", { body: "<html>", headers: { "content-type": "text/html" } }, /no SMART configuration.*tokenURL/],
  ["no endpoint", { body: "{}" }, /names no token_endpoint.*tokenURL/],
  ["a relative endpoint", { body: '{"token_endpoint":"/token"}' }, /token_endpoint in .* is not an absolute https URL/],
  ["a file", { body: '{"token_endpoint":"file:///etc/passwd"}' }, /is not an absolute https URL/],
  [
    "an endpoint with a user",
    { body: '{"token_endpoint":"https://u:SECRET@h.example/"}' },
    /is not an absolute https URL/,
  ],
  ["what is no JSON, for long", { body: "SECRET", times: "always" }, /not JSON/, "waiting"],
  ["500 for long", { status: 500, times: "always" }, /smart-configuration.*answers 500/, "waiting"],
];
describe("SMART: discovery that does not lead to an endpoint", () => {
  for (const [name, answer, message, kind = "terminal"] of configurations)
    test(name, async () => {
      server.script({ ...answer, at: "discovery" });
      const failure = await failureOf((await smart(keys.RS384.privateKey)).get());
      assert.equal(failure.class, kind);
      assert.match(failure.message, message);
      assert.doesNotMatch(failure.message, /SECRET/);
    });
});

describe("the authorization server of the tests refuses what it must", () => {
  const claims = () => ({
    iss: "client-1",
    sub: "client-1",
    aud: server.tokenURL,
    jti: `${Math.random()}`,
    exp: Math.floor(Date.now() / 1000) + 240,
  });
  const ask = async (
    payload: Record<string, unknown>,
    header: Record<string, string> = {},
    key = keys.ES384.privateKey,
  ) => {
    const assertion = await new SignJWT(payload)
      .setProtectedHeader({ alg: "ES384", kid: "ES384", typ: "JWT", ...header })
      .sign(await importJWK(key, "ES384"));
    const type = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    const body = new URLSearchParams({
      grant_type: "client_credentials",
      scope: "system/*.rs",
      client_assertion_type: type,
      client_assertion: assertion,
    });
    const answer = await fetch(server.tokenURL, { method: "POST", body });
    return [answer.status, server.asked.at(-1)!.why ?? ""] as const;
  };
  const table: [name: string, change: () => Promise<readonly [number, string]>, why: RegExp | undefined][] = [
    ["nothing", () => ask(claims()), undefined],
    ["another audience", () => ask({ ...claims(), aud: "https://else.example/token" }), /"aud"/],
    [
      "an expiry more than 5 minutes ahead",
      () => ask({ ...claims(), exp: Math.floor(Date.now() / 1000) + 310 }),
      /5 minutes/,
    ],
    ["an expiry in the past", () => ask({ ...claims(), exp: Math.floor(Date.now() / 1000) - 5 }), /"exp"/],
    ["no jti", () => ask({ ...claims(), jti: undefined }), /"jti"/],
    ["another subject", () => ask({ ...claims(), sub: "x" }), /"sub"/],
    ["another kid", () => ask(claims(), { kid: "RS384" }), /no applicable key/],
    ["another key", () => ask(claims(), {}, other.privateKey), /signature/],
    ["another type", () => ask(claims(), { typ: "at+jwt" }), /"typ"/],
  ];
  for (const [name, call, why] of table)
    test(name, async () => {
      const [status, said] = await call();
      assert.equal(status, why ? 400 : 200, said);
      assert.match(said, why ?? /^$/);
    });
  test("a replay", async () => {
    const same = claims();
    assert.equal((await ask(same))[0], 200);
    const [status, why] = await ask(same);
    assert.equal(status, 400);
    assert.match(why, /jti was used before/);
  });
});
