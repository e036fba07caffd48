import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { exportJWK, generateKeyPair, type JWK, type JWTPayload, SignJWT } from "jose";
import { type Access, type Authority, makeAuthority } from "../../../src/shim/auth/authority.ts";
import { type AuthConfig, parseAuthConfig } from "../../../src/shim/auth/config.ts";
import type { HttpAnswer } from "../../../src/shim/outcome.ts";
import { memoryReplay } from "./memory-replay.ts";

const base = "https://export.example/fhir";
const audience = `${base}/auth/token`;
type Pair = Awaited<ReturnType<typeof generateKeyPair>>;
interface Keyed {
  pair: Pair;
  alg: string;
  public: JWK;
}
async function keyed(alg: string, kid: string): Promise<Keyed> {
  const pair = await generateKeyPair(alg, { extractable: true });
  return { pair, alg, public: { ...(await exportJWK(pair.publicKey)), kid, alg } };
}

let rsa: Keyed;
let ec: Keyed;
let other: Keyed;
let folder: string;
let keyServer: Server;
let keysURL: string;
/** what the key server answers */
const served = { keys: [] as JWK[], headers: {} as Record<string, string>, status: 200, requests: 0 };
let clock = Date.parse("2026-03-01T12:00:00Z");

before(async () => {
  [rsa, ec, other] = await Promise.all([keyed("RS384", "rsa-1"), keyed("ES384", "ec-1"), keyed("ES384", "other-1")]);
  folder = await mkdtemp(join(tmpdir(), "fhir-export-auth-"));
  const secret = { kty: "oct", k: Buffer.alloc(32, 7).toString("base64url") };
  await writeFile(join(folder, "key.jwk"), JSON.stringify(secret));
  await writeFile(join(folder, "old.jwk"), JSON.stringify({ ...secret, k: Buffer.alloc(32, 8).toString("base64url") }));
  await writeFile(
    join(folder, "ec.jwk"),
    JSON.stringify(await exportJWK((await generateKeyPair("ES256", { extractable: true })).privateKey)),
  );
  await writeFile(join(folder, "short.jwk"), JSON.stringify({ kty: "oct", k: "c2hvcnQ" }));
  keyServer = createServer((_request, response) => {
    served.requests += 1;
    response.writeHead(served.status, { "content-type": "application/json", ...served.headers });
    response.end(JSON.stringify({ keys: served.keys }));
  });
  await new Promise<void>((resolve) => keyServer.listen(0, "127.0.0.1", resolve));
  keysURL = `http://127.0.0.1:${(keyServer.address() as AddressInfo).port}/jwks`;
});
after(async () => {
  keyServer?.close();
  await rm(folder, { recursive: true, force: true });
});

const configOf = (more: Partial<AuthConfig> = {}) =>
  parseAuthConfig({
    tokens: { signingKeyFiles: [join(folder, "key.jwk")], seconds: 120 },
    clients: [
      { id: "research", jwks: { keys: [rsa.public, ec.public] }, scopes: "system/*.rs", groups: ["g-*"] },
      { id: "remote", jwksURL: keysURL, scopes: "system/Patient.rs" },
      { id: "gone", jwks: { keys: [ec.public] }, scopes: "system/*.rs", disabled: true },
    ],
    groupScope: "Required",
    ...more,
  });
const open = (more: Partial<AuthConfig> = {}) =>
  makeAuthority(configOf(more), { base, replay: memoryReplay(), now: () => clock });

let number = 0;
interface Assertion {
  key?: Keyed;
  header?: Record<string, unknown>;
  claims?: JWTPayload;
}
async function assertion({ key = ec, header = {}, claims = {} }: Assertion = {}): Promise<string> {
  const now = clock / 1000;
  const payload = {
    iss: "research",
    sub: "research",
    aud: audience,
    exp: now + 240,
    jti: `jti-${++number}`,
    ...claims,
  };
  return new SignJWT(payload)
    .setProtectedHeader({ alg: key.alg, kid: key.public.kid!, typ: "JWT", ...header } as never)
    .sign(key.pair.privateKey);
}
const type = "application/x-www-form-urlencoded";
const form = (fields: Record<string, string> | [string, string][]) =>
  Buffer.from(new URLSearchParams(fields).toString());
const fields = (jwt: string, scope = "system/*.rs") => ({
  grant_type: "client_credentials",
  scope,
  client_assertion_type: "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
  client_assertion: jwt,
});
const ask = async (authority: Authority, jwt: string, scope?: string) =>
  authority.token(form(fields(jwt, scope)), type);
