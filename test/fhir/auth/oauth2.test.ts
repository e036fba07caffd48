import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import type { Task } from "../../../src/contracts.ts";
import { TokenHolder } from "../../../src/fhir/auth/holder.ts";
import { TokenClient } from "../../../src/fhir/auth/oauth2.ts";
import { type Source, startSource } from "../../sources/server.ts";
import { type Scripted, startTokenServer, type TokenServer } from "../../sources/token-server.ts";
import { failureOf, signedClients } from "../signed.ts";

const open = signedClients();
const secret = "s3cr:t %+ü";
let source: Source;
let server: TokenServer;
before(async () => {
  source = await startSource({ scale: 0.01 });
  server = await startTokenServer({
    source: source.baseURL,
    clients: [{ id: "client:1", secret, scopes: ["system/*.rs", "system/Patient.rs"] }],
    delay: 20,
  });
});
after(() => Promise.all([source.close(), server.close()]));
beforeEach(() => {
  server.clearScript();
  server.expiresIn = 300;
});

/** The statuses of the token requests, and of the requests for data, from now on. */
function watch() {
  const [asked, served] = [server.asked.length, server.served.length];
  return {
    tokens: () => server.asked.slice(asked).map(({ status }) => status),
    data: () => server.served.slice(served).map(({ status }) => status),
  };
}
const oauth2 = (
  change: Partial<Task["source"]["auth"]> = {},
  files: Record<string, string> = {},
  more: Partial<Task["source"]> = {},
) =>
  open(
    server.baseURL,
    { kind: "oauth2", tokenURL: server.tokenURL, clientID: "client:1", scope: "system/*.rs", ...change },
    { "client-secret": `${secret}\n`, ...files },
    more,
  );

describe("oauth2", () => {
  test("one token for many requests; id and secret are encoded for basic authentication", async () => {
    const { get } = await oauth2();
    const seen = watch();
    for (let i = 0; i < 3; i++) await get();
    assert.deepEqual([seen.tokens(), seen.data()], [[200], [200, 200, 200]]);
    const { form, authorization } = server.asked.at(-1)!;
    assert.deepEqual(
      [...form],
      [
        ["grant_type", "client_credentials"],
        ["scope", "system/*.rs"],
      ],
    );
    assert.match(authorization!, /^Basic /);
  });

  test("all chains wait for one token request, when the token expires while they run, too", async () => {
    server.expiresIn = 3;
    const { get } = await oauth2();
    const seen = watch();
    await Promise.all(Array.from({ length: 12 }, get));
    assert.deepEqual(seen.tokens(), [200]);
    await new Promise((resolve) => setTimeout(resolve, 2450));
    await Promise.all(Array.from({ length: 12 }, get));
    assert.deepEqual(seen.tokens(), [200, 200]);
    assert.deepEqual(new Set(seen.data()), new Set([200]), "it was renewed before it expired");
  });

  test("revoked early: all chains together get one new token, and each page is requested again", async () => {
    const { get } = await oauth2();
    await get();
    const seen = watch();
    server.revoke();
    await Promise.all(Array.from({ length: 4 }, get));
    assert.deepEqual(seen.tokens(), [200]);
    assert.deepEqual(seen.data().sort(), [200, 200, 200, 200, 401, 401, 401, 401]);
  });

  test("a source that refuses the new token, too: terminal after one renewal", async () => {
    const { get } = await oauth2();
    const off = source.onRequest(() => {});
    const seen = watch();
    source.setAuth({ kind: "bearer", token: "another" });
    const failure = await failureOf(get()).finally(() => source.setAuth({ kind: "none" }));
    off();
    assert.deepEqual([failure.class, failure.reason], ["terminal", "SourceUnauthorized"]);
    assert.match(failure.message, /401.*spec\.auth/);
    assert.deepEqual(
      [seen.tokens(), seen.data()],
      [
        [200, 200],
        [401, 401],
      ],
    );
  });

  test("a secret that was rotated counts for the next token", async () => {
    const { get, write } = await oauth2();
    await get();
    server.clients[0]!.secret = "rotated";
    server.revoke();
    await write("client-secret", "rotated");
    await get().finally(() => (server.clients[0]!.secret = secret));
  });

  test("a token endpoint that fails for a moment", async () => {
    server.script(
      { status: 503, body: "<html>", headers: { "content-type": "text/html" } },
      { drop: true },
      { status: 429, headers: { "retry-after": "0" } },
      { body: '{"access' },
    );
    const { get } = await oauth2({}, {}, { retrySeconds: 20 });
    const seen = watch();
    assert.equal(await get(), 200);
    assert.deepEqual(seen.tokens(), [503, 0, 429, 200, 200]);
  });

  test("Retry-After of the token endpoint is obeyed", async () => {
    server.script({ status: 429, headers: { "retry-after": "1" } });
    const { get } = await oauth2({}, {}, { retrySeconds: 20 });
    const started = performance.now();
    await get();
    assert(performance.now() - started > 950);
  });

  test("a token endpoint that fails while a token is still valid has no effect", async () => {
    const { get } = await oauth2();
    await get();
    server.script({ status: 503, times: "always" });
    assert.equal(await get(), 200);
  });

  for (const [name, answer, lifeMs] of [
    ["as text", { expires_in: "60" }, 60_000],
    ["as a number", { expires_in: 60 }, 60_000],
    ["not at all", { token_type: "bearer" }, 300_000],
    ["as nonsense", { expires_in: "soon" }, 300_000],
  ] as const)
    test(`the answer gives the life of the token ${name}`, async () => {
      server.script({ body: JSON.stringify({ access_token: "x", ...answer }) });
      const auth = { kind: "oauth2" } as const;
      const client = new TokenClient(
        { baseURL: server.baseURL, auth } as Task["source"],
        "/nothing",
        new AbortController().signal,
      );
      assert.deepEqual(await client.token(server.tokenURL, { form: {}, toCheck: "" }), { value: "x", lifeMs });
      await client.close();
    });
});

