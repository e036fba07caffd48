import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { getCACertificates, setDefaultCACertificates } from "node:tls";
import { openStore } from "../../src/sink/open.ts";
import { paths, readAll } from "../sink/stores.ts";
import { type Source, startSource } from "../sources/server.ts";
import { startTokenServer, type TokenServer } from "../sources/token-server.ts";
import { type Azurite, startAzurite } from "../tools/azurite.ts";
import { Export, linesOf } from "../worker/harness.ts";
import { type EntraServer, serviceAccountToken, startEntra } from "./authority.ts";
import { makeAuthority } from "./certificates.ts";
import { failureOf, signedClients } from "./signed.ts";

const open = signedClients();
const tenant = "11111111-1111-1111-1111-111111111111";
const clientID = "22222222-2222-2222-2222-222222222222";
const account = "system:serviceaccount:default:exports";
const scope = "https://fhir.example/.default";

let folder: string;
let entra: EntraServer;
let source: Source;
let server: TokenServer;
let azurite: Azurite;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "fhir-export-"));
  const authority = makeAuthority();
  // NODE_EXTRA_CA_CERTS does the same for a whole process.
  setDefaultCACertificates([...getCACertificates("default"), authority.cert]);
  const tls = authority.issue("server");
  for (const name of ["cert", "key"] as const) await writeFile(join(folder, name), tls[name]);
  await writeFile(join(folder, "token"), await serviceAccountToken(account));
  await writeFile(join(folder, "other-token"), await serviceAccountToken("system:serviceaccount:default:other"));
  entra = await startEntra(tls, tenant, clientID, account);
  source = await startSource({ scale: 0.05 });
  server = await startTokenServer({ source: source.baseURL, accepts: (token) => token === entra.issued.at(-1) });
  azurite = await startAzurite({ tls: { cert: join(folder, "cert"), key: join(folder, "key") } });
});
after(async () => {
  await Promise.all([entra.close(), source.close(), server.close(), azurite.close()]);
  await rm(folder, { recursive: true });
});

const names = ["AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_AUTHORITY_HOST"] as const;
/** The environment variables that the webhook gives a pod. */
const setEnvironment = (change: Partial<Record<(typeof names)[number], string | undefined>> = {}) => {
  const values = {
    AZURE_TENANT_ID: tenant,
    AZURE_CLIENT_ID: clientID,
    AZURE_FEDERATED_TOKEN_FILE: join(folder, "token"),
    AZURE_AUTHORITY_HOST: entra.url,
    ...change,
  };
  for (const name of names) {
    delete process.env[name];
    if (values[name] !== undefined) process.env[name] = values[name];
  }
};
beforeEach(() => {
  setEnvironment();
  entra.refuse = undefined;
});
afterEach(() => {
  for (const name of names) delete process.env[name];
});

const client = (auth: { scope?: string; clientID?: string } = {}) =>
  open(server.baseURL, { kind: "workloadIdentity", scope, ...auth }, {}, { retrySeconds: 0 });
const tokenRequests = () => entra.asked.filter(({ path }) => path.includes("/token"));
const store = (accountURL = azurite.accountURL) =>
  openStore(
    {
      folder: "out",
      azureBlob: {
        accountURL,
        container: "exports",
        createContainer: true,
        blockBytes: 4 << 20,
        auth: "workloadIdentity",
      },
    },
    folder,
  );