const tokenOf = async (authority: Authority, made: Assertion = {}, scope?: string) => {
  const { status, body } = await ask(authority, await assertion(made), scope);
  assert.equal(status, 200, JSON.stringify(body));
  return (body as { access_token: string }).access_token;
};
const isAnswer = (answer: Access | HttpAnswer): answer is HttpAnswer => "status" in answer;
const bearer = (token: string) => `Bearer ${token}`;

suite("the token endpoint", () => {
  for (const name of ["rsa", "ec"] as const)
    test(`a token for an assertion that is signed with ${name}`, async () => {
      const authority = open();
      const key = { rsa, ec }[name];
      const { status, headers, body } = await ask(authority, await assertion({ key }));
      assert.equal(status, 200);
      assert.deepEqual([headers["content-type"], headers["cache-control"]], ["application/json", "no-store"]);
      const { access_token, ...rest } = body as { access_token: string };
      assert.deepEqual(rest, { token_type: "bearer", expires_in: 120, scope: "system/*.rs" });
      assert.deepEqual(await authority.authenticate(bearer(access_token)), {
        client: "research",
        readable: "*",
        groupScope: true,
        groups: ["g-*"],
      });
    });

  test("several audiences", async () => {
    await tokenOf(open(), { claims: { aud: ["https://elsewhere.example", audience] } });
  });

  const refused: Record<string, { made?: () => Assertion; jwt?: () => Promise<string>; says: RegExp }> = {
    "no JWT": { jwt: async () => "x.y", says: /not a JWT/ },
    "another algorithm": {
      jwt: async () => assertion({ key: await keyed("RS256", "rsa-1") }),
      says: /RS384 or ES384/,
    },
    "no algorithm": {
      jwt: async () => {
        const [, payload] = (await assertion()).split(".");
        return `${Buffer.from('{"alg":"none","kid":"ec-1","typ":"JWT"}').toString("base64url")}.${payload}.`;
      },
      says: /RS384 or ES384/,
    },
    "no kid": { made: () => ({ header: { kid: undefined } }), says: /no kid/ },
    "a kid that nobody knows": { made: () => ({ header: { kid: "x" } }), says: /not registered a key/ },
    "the kid of a key of another kind": { made: () => ({ header: { kid: "rsa-1" } }), says: /not registered a key/ },
    "another key of the same kid": { made: () => ({ key: other, header: { kid: "ec-1" } }), says: /signature/ },
    "another typ": { made: () => ({ header: { typ: "at+jwt" } }), says: /typ JWT/ },
    "iss that is not sub": { made: () => ({ claims: { sub: "remote" } }), says: /iss and sub/ },
    "no iss": { made: () => ({ claims: { iss: undefined, sub: undefined } as never }), says: /iss and sub/ },
    "a client that nobody knows": { made: () => ({ claims: { iss: "x", sub: "x" } }), says: /not registered/ },
    "a client that is disabled": { made: () => ({ claims: { iss: "gone", sub: "gone" } }), says: /not registered/ },
    "the audience of another server": { made: () => ({ claims: { aud: `${base}/auth` } }), says: /aud/ },
    "no exp": { made: () => ({ claims: { exp: undefined } as never }), says: /no exp/ },
    "expired for longer than clocks differ": { made: () => ({ claims: { exp: clock / 1000 - 61 } }), says: /expired/ },
    "exp too far off": { made: () => ({ claims: { exp: clock / 1000 + 361 } }), says: /five minutes/ },
    "not yet": { made: () => ({ claims: { nbf: clock / 1000 + 90 } }), says: /nbf/ },
    "no jti": { made: () => ({ claims: { jti: undefined } as never }), says: /no jti/ },
    "a jku, where keys are registered inline": {
      made: () => ({ header: { jku: "https://evil.example/jwks" } }),
      says: /jku/,
    },
  };
  for (const [name, { made, jwt, says }] of Object.entries(refused))
    test(`invalid_client: ${name}`, async () => {
      const { status, body } = await ask(open(), jwt ? await jwt() : await assertion(made!()));
      const { error, error_description } = body as { error: string; error_description: string };
      assert.deepEqual([status, error], [401, "invalid_client"]);
      assert.match(error_description, says);
    });

  test("an assertion is good once, also while it is asked for twice at the same time", async () => {
    const authority = open();
    const jwt = await assertion();
    const answers = await Promise.all([ask(authority, jwt), ask(authority, jwt), ask(authority, jwt)]);
    assert.deepEqual(answers.map(({ status }) => status).sort(), [200, 401, 401]);
    assert.match(JSON.stringify(answers), /used before/);
  });

  test("an assertion that is refused uses up no jti", async () => {
    const authority = open();
    const claims = { jti: "same" };
    assert.equal((await ask(authority, await assertion({ claims: { ...claims, aud: "x" } }))).status, 401);
    assert.equal((await ask(authority, await assertion({ claims }))).status, 200);
  });

  test("where it cannot be told whether an assertion was used, nobody gets a token", async () => {
    const replay = { first: async () => Promise.reject(new Error("the API server is away")) };
    const authority = makeAuthority(configOf(), { base, replay, now: () => clock });
    await assert.rejects(ask(authority, await assertion()));
  });

  const requests: Record<string, { body: () => Promise<Buffer>; type?: string; error: string }> = {
    "another content type": {
      body: async () => form(fields(await assertion())),
      type: "application/json",
      error: "invalid_request",
    },
    "no grant type": { body: async () => form({ scope: "x" }), error: "invalid_request" },
    "another grant type": {
      body: async () => form({ ...fields(await assertion()), grant_type: "password" }),
      error: "unsupported_grant_type",
    },
    "another assertion type": {
      body: async () => form({ ...fields("x"), client_assertion_type: "x" }),
      error: "invalid_request",
    },
    "no assertion": { body: async () => form(fields("")), error: "invalid_request" },
    "a parameter twice": {
      body: async () =>
        form([...Object.entries(fields(await assertion())), ["scope", "system/*.rs"]] as [string, string][]),
      error: "invalid_request",
    },
    "no scope": { body: async () => form(fields(await assertion(), "")), error: "invalid_scope" },
    "scopes that are not for this": {
      body: async () => form(fields(await assertion(), "openid")),
      error: "invalid_scope",
    },
    "a scope with a search": {
      body: async () => form(fields(await assertion(), "system/Patient.rs?active=true")),
      error: "invalid_scope",
    },
  };
  for (const [name, { body, type: contentType = type, error }] of Object.entries(requests))
    test(`${error}: ${name}`, async () => {
      const answer = await open().token(await body(), contentType);
      assert.deepEqual([answer.status, (answer.body as { error: string }).error], [400, error]);
    });

  test("what a client has sent is in no error", async () => {
    const authority = open();
    for (const made of [
      { claims: { iss: "SECRET", sub: "SECRET" } },
      { header: { kid: "SECRET" } },
      { claims: { aud: "SECRET" } },
    ])
      assert.doesNotMatch(JSON.stringify(await ask(authority, await assertion(made))), /SECRET/);
    assert.doesNotMatch(JSON.stringify(await ask(authority, "SECRET", "SECRET")), /SECRET/);
  });

  test("a key of the service that is too short gives no token, and says so", async () => {
    const authority = open({ tokens: { signingKeyFiles: [join(folder, "short.jwk")], seconds: 300 } });
    await assert.rejects(ask(authority, await assertion()), /fewer than 32 bytes/);
  });
});