interface Case {
  name: string;
  auth?: Partial<Task["source"]["auth"]>;
  files?: Record<string, string>;
  baseURL?: string;
  answer?: Scripted;
  class: "terminal" | "waiting";
  reason?: string;
  message: RegExp;
}
const html = { "content-type": "text/html" };
const refused = (error: string, status = 400): Scripted => ({
  status,
  body: JSON.stringify({ error, error_description: "SECRET s3cr:t" }),
});
const cases: Case[] = [
  {
    name: "a wrong secret",
    files: { "client-secret": "SECRET" },
    class: "terminal",
    message: /refuses \(invalid_client\).*spec\.auth\.oauth2.*clientID and key "client-secret"/,
  },
  { name: "an unknown client", auth: { clientID: "SECRET" }, class: "terminal", message: /invalid_client.*clientID/ },
  {
    name: "a scope that it may not ask for",
    auth: { scope: "system/Observation.rs" },
    class: "terminal",
    message: /invalid_scope.*spec\.auth\.oauth2\.scope/,
  },
  {
    name: "a client that may not have tokens of its own",
    answer: refused("unauthorized_client"),
    class: "terminal",
    message: /client_credentials/,
  },
  {
    name: "another grant only",
    answer: refused("unsupported_grant_type"),
    class: "terminal",
    message: /client_credentials/,
  },
  {
    name: "an invalid request",
    answer: refused("invalid_request"),
    class: "terminal",
    message: /invalid_request.*tokenURL, scope, clientID/,
  },
  {
    name: "an error that no specification knows",
    answer: refused("SECRET"),
    class: "terminal",
    message: /refuses \(400\)/,
  },
  {
    name: "403 without JSON",
    answer: { status: 403, body: "SECRET" },
    class: "terminal",
    message: /refuses \(403\).*spec\.auth\.oauth2/,
  },
  {
    name: "404",
    answer: { status: 404, body: "SECRET" },
    class: "terminal",
    message: /answers 404.*spec\.auth\.oauth2\.tokenURL/,
  },
  {
    name: "a redirect",
    answer: { status: 302, headers: { location: "https://h.example/?SECRET" } },
    class: "terminal",
    message: /answers 302.*tokenURL/,
  },
  {
    name: "a web page",
    answer: { body: "<html>SECRET", headers: html },
    class: "terminal",
    message: /web page \(200\).*spec\.auth\.oauth2\.tokenURL/,
  },
  {
    name: "a web page with 400",
    answer: { status: 400, body: "<html>SECRET", headers: html },
    class: "terminal",
    message: /web page \(400\).*tokenURL/,
  },
  {
    name: "JSON without a token",
    answer: { body: '{"id_token":"SECRET"}' },
    class: "terminal",
    message: /no access_token/,
  },
  {
    name: "a token of another type",
    answer: { body: '{"access_token":"SECRET","token_type":"DPoP"}' },
    class: "terminal",
    message: /type bearer/,
  },
  {
    name: "a token that cannot be sent",
    answer: { body: '{"access_token":"SECRET\\r\\nx: y"}' },
    class: "terminal",
    message: /access_token.*characters/,
  },
  {
    name: "an endless answer",
    answer: { body: `"${"SECRET".repeat(60_000)}"` },
    class: "terminal",
    message: /too long/,
  },
  {
    name: "what is no JSON, for long",
    answer: { body: "SECRET", times: "always" },
    class: "waiting",
    message: /not JSON.*tokenURL/,
  },
  { name: "5xx for long", answer: { status: 500, times: "always" }, class: "waiting", message: /answers 500/ },
  {
    name: "no answer for long",
    answer: { drop: true, times: "always" },
    class: "waiting",
    message: /does not answer \(UND_ERR_SOCKET\).*spec\.auth\.oauth2\.tokenURL.*network/,
  },
  {
    name: "nobody there",
    auth: { tokenURL: "http://127.0.0.1:1/token?SECRET" },
    class: "waiting",
    message: /http:\/\/127\.0\.0\.1:1\/token, .*ECONNREFUSED/,
  },
  {
    name: "no such host",
    auth: { tokenURL: "http://no-such-host.invalid/token" },
    class: "waiting",
    message: /no-such-host\.invalid/,
  },
  {
    name: "no Secret",
    files: { "client-secret": "" },
    class: "terminal",
    message: /key "client-secret".*auth\.oauth2 is empty/,
  },
  {
    name: "no URL",
    auth: { tokenURL: "token" },
    class: "terminal",
    message: /spec\.auth\.oauth2\.tokenURL of the FhirSource is not an absolute https URL/,
  },
  {
    name: "a URL in the clear, of a source that is not",
    baseURL: "https://127.0.0.1:1/fhir",
    class: "terminal",
    message: /tokenURL.*must be https, as spec\.baseURL/,
  },
];

