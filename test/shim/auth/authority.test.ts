import assert from "node:assert/strict";
import { join } from "node:path";
import { before, suite, test } from "node:test";
import { type JWTPayload, SignJWT } from "jose";
import { type Authentication, makeAuthority } from "../../../src/shim/auth/authority.ts";
import { type AuthConfig, parseAuthConfig } from "../../../src/shim/auth/config.ts";
import { memoryReplay } from "./memory-replay.ts";
import {
  ask,
  assertion,
  audience,
  base,
  bearer,
  clock,
  configOf,
  ec,
  folder,
  formType,
  keysURL,
  openAuthority,
  other,
  rsa,
  served,
  tokenOf,
} from "./registered.ts";

type Refused = Extract<Authentication, { kind: "refused" }>;
const isRefused = (found: Authentication): found is Refused => found.kind === "refused";

suite("access tokens", () => {
  for (const [name, authorization] of Object.entries({
    none: undefined,
    "an empty one": "Bearer ",
    "basic authentication": "Basic dTpw",
  }))
    test(`R5, ${name}: 401 without an error code`, async () => {
      const found = await openAuthority().authenticate(authorization);
      assert(isRefused(found));
      const { answer } = found;
      assert.deepEqual([answer.status, answer.headers["www-authenticate"]], [401, 'Bearer realm="fhir-export"']);
      assert.equal((answer.body as { resourceType: string }).resourceType, "OperationOutcome");
    });

  test("wrong, cut, of another server or for something else: 401 invalid_token", async () => {
    const authority = openAuthority();
    const token = await tokenOf(authority);
    const elsewhere = makeAuthority(configOf(), { base: `${base}2`, replay: memoryReplay(), now: () => clock.now });
    const foreign = await ask(elsewhere, await assertion({ claims: { aud: `${base}2/auth/token` } }));
    const all = [
      "x",
      `${token}x`,
      token.slice(0, -2),
      (foreign.body as { access_token: string }).access_token,
      await assertion(),
    ];
    for (const one of all) {
      const found = await authority.authenticate(bearer(one));
      assert(isRefused(found), one);
      assert.match(found.answer.headers["www-authenticate"]!, /error="invalid_token"/);
    }
  });

  test("end with their time", async () => {
    const authority = openAuthority();
    const token = await tokenOf(authority);
    clock.now += 119_000;
    assert(!isRefused(await authority.authenticate(bearer(token))));
    clock.now += 2000;
    assert(isRefused(await authority.authenticate(bearer(token))));
  });

  test("of a client that is removed or disabled end at once, and registered scopes narrow them", async () => {
    const token = await tokenOf(openAuthority());
    const clients = (more: object[]) => openAuthority({ clients: more as never });
    const key = { jwks: { keys: [ec.public] } };
    assert(isRefused(await clients([{ id: "x", ...key, scopes: "system/*.rs" }]).authenticate(bearer(token))));
    assert(
      isRefused(
        await clients([{ id: "research", ...key, scopes: "system/*.rs", disabled: true }]).authenticate(bearer(token)),
      ),
    );
    const narrowed = await clients([{ id: "research", ...key, scopes: "system/Patient.rs" }]).authenticate(
      bearer(token),
    );
    assert(!isRefused(narrowed));
    assert.deepEqual(narrowed.access.readable, ["Patient"]);
  });

  test("are taken from every replica, also while the service's key is rotated", async () => {
    const [fresh, old] = [join(folder, "key.jwk"), join(folder, "old.jwk")];
    const before = openAuthority({ tokens: { signingKeyFiles: [old], seconds: 300 } });
    const during = openAuthority({ tokens: { signingKeyFiles: [fresh, old], seconds: 300 } });
    const done = openAuthority({ tokens: { signingKeyFiles: [fresh], seconds: 300 } });
    const token = await tokenOf(before);
    assert(!isRefused(await during.authenticate(bearer(token))));
    assert(isRefused(await done.authenticate(bearer(token))));
    assert(!isRefused(await done.authenticate(bearer(await tokenOf(during)))));
  });

  test("may be signed with an EC key", async () => {
    const authority = openAuthority({ tokens: { signingKeyFiles: [join(folder, "ec.jwk")], seconds: 300 } });
    assert(!isRefused(await authority.authenticate(bearer(await tokenOf(authority)))));
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
    makeAuthority(config(more), { base, replay: memoryReplay(), now: () => clock.now });
  const token = (claims: JWTPayload = {}, key = rsa) =>
    new SignJWT({
      iss: issuer,
      aud: "api://export",
      client_id: "etl",
      scope: "system/*.rs",
      exp: clock.now / 1000 + 300,
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
        kind: "access",
        access: { client: "etl", readable: "*", groupScope: true },
      });
  });

  const cases: Record<string, () => Promise<string>> = {
    "another issuer": () => token({ iss: "https://evil.example" }),
    "another audience": () => token({ aud: "api://other" }),
    "no client": () => token({ client_id: undefined } as never),
    expired: () => token({ exp: clock.now / 1000 - 61 }),
    "another key": () => token({}, other),
    "a symmetric key": () =>
      new SignJWT({ iss: issuer, aud: "api://export", client_id: "etl", exp: clock.now / 1000 + 300 })
        .setProtectedHeader({ alg: "HS256", kid: "rsa-1" })
        .sign(Buffer.alloc(64)),
  };
  for (const [name, make] of Object.entries(cases))
    test(`${name}: 401`, async () => assert(isRefused(await openIssuer().authenticate(bearer(await make())))));

  test("clients that are listed are the only ones, within their limits", async () => {
    const authority = openIssuer({ clients: [{ id: "etl", scopes: "system/Patient.rs", groups: ["g"] }] });
    assert.deepEqual(await authority.authenticate(bearer(await token())), {
      kind: "access",
      access: { client: "etl", readable: ["Patient"], groupScope: true, groups: ["g"] },
    });
    assert(isRefused(await authority.authenticate(bearer(await token({ client_id: "x" })))));
  });

  test("keys that cannot be fetched are no reason for a 401", async () => {
    served.status = 503;
    await assert.rejects(openIssuer().authenticate(bearer(await token())), /cannot be fetched/);
    served.status = 200;
  });

  test("it gives out no tokens of its own", async () => {
    assert.equal((await openIssuer().token(Buffer.alloc(0), formType)).status, 404);
    assert.equal((openIssuer().smartConfiguration() as { token_endpoint?: string }).token_endpoint, undefined);
  });
});

test("smart-configuration has what SMART 2.2 wants of a backend server, in absolute URLs", () => {
  assert.deepEqual(openAuthority().smartConfiguration(), {
    token_endpoint: audience,
    token_endpoint_auth_methods_supported: ["private_key_jwt"],
    token_endpoint_auth_signing_alg_values_supported: ["RS384", "ES384"],
    grant_types_supported: ["client_credentials"],
    code_challenge_methods_supported: ["S256"],
    scopes_supported: ["system/*.rs", "system/Patient.rs"],
    capabilities: ["client-confidential-asymmetric", "permission-v1", "permission-v2"],
  });
});
