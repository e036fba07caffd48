import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { suite, test } from "node:test";
import { parseSettings } from "../../../src/shim/settings.ts";

const client = { id: "a", jwksURL: "https://example.org/jwks", scopes: "system/*.rs" };
const tokens = { signingKeyFiles: ["/run/key.jwk"] };
const parse = (auth: unknown) => parseSettings(JSON.stringify({ auth })).auth;

suite("auth of the configuration", () => {
  test("defaults", () => {
    assert.deepEqual(parse({ tokens, clients: [client] }), {
      tokens: { ...tokens, seconds: 300 },
      clients: [client],
      groupScope: "Assumed",
    });
    assert.deepEqual(parse({ issuer: { url: "https://login.example", audience: "x" } }), {
      issuer: { url: "https://login.example", audience: "x", clientClaim: "client_id" },
      groupScope: "Assumed",
    });
  });

  const cases: Record<string, { auth: unknown; says: RegExp }> = {
    "neither tokens nor issuer": { auth: {}, says: /either tokens and clients, or issuer/ },
    "tokens without clients": { auth: { tokens }, says: /either tokens and clients/ },
    both: { auth: { tokens, clients: [client], issuer: { url: "https://x.example", audience: "a" } }, says: /either/ },
    "an unknown field": {
      auth: { tokens, clients: [client], jwks: 1 },
      says: /auth must NOT have additional properties \(jwks\)/,
    },
    "an unknown field of a client": {
      auth: { tokens, clients: [{ ...client, secret: "S" }] },
      says: /auth\.clients\.0 must NOT have additional properties \(secret\)/,
    },
    "tokens that live too long": {
      auth: { tokens: { ...tokens, seconds: 301 }, clients: [client] },
      says: /auth\.tokens\.seconds must be <= 300/,
    },
    "three keys": {
      auth: { tokens: { signingKeyFiles: ["a", "b", "c"] }, clients: [client] },
      says: /signingKeyFiles must NOT have more than 2/,
    },
    "a client without keys": {
      auth: { tokens, clients: [{ id: "a", scopes: "x" }] },
      says: /auth\.clients\.0 must have exactly one of jwks and jwksURL/,
    },
    "a client with two sorts of keys": {
      auth: { tokens, clients: [{ ...client, jwks: { keys: [{ kty: "EC" }] } }] },
      says: /must have exactly one of jwks and jwksURL/,
    },
    "a private key": {
      auth: { tokens, clients: [{ id: "a", scopes: "x", jwks: { keys: [{ kty: "EC", d: "SECRET" }] } }] },
      says: /private key; register the public key/,
    },
    "a client twice": {
      auth: { tokens, clients: [client, client] },
      says: /auth\.clients\.1\.id is the id of an earlier client/,
    },
    "http for keys": {
      auth: { tokens, clients: [{ ...client, jwksURL: "http://example.org/jwks" }] },
      says: /auth\.clients\.0\.jwksURL must match/,
    },
    "keys of a client of an issuer": {
      auth: { issuer: { url: "https://x.example", audience: "a" }, clients: [client] },
      says: /auth\.clients\.0 has jwks or jwksURL, which only auth\.tokens uses/,
    },
  };
  for (const [name, { auth, says }] of Object.entries(cases))
    test(name, () =>
      assert.throws(
        () => parse(auth),
        ({ message }: Error) => says.test(message) && !message.includes("SECRET"),
      ),
    );
});

suite("the configuration", () => {
  test("docs/shim.yaml is one, and has every setting", () => {
    const settings = parseSettings(readFileSync("docs/shim.yaml", "utf8"));
    assert.deepEqual(Object.keys(settings).sort(), [
      "accept",
      "allow",
      "auth",
      "compat",
      "exports",
      "files",
      "limits",
      "prefer",
    ]);
    assert.equal(settings.auth!.clients!.length, 2);
  });

  test("everything has a default", () => {
    const { auth, ...settings } = parseSettings("");
    assert.equal(auth, undefined);
    assert.deepEqual(settings, {
      compat: "ig",
      accept: "Required",
      prefer: "Required",
      files: { delivery: "Stream", redirectSeconds: 300 },
      limits: { exportsPerClient: 10, pollsPerMinute: 1200 },
      allow: {},
      exports: {},
    });
  });
  test("what is given counts, and what is beside it keeps its default", () => {
    const { limits, exports } = parseSettings(
      "limits: { pollsPerMinute: 6 }\nexports: { output: { compression: Gzip } }",
    );
    assert.deepEqual(
      [limits, exports],
      [{ exportsPerClient: 10, pollsPerMinute: 6 }, { output: { compression: "Gzip" } }],
    );
  });
  const cases: Record<string, { text: string; says: RegExp }> = {
    "no YAML": { text: "a: [", says: /is not YAML/ },
    "a list": { text: "- a", says: /must be object/ },
    "an unknown field": { text: "limit: {}", says: /additional properties \(limit\)/ },
    "a field of an export that a request decides": {
      text: "exports: { types: [Patient] }",
      says: /exports .*\(types\)/,
    },
    "another word": {
      text: "files: { delivery: Redirected }",
      says: /files\.delivery must be equal to one of the allowed values: Stream,Redirect/,
    },
    "a number out of its range": {
      text: "files: { redirectSeconds: 5 }",
      says: /files\.redirectSeconds must be >= 10/,
    },
  };
  for (const [name, { text, says }] of Object.entries(cases))
    test(name, () => assert.throws(() => parseSettings(text), says));
});