suite("keys at a URL", () => {
  const remote = (key: Keyed): Assertion => ({ key, claims: { iss: "remote", sub: "remote" } });
  const serve = (keys: Keyed[], headers: Record<string, string> = {}, status = 200) =>
    Object.assign(served, { keys: keys.map((key) => key.public), headers, status, requests: 0 });

  test("are kept as long as their owner says, and not longer", async () => {
    serve([ec], { "cache-control": "max-age=60" });
    const authority = open();
    await tokenOf(authority, remote(ec));
    await tokenOf(authority, remote(ec));
    assert.equal(served.requests, 1);
    clock += 61_000;
    await tokenOf(authority, remote(ec));
    assert.equal(served.requests, 2);
  });

  test("no-store: asked for each time", async () => {
    serve([ec], { "cache-control": "no-store" });
    const authority = open();
    await tokenOf(authority, remote(ec));
    await tokenOf(authority, remote(ec));
    assert.equal(served.requests, 2);
  });

  test("a new key is found, but junk does not make us hammer its owner", async () => {
    serve([ec], { "cache-control": "max-age=3600" });
    const authority = open();
    await tokenOf(authority, remote(ec));
    for (let n = 0; n < 5; n++) assert.equal((await ask(authority, await assertion(remote(other)))).status, 401);
    assert.equal(served.requests, 1);
    served.keys = [ec.public, other.public];
    clock += 31_000;
    await tokenOf(authority, remote(other));
    assert.equal(served.requests, 2);
  });

  test("a withdrawn key is not taken after an hour, whatever its owner said", async () => {
    serve([ec], { "cache-control": "max-age=31536000" });
    const authority = open();
    await tokenOf(authority, remote(ec));
    served.keys = [other.public];
    clock += 3_601_000;
    assert.equal((await ask(authority, await assertion(remote(ec)))).status, 401);
  });

  test("two keys of one kid are none", async () => {
    serve([ec, { ...other, public: { ...other.public, kid: "ec-1" } }]);
    const { status, body } = await ask(open(), await assertion(remote(ec)));
    assert.deepEqual([status, /more than one/.test(JSON.stringify(body))], [401, true]);
  });

  test("a jku that is the registered URL is fine, another is not", async () => {
    serve([ec]);
    const authority = open();
    await tokenOf(authority, { ...remote(ec), header: { jku: keysURL } });
    assert.equal(
      (await ask(authority, await assertion({ ...remote(ec), header: { jku: `${keysURL}2` } }))).status,
      401,
    );
  });

  for (const [name, headers, status] of [
    ["an error", {}, 500],
    ["a redirect", { location: "http://127.0.0.1/" }, 302],
  ] as const)
    test(`${name} is the owner's trouble: no 401`, async () => {
      serve([ec], headers, status);
      await assert.rejects(ask(open(), await assertion(remote(ec))), /cannot be had/);
    });
});