describe("oauth2: messages name what is wrong, and nothing secret", () => {
  for (const { name, auth, files, baseURL, answer, reason, message, ...want } of cases)
    test(name, async () => {
      if (answer) server.script({ ...answer });
      const failure = await failureOf(
        oauth2(auth, files, { retrySeconds: 0.1, ...(baseURL && { baseURL }) }).then(({ get }) => get()),
      );
      assert.deepEqual(
        [failure.class, failure.reason],
        [want.class, reason ?? (want.class === "terminal" ? "SourceUnauthorized" : "SourceUnreachable")],
        failure.message,
      );
      assert.match(failure.message, message);
      for (let error: unknown = failure; error instanceof Error; error = error.cause)
        assert.doesNotMatch(`${error.message} ${JSON.stringify(error)}`, /SECRET|s3cr|client:1|[?&]\w+=/);
    });
});

test("a token is kept until 60 s before its end, or a fifth of its life where that is shorter", async () => {
  for (const [life, kept] of [
    [3600, 3540],
    [300, 240],
    [100, 80],
    [0, 0],
  ] as const) {
    let [now, fetched] = [0, 0];
    const holder = new TokenHolder(
      async () => {
        fetched++;
        // The answer may be slow, and the life of its token began before it.
        now += 1000;
        return { value: `t${fetched}`, lifeMs: life * 1000 };
      },
      undefined,
      () => now,
    );
    assert.equal(await holder.header(), "Bearer t1");
    now = Math.max(now, kept * 1000 - 1);
    assert.equal(await holder.header(), kept > 1 ? "Bearer t1" : "Bearer t2");
    now++;
    await holder.header();
    assert.equal(fetched, kept > 1 ? 2 : 3);
  }
});

test("an old token that is refused does not throw the new one away", async () => {
  let fetched = 0;
  const holder = new TokenHolder(async () => ({ value: `t${++fetched}`, lifeMs: 300_000 }));
  const old = await holder.header();
  assert.equal(await holder.renew(old), true);
  assert.equal(await holder.header(), "Bearer t2");
  assert.equal(await holder.renew(old), true);
  assert.equal(await holder.header(), "Bearer t2");
});
