// An authority with registered clients, their keys, a server of keys and a clock that tests move. Importing this
// registers hooks that make and remove them.
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before } from "node:test";
import { exportJWK, generateKeyPair, type JWK, type JWTPayload, SignJWT } from "jose";
import { type Authority, makeAuthority } from "../../../src/shim/auth/authority.ts";
import { type AuthConfig, parseAuthConfig } from "../../../src/shim/auth/config.ts";
import { memoryReplay } from "./memory-replay.ts";

export const base = "https://export.example/fhir";
export const audience = `${base}/auth/token`;
type Pair = Awaited<ReturnType<typeof generateKeyPair>>;
export interface Keyed {
  pair: Pair;
  alg: string;
  public: JWK;
}
export async function keyed(alg: string, kid: string): Promise<Keyed> {
  const pair = await generateKeyPair(alg, { extractable: true });
  return { pair, alg, public: { ...(await exportJWK(pair.publicKey)), kid, alg } };
}

export let rsa: Keyed;
export let ec: Keyed;
export let other: Keyed;
export let folder: string;
let keyServer: Server;
export let keysURL: string;
/** What the key server answers. */
export const served = { keys: [] as JWK[], headers: {} as Record<string, string>, status: 200, requests: 0 };
/** The time of the service, in milliseconds. */
export const clock = { now: Date.parse("2026-03-01T12:00:00Z") };

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

export const configOf = (more: Partial<AuthConfig> = {}) =>
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
export const openAuthority = (more: Partial<AuthConfig> = {}) =>
  makeAuthority(configOf(more), { base, replay: memoryReplay(), now: () => clock.now });

let number = 0;
export interface Assertion {
  key?: Keyed;
  header?: Record<string, unknown>;
  claims?: JWTPayload;
}
export async function assertion({ key = ec, header = {}, claims = {} }: Assertion = {}): Promise<string> {
  const now = clock.now / 1000;
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
export const formType = "application/x-www-form-urlencoded";
export const form = (fields: Record<string, string> | [string, string][]) =>
  Buffer.from(new URLSearchParams(fields).toString());
export const fields = (jwt: string, scope = "system/*.rs") => ({
  grant_type: "client_credentials",
  scope,
  client_assertion_type: "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
  client_assertion: jwt,
});
export const ask = async (authority: Authority, jwt: string, scope?: string) =>
  authority.token(form(fields(jwt, scope)), formType);
export const tokenOf = async (authority: Authority, made: Assertion = {}, scope?: string) => {
  const { status, body } = await ask(authority, await assertion(made), scope);
  assert.equal(status, 200, JSON.stringify(body));
  return (body as { access_token: string }).access_token;
};
export const bearer = (token: string) => `Bearer ${token}`;