suite("access tokens", () => {
  for (const [name, authorization] of Object.entries({
    none: undefined,
    "an empty one": "Bearer ",
    "basic authentication": "Basic dTpw",
  }))
    test(`R5, ${name}: 401 without an error code`, async () => {
      const answer = await open().authenticate(authorization);
      assert(isAnswer(answer));
      assert.deepEqual([answer.status, answer.headers["www-authenticate"]], [401, 'Bearer realm="fhir-export"']);
      assert.equal((answer.body as { resourceType: string }).resourceType, "OperationOutcome");
    });

  test("wrong, cut, of another server or for something else: 401 invalid_token", async () => {
    const authority = open();
    const token = await tokenOf(authority);
    const elsewhere = makeAuthority(configOf(), { base: `${base}2`, replay: memoryReplay(), now: () => clock });
    const foreign = await ask(elsewhere, await assertion({ claims: { aud: `${base}2/auth/token` } }));
    const all = [
      "x",
      `${token}x`,
      token.slice(0, -2),
      (foreign.body as { access_token: string }).access_token,
      await assertion(),
    ];
    for (const one of all) {
      const answer = await authority.authenticate(bearer(one));
      assert(isAnswer(answer), one);
      assert.match(answer.headers["www-authenticate"]!, /error="invalid_token"/);
    }
  });

  test("end with their time", async () => {
    const authority = open();
    const token = await tokenOf(authority);
    clock += 119_000;
    assert(!isAnswer(await authority.authenticate(bearer(token))));
    clock += 2000;
    assert(isAnswer(await authority.authenticate(bearer(token))));
  });

  test("of a client that is removed or disabled end at once, and registered scopes narrow them", async () => {
    const token = await tokenOf(open());
    const clients = (more: object[]) => open({ clients: more as never });
    const key = { jwks: { keys: [ec.public] } };
    assert(isAnswer(await clients([{ id: "x", ...key, scopes: "system/*.rs" }]).authenticate(bearer(token))));
    assert(
      isAnswer(
        await clients([{ id: "research", ...key, scopes: "system/*.rs", disabled: true }]).authenticate(bearer(token)),
      ),
    );
    const narrowed = await clients([{ id: "research", ...key, scopes: "system/Patient.rs" }]).authenticate(
      bearer(token),
    );
    assert.deepEqual((narrowed as Access).readable, ["Patient"]);
  });

  test("are taken from every replica, also while the service's key is rotated", async () => {
    const [fresh, old] = [join(folder, "key.jwk"), join(folder, "old.jwk")];
    const before = open({ tokens: { signingKeyFiles: [old], seconds: 300 } });
    const during = open({ tokens: { signingKeyFiles: [fresh, old], seconds: 300 } });
    const done = open({ tokens: { signingKeyFiles: [fresh], seconds: 300 } });
    const token = await tokenOf(before);
    assert(!isAnswer(await during.authenticate(bearer(token))));
    assert(isAnswer(await done.authenticate(bearer(token))));
    assert(!isAnswer(await done.authenticate(bearer(await tokenOf(during)))));
  });

  test("may be signed with an EC key", async () => {
    const authority = open({ tokens: { signingKeyFiles: [join(folder, "ec.jwk")], seconds: 300 } });
    assert(!isAnswer(await authority.authenticate(bearer(await tokenOf(authority)))));
  });
});