describe("downloads by a signed URL", () => {
  // The emulator issues no user delegation keys.
  test("a user delegation key, which is asked for once, signs a URL that reads this blob by https", async () => {
    const asked: { url: string; authorization: string | undefined; body: string }[] = [];
    const [cert, key] = await Promise.all(["cert", "key"].map((name) => readFile(join(folder, name))));
    const account = createServer({ cert: cert!, key: key! }, async (request, response) => {
      let body = "";
      for await (const chunk of request) body += chunk;
      asked.push({ url: request.url!, authorization: request.headers.authorization, body });
      const [start, expiry] = ["Start", "Expiry"].map((name) => new RegExp(`<${name}>([^<]+)<`).exec(body)![1]);
      response.setHeader("content-type", "application/xml");
      response.end(
        `<?xml version="1.0"?><UserDelegationKey><SignedOid>o</SignedOid><SignedTid>t</SignedTid><SignedStart>${start}</SignedStart><SignedExpiry>${expiry}</SignedExpiry><SignedService>b</SignedService><SignedVersion>2025-01-05</SignedVersion><Value>${Buffer.alloc(32, 1).toString("base64")}</Value></UserDelegationKey>`,
      );
    });
    await new Promise<void>((resolve) => account.listen(0, "127.0.0.1", resolve));
    const there = await store(`https://127.0.0.1:${(account.address() as AddressInfo).port}/devstoreaccount1`);
    const [first, second] = [
      await there.signedURL!("Patient-0001-1.ndjson.gz", 60),
      await there.signedURL!("other", 60),
    ];
    await new Promise((resolve) => account.close(resolve));
    assert.equal(asked.length, 1);
    assert.match(asked[0]!.url, /comp=userdelegationkey/);
    assert.equal(asked[0]!.authorization, `Bearer ${entra.issued.at(-1)}`);
    const { pathname, searchParams } = new URL(first!);
    assert.equal(pathname, "/devstoreaccount1/exports/out/Patient-0001-1.ndjson.gz");
    const { sp, sr, spr, skoid, rsct, rsce, st, se, ske } = Object.fromEntries(searchParams);
    assert.deepEqual([sp, sr, spr, skoid, rsct, rsce], ["r", "b", "https", "o", "application/fhir+ndjson", "gzip"]);
    assert(Date.parse(se!) - Date.parse(st!) === 360_000 && Date.parse(ske!) > Date.parse(se!) + 3_500_000);
    assert.notEqual(searchParams.get("sig"), new URL(second!).searchParams.get("sig"));
  });
});

describe("workload identity of the source", () => {
  test("one token for many requests, for the ServiceAccount's token and the scope", async () => {
    const { get } = await client();
    const mark = tokenRequests().length;
    await Promise.all(Array.from({ length: 4 }, get));
    const [asked, ...more] = tokenRequests().slice(mark);
    assert.deepEqual(more, []);
    assert.equal(asked?.form.get("client_id"), clientID);
    assert.match(asked?.form.get("scope") ?? "", /^https:\/\/fhir\.example\/\.default/);
  });

  test("a token that is revoked early is replaced", async () => {
    const { get } = await client();
    await get();
    // The source accepts only the newest token.
    await (await client()).get();
    const mark = tokenRequests().length;
    assert.equal(await get(), 200);
    assert.equal(tokenRequests().length, mark + 1);
  });

  test("clientID of the FhirSource instead of the annotation's", async () => {
    setEnvironment({ AZURE_CLIENT_ID: undefined });
    assert.equal(await (await client({ clientID })).get(), 200);
  });
});

