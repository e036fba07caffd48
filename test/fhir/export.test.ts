import assert from "node:assert/strict";
import { mkdir, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { Task } from "../../src/contracts.ts";
import { storage } from "../sink/stores.ts";
import { type Source, startSource } from "../sources/server.ts";
import { startTokenServer, type TokenServer, type TokenServerOptions } from "../sources/token-server.ts";
import { Export, linesOf } from "../worker/harness.ts";
import { makeAuthority } from "./certificates.ts";
import { makeKeys } from "./signed.ts";

const { place } = storage();
const keys = { RS384: await makeKeys("RS384"), ES384: await makeKeys("ES384") };
const authority = makeAuthority();
const own = authority.issue("server");
const worker = authority.issue("worker");

let source: Source;
before(async () => {
  source = await startSource({ scale: 0.1 });
});
after(() => source.close());

type Auth = Task["source"]["auth"];
const types = ["Patient", "Observation", "Encounter"];
const clients: TokenServerOptions["clients"] = [
  { id: "c", secret: "s", keys: [keys.RS384.publicKey, keys.ES384.publicKey], scopes: ["system/*.rs"] },
];

/** Runs an export from the source that demands tokens. @returns what became of it */
async function run(
  server: { baseURL: string },
  auth: Auth,
  files: Record<string, string>,
  change: Partial<Task["source"]> = {},
) {
  const where = await place("directory");
  await mkdir(join(where.secrets, "source"), { recursive: true });
  const write = (name: string, text: string) => writeFile(join(where.secrets, "source", name), text);
  for (const [name, text] of Object.entries(files)) await write(name, text);
  const task = new Export(where, server.baseURL, { export: { types }, source: { auth, count: 20, ...change } });
  return { task, where, write };
}

/** Demands that the output has every resource once, and nothing else. */
async function assertWhole({ where, task }: Awaited<ReturnType<typeof run>>): Promise<void> {
  const { code, report } = await task.all();
  assert.equal(code, 0, report.error?.message);
  const { lines, doubled } = await linesOf(await where.open());
  assert.deepEqual(doubled, []);
  assert.deepEqual([...lines.keys()].sort(), types.flatMap((type) => [...source.dump(type).keys()]).sort());
}

async function guarded(options: TokenServerOptions, use: (server: TokenServer) => Promise<void>): Promise<void> {
  const server = await startTokenServer({ source: source.baseURL, clients: clients!, ...options });
  try {
    await use(server);
  } finally {
    await server.close();
  }
}

const kinds: [
  name: string,
  auth: (server: TokenServer) => Auth,
  files: Record<string, string>,
  options?: TokenServerOptions,
][] = [
  [
    "oauth2",
    ({ tokenURL }) => ({ kind: "oauth2", tokenURL, clientID: "c", scope: "system/*.rs" }),
    { "client-secret": "s\n" },
  ],
  [
    "smart, RS384, discovery",
    () => ({ kind: "smart", clientID: "c", scope: "system/*.rs" }),
    { "private-key.jwk": JSON.stringify(keys.RS384.privateKey) },
  ],
  [
    "smart, ES384, tokenURL",
    ({ tokenURL }) => ({ kind: "smart", tokenURL, clientID: "c", scope: "system/*.rs" }),
    { "private-key.jwk": JSON.stringify(keys.ES384.privateKey) },
  ],
  [
    "smart over mutual TLS with a private authority",
    () => ({ kind: "smart", clientID: "c", scope: "system/*.rs" }),
    {
      "private-key.jwk": JSON.stringify(keys.ES384.privateKey),
      "ca.crt": authority.cert,
      "tls.crt": worker.cert,
      "tls.key": worker.key,
    },
    { tls: { ...own, ca: authority.cert } },
  ],
];

describe("a whole export", () => {
  for (const [name, auth, files, options = {}] of kinds)
    test(name, () =>
      guarded(options, async (server) => {
        await assertWhole(await run(server, auth(server), files));
        // In a cluster plan, packages and seal are processes of their own, and each needs a token.
        assert(server.issued.length > 0);
        assert(server.served.filter(({ status }) => status === 401).length === 0);
        if (options.tls) assert(server.served.every(({ client }) => client === "worker"));
      }),
    );

  for (const [name, wanted, files] of [
    ["basic", { kind: "basic", username: "u", password: "p" }, { username: "u", password: "p" }],
    ["bearer", { kind: "bearer", token: "t" }, { token: "t" }],
  ] as const)
    test(name, async () => {
      source.setAuth(wanted);
      try {
        await assertWhole(await run(source, { kind: wanted.kind }, files));
      } finally {
        source.setAuth({ kind: "none" });
      }
    });

  test("tokens that expire before the export ends", () =>
    guarded({ expiresIn: 1 }, async (server) => {
      source.set({ pageDelay: 100 });
      const [name, auth, files] = kinds[1]!;
      try {
        await assertWhole(await run(server, auth(server), files));
      } finally {
        source.set({ pageDelay: 0 });
      }
      // Three commands need three tokens, and more where they live longer than their tokens.
      assert(server.issued.length > 6, `${name}: ${server.issued.length}`);
      // Each token is renewed when a fifth of its life is left. This fails only if the machine sleeps for that fifth.
      assert(server.served.filter(({ status }) => status === 401).length < server.issued.length / 2);
    }));

  test("tokens that are revoked all the time", () =>
    guarded({}, async (server) => {
      let pages = 0;
      const off = source.onRequest(() => {
        if (++pages % 7 === 0) server.revoke();
      });
      await assertWhole(await run(server, kinds[0]![1](server), kinds[0]![2])).finally(off);
      assert(server.served.filter(({ status }) => status === 401).length > 3);
    }));

  test("a bearer token that is rotated again and again", async () => {
    const valid = new Set(["1"]);
    let pages = 0;
    const accepts = (token: string) => valid.has(token);
    await guarded({ clients: [], accepts }, async (server) => {
      const it = await run(server, { kind: "bearer" }, { token: "1" });
      const rotate = async (token: string) => {
        const old = [...valid];
        valid.add(token);
        // As Kubernetes replaces it: a reader sees either the old content or the new.
        await it.write("token.new", token);
        await rename(join(it.where.secrets, "source", "token.new"), join(it.where.secrets, "source", "token"));
        for (const one of old) valid.delete(one);
      };
      let rotating = Promise.resolve();
      const off = source.onRequest(() => {
        if (++pages % 5 === 0) rotating = rotating.then(() => rotate(String(pages)));
      });
      await assertWhole(it).finally(off);
      await rotating;
    });
    assert(pages > 20 && valid.size === 1);
  });

  test("a token endpoint that fails in the middle: the error is waiting, and the export continues later", () =>
    guarded({ expiresIn: 1 }, async (server) => {
      const it = await run(server, kinds[0]![1](server), kinds[0]![2]);
      assert.equal((await it.task.run("plan")).code, 0);
      source.set({ pageDelay: 150 });
      server.script({ status: 200, body: "", drop: true, times: "always" });
      const { code, report } = await it.task.run("export", 0);
      source.set({ pageDelay: 0 });
      assert.deepEqual([code, report.error?.class, report.error?.reason], [75, "waiting", "SourceUnreachable"]);
      assert.match(report.error!.message, /auth\/token.*does not answer/);
      server.clearScript();
      await assertWhole(it);
    }));

  test("a client that is removed in the middle: the error is terminal and says what to mend", () =>
    guarded({}, async (server) => {
      const it = await run(server, kinds[0]![1](server), kinds[0]![2]);
      assert.equal((await it.task.run("plan")).code, 0);
      server.clients = [];
      server.clients.push({ id: "another", secret: "x" });
      const { code, report } = await it.task.run("export", 0);
      assert.deepEqual([code, report.error?.class, report.error?.reason], [64, "terminal", "SourceUnauthorized"]);
      assert.match(report.error!.message, /invalid_client.*spec\.auth\.oauth2.*client-secret/);
    }));
});
