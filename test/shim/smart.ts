// The HTTP service with SMART Backend Services on, wherever it runs: called from contract.ts.
import assert from "node:assert/strict";
import { randomUUID, type webcrypto } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { expected } from "../sources/expected.ts";
import { until } from "../tools/until.ts";
import { BulkClient, type KickOff, type Refused } from "./bulk-client.ts";
import type { Backend } from "./contract-calls.ts";

const grantForm = {
  grant_type: "client_credentials",
  client_assertion_type: "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
};

/** A registered client: asks for tokens as SMART Backend Services says, and keeps them while they are good. */
class SmartClient {
  readonly id: string;
  readonly jwks: object;
  readonly #key: webcrypto.CryptoKey;
  readonly #alg: string;
  #endpoint = "";

  private constructor(id: string, alg: string, key: webcrypto.CryptoKey, jwk: object) {
    this.id = id;
    this.#alg = alg;
    this.#key = key;
    this.jwks = { keys: [jwk] };
  }

  static async make(id: string, alg: "RS384" | "ES384"): Promise<SmartClient> {
    const { publicKey, privateKey } = await generateKeyPair(alg);
    return new SmartClient(id, alg, privateKey, { ...(await exportJWK(publicKey)), kid: id, alg });
  }

  async discover(base: string): Promise<void> {
    const answer = await fetch(`${base}/.well-known/smart-configuration`, { headers: { accept: "text/html" } });
    assert.equal(answer.headers.get("content-type")?.split(";")[0], "application/json");
    const found = (await answer.json()) as {
      token_endpoint: string;
      capabilities: string[];
      grant_types_supported: string[];
    };
    assert(
      found.capabilities.includes("client-confidential-asymmetric") &&
        found.grant_types_supported.includes("client_credentials"),
    );
    this.#endpoint = found.token_endpoint;
  }