const html = { "content-type": "text/html" };
const table: [
  name: string,
  given: { env?: Parameters<typeof setEnvironment>[0]; refuse?: EntraServer["refuse"]; token?: string; scope?: string },
  kind: "terminal" | "waiting",
  message: RegExp,
][] = [
  [
    "no webhook",
    { env: Object.fromEntries(names.map((name) => [name, undefined])) },
    "terminal",
    /AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_FEDERATED_TOKEN_FILE; .*label azure\.workload\.identity\/use.*annotation azure\.workload\.identity\/client-id/,
  ],
  ["no annotation", { env: { AZURE_CLIENT_ID: undefined } }, "terminal", /not given AZURE_CLIENT_ID; .*annotation/],
  [
    "no token file",
    { env: { AZURE_FEDERATED_TOKEN_FILE: "/nothing" } },
    "terminal",
    /the file of AZURE_FEDERATED_TOKEN_FILE/,
  ],
  [
    "a tenant id that is none",
    { env: { AZURE_TENANT_ID: "a b" } },
    "terminal",
    /AZURE_TENANT_ID or AZURE_AUTHORITY_HOST/,
  ],
  ["another tenant", { env: { AZURE_TENANT_ID: clientID } }, "terminal", /refuses.*AADSTS90002/],
  ["another client", { env: { AZURE_CLIENT_ID: tenant } }, "terminal", /refuses.*AADSTS700016.*client id/],
  ["another ServiceAccount", { token: "other-token" }, "terminal", /refuses.*AADSTS700213.*federated credential/],
  ["a scope that is none", { scope: "nonsense" }, "terminal", /refuses.*AADSTS70011.*scope/],
  [
    "a web page",
    { refuse: { status: 200, body: "<html>SECRET", headers: html } },
    "terminal",
    /AZURE_AUTHORITY_HOST is no authority/,
  ],
  ["a refusal without JSON", { refuse: { status: 403, body: "SECRET" } }, "terminal", /refuses.*\(403\)/],
  [
    "out of service",
    { refuse: { status: 503, body: "<html>SECRET", headers: html } },
    "waiting",
    /does not answer \(503\)/,
  ],
  [
    "nobody there",
    { env: { AZURE_AUTHORITY_HOST: "https://127.0.0.1:1/" } },
    "waiting",
    /does not answer \(ECONNREFUSED\).*AZURE_AUTHORITY_HOST/,
  ],
];
describe("workload identity: messages name what is wrong, for source and target", () => {
  for (const [name, { env, refuse, token, scope: asked }, kind, message] of table)
    test(name, async () => {
      setEnvironment({ ...(token && { AZURE_FEDERATED_TOKEN_FILE: join(folder, token) }), ...env });
      entra.refuse = refuse;
      const check = (failure: Awaited<ReturnType<typeof failureOf>>, side: "Source" | "Target") => {
        assert.equal(failure.class, kind, failure.message);
        assert.equal(failure.reason, `${side}${kind === "terminal" ? "Unauthorized" : "Unreachable"}`);
        assert.match(failure.message, message);
        assert.match(
          failure.message,
          side === "Source" ? /spec\.auth\.workloadIdentity/ : /spec\.azureBlob\.auth\.workloadIdentity/,
        );
        assert.doesNotMatch(failure.message, /SECRET|eyJ|[?&]\w+=|assertion/);
      };
      check(await failureOf((await client(asked ? { scope: asked } : {})).get()), "Source");
      if (!asked && kind === "terminal") check(await failureOf(store().then((made) => made.prepare())), "Target");
    });
});

describe("workload identity of the target", () => {
  test("writes, reads and lists", async () => {
    const opened = await store();
    await opened.prepare();
    assert(await opened.create("a.json", Buffer.from("{}")));
    assert.equal((await readAll(opened, "a.json"))?.toString(), "{}");
    assert.deepEqual(await paths(opened), ["a.json"]);
    assert.match(entra.issued.at(-1)!, /^eyJ/);
    await opened.remove("a.json");
  });

  test("while Entra does not answer the error is waiting", async () => {
    entra.refuse = { status: 400, body: "{}" };
    const refused = await failureOf(store().then((made) => made.read("a.json")));
    assert.deepEqual([refused.class, refused.reason], ["terminal", "TargetUnauthorized"]);
    setEnvironment({ AZURE_AUTHORITY_HOST: "https://127.0.0.1:1/" });
    const away = await failureOf(store().then((made) => made.read("a.json")));
    assert.deepEqual([away.class, away.reason], ["waiting", "TargetUnreachable"]);
  });

  test("no token is sent to an account URL without https", async () => {
    const failure = await failureOf(store("http://account.example"));
    assert.deepEqual([failure.class, failure.reason], ["terminal", "TargetUnauthorized"]);
    assert.match(failure.message, /accountURL.*https/);
  });
});

test("an export by workload identity at both ends", async () => {
  // Here the source accepts every token of Entra, since source and target ask for their own.
  const both = await startTokenServer({ source: source.baseURL, accepts: (token) => entra.issued.includes(token) });
  try {
    const target = {
      folder: "whole",
      azureBlob: {
        accountURL: azurite.accountURL,
        container: "exports",
        createContainer: true,
        blockBytes: 4 << 20,
        auth: "workloadIdentity",
      },
    } as const;
    const place = { target, secrets: folder, open: () => openStore(target, folder) };
    const run = new Export(place, both.baseURL, {
      export: { types: ["Patient", "Observation"] },
      source: { auth: { kind: "workloadIdentity", scope } },
    });
    const { code, report } = await run.all();
    assert.equal(code, 0, report.error?.message);
    const { lines, doubled } = await linesOf(await place.open());
    assert.deepEqual(doubled, []);
    assert.deepEqual(
      [...lines.keys()].sort(),
      [...source.dump("Patient").keys(), ...source.dump("Observation").keys()].sort(),
    );
  } finally {
    await both.close();
  }
});
