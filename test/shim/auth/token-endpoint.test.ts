import assert from "node:assert/strict";
import { join } from "node:path";
import { suite, test } from "node:test";
import { makeAuthority } from "../../../src/shim/auth/authority.ts";
import {
  type Assertion,
  ask,
  assertion,
  audience,
  base,
  bearer,
  clock,
  configOf,
  ec,
  fields,
  folder,
  form,
  formType,
  keyed,
  openAuthority,
  other,
  rsa,
  tokenOf,
} from "./registered.ts";

suite("the token endpoint", () => {
  for (const name of ["rsa", "ec"] as const)
    test(`a token for an assertion that is signed with ${name}`, async () => {
      const authority = openAuthority();
      const key = { rsa, ec }[name];
      const { status, headers, body } = await ask(authority, await assertion({ key }));
      assert.equal(status, 200);
      assert.deepEqual([headers["content-type"], headers["cache-control"]], ["application/json", "no-store"]);
      const { access_token, ...rest } = body as { access_token: string };
      assert.deepEqual(rest, { token_type: "bearer", expires_in: 120, scope: "system/*.rs" });
      assert.deepEqual(await authority.authenticate(bearer(access_token)), {
        kind: "access",
        access: { client: "research", readable: "*", groupScope: true, groups: ["g-*"] },
      });
    });

  test("several audiences", async () => {
    await tokenOf(openAuthority(), { claims: { aud: ["https://elsewhere.example", audience] } });
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
    "expired for longer than clocks differ": {
      made: () => ({ claims: { exp: clock.now / 1000 - 61 } }),
      says: /expired/,
    },
    "exp too far off": { made: () => ({ claims: { exp: clock.now / 1000 + 361 } }), says: /five minutes/ },
    "not yet": { made: () => ({ claims: { nbf: clock.now / 1000 + 90 } }), says: /nbf/ },
    "no jti": { made: () => ({ claims: { jti: undefined } as never }), says: /no jti/ },
    "a jku, where keys are registered inline": {
      made: () => ({ header: { jku: "https://evil.example/jwks" } }),
      says: /jku/,
    },
  };
  for (const [name, { made, jwt, says }] of Object.entries(refused))
    test(`invalid_client: ${name}`, async () => {
      const { status, body } = await ask(openAuthority(), jwt ? await jwt() : await assertion(made!()));
      const { error, error_description } = body as { error: string; error_description: string };
      assert.deepEqual([status, error], [401, "invalid_client"]);
      assert.match(error_description, says);
    });

  test("an assertion can be used once, also when several requests send it at the same time", async () => {
    const authority = openAuthority();
    const jwt = await assertion();
    const answers = await Promise.all([ask(authority, jwt), ask(authority, jwt), ask(authority, jwt)]);
    assert.deepEqual(answers.map(({ status }) => status).sort(), [200, 401, 401]);
    assert.match(JSON.stringify(answers), /used before/);
  });

  test("an assertion that is refused uses up no jti", async () => {
    const authority = openAuthority();
    const claims = { jti: "same" };
    assert.equal((await ask(authority, await assertion({ claims: { ...claims, aud: "x" } }))).status, 401);
    assert.equal((await ask(authority, await assertion({ claims }))).status, 200);
  });

  test("while nobody can tell whether an assertion was used, it gives no token", async () => {
    const replay = { first: async () => Promise.reject(new Error("the API server is away")) };
    const authority = makeAuthority(configOf(), { base, replay, now: () => clock.now });
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
  for (const [name, { body, type: contentType = formType, error }] of Object.entries(requests))
    test(`${error}: ${name}`, async () => {
      const answer = await openAuthority().token(await body(), contentType);
      assert.deepEqual([answer.status, (answer.body as { error: string }).error], [400, error]);
    });

  test("no error repeats what a client has sent", async () => {
    const authority = openAuthority();
    for (const made of [
      { claims: { iss: "SECRET", sub: "SECRET" } },
      { header: { kid: "SECRET" } },
      { claims: { aud: "SECRET" } },
    ])
      assert.doesNotMatch(JSON.stringify(await ask(authority, await assertion(made))), /SECRET/);
    assert.doesNotMatch(JSON.stringify(await ask(authority, "SECRET", "SECRET")), /SECRET/);
  });

  test("a key of the service that is too short gives no token, and says so", async () => {
    const authority = openAuthority({ tokens: { signingKeyFiles: [join(folder, "short.jwk")], seconds: 300 } });
    await assert.rejects(ask(authority, await assertion()), /fewer than 32 bytes/);
  });
});