  assertion(): Promise<string> {
    return new SignJWT({})
      .setProtectedHeader({ alg: this.#alg, kid: this.id, typ: "JWT" })
      .setIssuer(this.id)
      .setSubject(this.id)
      .setAudience(this.#endpoint)
      .setJti(randomUUID())
      .setExpirationTime("4m")
      .sign(this.#key);
  }

  /** @param at another replica's endpoint */
  async ask(scope: string, assertion: string, at = this.#endpoint): Promise<Response> {
    return fetch(at, {
      method: "POST",
      body: new URLSearchParams({ ...grantForm, scope, client_assertion: assertion }),
    });
  }

  async token(scope: string): Promise<string> {
    const answer = await this.ask(scope, await this.assertion());
    const body = (await answer.json()) as { access_token: string; expires_in: number; token_type: string };
    assert.equal(answer.status, 200, JSON.stringify(body));
    assert(body.expires_in <= 300 && body.token_type === "bearer");
    return body.access_token;
  }
}

export function smart(backend: () => Backend, skip: string | boolean | undefined): void {
  suite("with SMART Backend Services", { skip: skip ?? false }, () => {
    let research: SmartClient;
    let narrow: SmartClient;
    const config = (more = "") =>
      JSON.stringify({
        auth: {
          groupScope: "Required",
          tokens: { signingKeyFiles: [join(backend().folder, "signing.jwk")] },
          clients: [
            { id: "research", jwks: research.jwks, scopes: "system/*.rs" },
            {
              id: "narrow",
              jwks: narrow.jwks,
              scopes: "system/Patient.rs system/Group.rs",
              groups: ["ward"],
              ...(more && { disabled: true }),
            },
          ],
        },
      });
    before(async () => {
      if (skip) return;
      [research, narrow] = await Promise.all([
        SmartClient.make("research", "RS384"),
        SmartClient.make("narrow", "ES384"),
      ]);
      await writeFile(
        join(backend().folder, "signing.jwk"),
        JSON.stringify({ kty: "oct", k: Buffer.alloc(32, 5).toString("base64url") }),
      );
      await backend().configure(config());
      for (const client of [research, narrow]) await client.discover(backend().base);
    });
    after(async () => {
      if (!skip) await backend().configure("");
    });

    const as = (client: SmartClient, scope = "system/*.rs") =>
      new BulkClient(backend().base, () => client.token(scope));
    const refused = async (client: BulkClient, kickOff: KickOff): Promise<Refused> => {
      const answer = await client.kickOff(kickOff);
      assert(typeof answer !== "string", "it was accepted");
      return answer;
    };

    for (const [level, path] of [
      ["System", "/$export"],
      ["Patient", "/Patient/$export"],
      ["Group", "/Group/ward/$export"],
    ] as const)
      for (const method of ["GET", "POST"] as const)
        test(`R4, R7: level ${level} by ${method}, from discovery to the last byte`, async () => {
          const { manifest, lines } = await as(research).export({
            path,
            method,
            parameters: [["_type", "Patient,Encounter"]],
          });
          assert.equal(manifest.requiresAccessToken, true, "R160");
          const wanted = expected(backend().source, {
            level,
            types: ["Patient", "Encounter"],
            ...(level === "Group" && { groupId: "ward" }),
          });
          assert.deepEqual([...lines.keys()].sort(), [...wanted.keys()].sort());
        });

    test("R5: nothing without a token, nothing with another's, and a token must cover the types", async () => {
      const client = as(research);
      const { statusURL, manifest } = await client.export({ path: "/$export", parameters: [["_type", "Group"]] });
      const urls = [`${backend().base}/$export`, statusURL, manifest.output[0]!.url];
      const statuses = async (token: string | undefined) =>
        Promise.all(
          urls.map(async (url) => {
            const headers = {
              accept: "*/*",
              prefer: "respond-async",
              ...(token !== undefined && { authorization: `Bearer ${token}` }),
            };
            const answer = await fetch(url, { headers });
            if (answer.status === 401) assert.match(answer.headers.get("www-authenticate")!, /^Bearer /);
            await answer.body?.cancel();
            return answer.status;
          }),
        );
      assert.deepEqual(await statuses(undefined), [401, 401, 401]);
      assert.deepEqual(await statuses("x"), [401, 401, 401]);
      assert.deepEqual(
        (await statuses(await narrow.token("system/Group.rs"))).slice(1),
        [404, 404],
        "R6: another client's",
      );
      assert.deepEqual((await statuses(await research.token("system/Patient.rs"))).slice(1), [403, 403]);
      assert.deepEqual((await statuses(await research.token("system/Group.rs"))).slice(1), [200, 200]);
      const other = { authorization: `Bearer ${await narrow.token("system/Group.rs")}` };
      assert.equal((await fetch(statusURL, { method: "DELETE", headers: other })).status, 404);
      assert.equal((await fetch(statusURL, { method: "DELETE" })).status, 401);
      assert.equal((await client.request(statusURL, { method: "DELETE" })).status, 202);
      assert.equal((await client.request(statusURL)).status, 404);
      assert.equal((await fetch(statusURL)).status, 401, "whether it is there is not told without a token");
    });

    test("R9, R27: types beyond the scopes are refused, and without _type the scopes are the types", async () => {
      const client = as(narrow);
      const answer = await refused(client, { path: "/$export", parameters: [["_type", "Patient,Encounter"]] });
      assert.equal(answer.status, 403);
      assert.match(answer.issues[0]!.diagnostics!, /may not export Encounter/);
      const { manifest } = await client.export({ path: "/$export" });
      assert.deepEqual([...new Set(manifest.output.map(({ type }) => type))].sort(), ["Group", "Patient"]);
    });

    test("Groups of a client", async () => {
      assert.equal((await refused(as(narrow), { path: "/Group/outer/$export" })).status, 403);
      assert.equal(
        (await refused(as(narrow, "system/Patient.rs"), { path: "/Group/ward/$export" })).status,
        403,
        "no scope for Groups",
      );
    });

    test("an assertion is good once, over all replicas", async () => {
      const assertion = await research.assertion();
      assert.equal((await research.ask("system/*.rs", assertion)).status, 200);
      for (const base of [backend().base, ...backend().others]) {
        const again = await research.ask("system/*.rs", assertion, `${base}/auth/token`);
        assert.deepEqual([again.status, ((await again.json()) as { error: string }).error], [401, "invalid_client"]);
      }
    });

    test("a token is good at every replica", async () => {
      const token = await research.token("system/*.rs");
      for (const base of [backend().base, ...backend().others]) {
        const answer = await fetch(`${base}/_operations/export/export-${"a".repeat(26)}`, {
          headers: { authorization: `Bearer ${token}` },
        });
        assert.equal(answer.status, 404);
      }
    });

    test("a client that is disabled has no access any more, without restart; a broken file changes nothing", async () => {
      const token = await narrow.token("system/Patient.rs");
      const headers = { authorization: `Bearer ${token}` };
      const url = `${backend().base}/_operations/export/export-${"a".repeat(26)}`;
      assert.equal((await fetch(url, { headers })).status, 404);
      await backend().write("auth: { tokens: {} }");
      await until("the complaint", async () => /auth.*signingKeyFiles/.test(backend().output()));
      assert.equal((await fetch(url, { headers })).status, 404);
      await backend().configure(config("disabled"));
      assert.equal((await fetch(url, { headers })).status, 401);
      assert.equal((await narrow.ask("system/Patient.rs", await narrow.assertion())).status, 401);
      await backend().configure(config());
    });

    test("every kick-off, download, cancel and refusal is in the audit, with the client and no patient data", async () => {
      const lines = backend()
        .output()
        .split("\n")
        .filter((line) => line.includes('"audit"'))
        .map((line) => JSON.parse(line) as { audit: string; client?: string; status?: number; level: unknown });
      // purges are told by workers, which a standalone's log holds, too
      const kinds = new Set(lines.map(({ audit }) => audit).filter((audit) => audit !== "purge"));
      assert.deepEqual([...kinds].sort(), ["cancel", "download", "kick-off", "refused", "token"]);
      for (const kind of ["kick-off", "token", "refused"])
        assert(
          lines.some(({ audit, client }) => audit === kind && client === "research"),
          kind,
        );
      // one member each: parsers would keep the last of two
      for (const { level } of lines)
        assert(typeof level === "number" || /^(info|warn)$/.test(String(level)), String(level));
      assert.doesNotMatch(backend().output(), /client_assertion|eyJ|Patient\/p|_since=/);
    });
  });
}