suite("tokens of an authorization server", () => {
  const issuer = "https://login.example";
  const config = (more: object = {}): AuthConfig =>
    parseAuthConfig({
      issuer: { url: issuer, jwksURL: keysURL, audience: "api://export" },
      groupScope: "Required",
      ...more,
    });
  const openIssuer = (more: object = {}) =>
    makeAuthority(config(more), { base, replay: memoryReplay(), now: () => clock });
  const token = (claims: JWTPayload = {}, key = rsa) =>
    new SignJWT({
      iss: issuer,
      aud: "api://export",
      client_id: "etl",
      scope: "system/*.rs",
      exp: clock / 1000 + 300,
      ...claims,
    })
      .setProtectedHeader({ alg: key.alg, kid: key.public.kid! })
      .sign(key.pair.privateKey);
  before(() => Object.assign(served, { keys: [rsa.public], headers: {}, status: 200 }));

  test("are taken, with scope, scp or roles, as text or list", async () => {
    const authority = openIssuer();
    for (const claims of [
      {},
      { scope: undefined, scp: "system/*.rs" },
      { scope: undefined, scp: ["system/*.rs", "x"] },
      { scope: undefined, roles: ["system/*.rs"] },
    ] as JWTPayload[])
      assert.deepEqual(await authority.authenticate(bearer(await token(claims))), {
        client: "etl",
        readable: "*",
        groupScope: true,
      });
  });

  const cases: Record<string, () => Promise<string>> = {
    "another issuer": () => token({ iss: "https://evil.example" }),
    "another audience": () => token({ aud: "api://other" }),
    "no client": () => token({ client_id: undefined } as never),
    expired: () => token({ exp: clock / 1000 - 61 }),
    "another key": () => token({}, other),
    "a symmetric key": () =>
      new SignJWT({ iss: issuer, aud: "api://export", client_id: "etl", exp: clock / 1000 + 300 })
        .setProtectedHeader({ alg: "HS256", kid: "rsa-1" })
        .sign(Buffer.alloc(64)),
  };
  for (const [name, make] of Object.entries(cases))
    test(`${name}: 401`, async () => assert(isAnswer(await openIssuer().authenticate(bearer(await make())))));

  test("clients that are listed are the only ones, within their limits", async () => {
    const authority = openIssuer({ clients: [{ id: "etl", scopes: "system/Patient.rs", groups: ["g"] }] });
    assert.deepEqual(await authority.authenticate(bearer(await token())), {
      client: "etl",
      readable: ["Patient"],
      groupScope: true,
      groups: ["g"],
    });
    assert(isAnswer(await authority.authenticate(bearer(await token({ client_id: "x" })))));
  });

  test("keys that cannot be had are no reason for a 401", async () => {
    served.status = 503;
    await assert.rejects(openIssuer().authenticate(bearer(await token())), /cannot be had/);
    served.status = 200;
  });

  test("it gives out no tokens of its own", async () => {
    assert.equal((await openIssuer().token(Buffer.alloc(0), type)).status, 404);
    assert.equal((openIssuer().smartConfiguration() as { token_endpoint?: string }).token_endpoint, undefined);
  });
});

test("smart-configuration has what SMART 2.2 wants of a backend server, in absolute URLs", () => {
  assert.deepEqual(open().smartConfiguration(), {
    token_endpoint: audience,
    token_endpoint_auth_methods_supported: ["private_key_jwt"],
    token_endpoint_auth_signing_alg_values_supported: ["RS384", "ES384"],
    grant_types_supported: ["client_credentials"],
    code_challenge_methods_supported: ["S256"],
    scopes_supported: ["system/*.rs", "system/Patient.rs"],
    capabilities: ["client-confidential-asymmetric", "permission-v1", "permission-v2"],
  });
});
