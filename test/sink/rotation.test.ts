import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, request as send } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { after, before, beforeEach, describe, test } from "node:test";
import {
  AccountSASPermissions,
  generateAccountSASQueryParameters,
  StorageSharedKeyCredential,
} from "@azure/storage-blob";
import { FailureError } from "../../src/failure.ts";
import { openStore } from "../../src/sink/open.ts";
import type { StagedBlock, Store } from "../../src/sink/store.ts";
import { accountKey } from "../tools/azurite.ts";
import { paths, readAll, storage } from "./stores.ts";

const { place, azurite } = storage();
const bytes = (text: string) => Buffer.from(text);

/** The signatures that a proxy before the emulator refuses as revoked. The proxy also makes lists come in pages of
 *  two. */
let revoked: Set<string>;
let refusals: number;
const server = createServer(async (request, response) => {
  const url = new URL(request.url!, azurite().accountURL);
  if (revoked.has(url.searchParams.get("sig") ?? request.headers.authorization ?? "")) {
    refusals++;
    await request.toArray();
    return void response.writeHead(403, { "x-ms-error-code": "AuthenticationFailed" }).end();
  }
  if (url.searchParams.get("comp") === "list") url.searchParams.set("maxresults", "2");
  const answer = await new Promise<IncomingMessage>((resolve, reject) =>
    request.pipe(send(url, { method: request.method!, headers: request.headers }, resolve)).on("error", reject),
  );
  response.writeHead(answer.statusCode!, answer.headers);
  answer.pipe(response);
});
before(() => new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve)));
after(() => {
  server.closeAllConnections();
  server.close();
});
beforeEach(() => {
  revoked = new Set();
  refusals = 0;
});

let made = 0;
const makeSAS = () =>
  generateAccountSASQueryParameters(
    {
      services: "b",
      resourceTypes: "sco",
      permissions: AccountSASPermissions.parse("rwdlac"),
      // so that each is another one
      expiresOn: new Date(Date.now() + 3_600_000 + 1000 * ++made),
    },
    new StorageSharedKeyCredential("devstoreaccount1", accountKey),
  ).toString();
const signature = (sas: string) => new URLSearchParams(sas).get("sig")!;

/** Opens a store by a SAS, through the proxy. */
async function opened() {
  const { target, secrets } = await place("azure");
  if (!("azureBlob" in target)) throw new Error("not azure");
  const accountURL = `http://127.0.0.1:${(server.address() as AddressInfo).port}/devstoreaccount1`;
  let sas = makeSAS();
  const file = join(secrets, "target", "sas-token");
  await writeFile(file, sas);
  const store = await openStore({ ...target, azureBlob: { ...target.azureBlob, accountURL, auth: "sas" } }, secrets);
  await store.prepare();
  return {
    store,
    revoke: () => revoked.add(signature(sas)),
    async rotate() {
      revoked.add(signature(sas));
      sas = makeSAS();
      await writeFile(file, `?${sas}\n`);
    },
  };
}

const calls: [
  name: string,
  prepare: (store: Store) => Promise<unknown>,
  call: (store: Store) => Promise<unknown>,
  want: unknown,
][] = [
  ["create", async () => {}, (store) => store.create("a", bytes("1")).then(Boolean), true],
  [
    "read",
    (store) => store.create("a", bytes("1")),
    (store) => store.read("a").then((it) => it?.bytes.toString()),
    "1",
  ],
  ["stream", (store) => store.create("a", bytes("1")), (store) => readAll(store, "a").then(String), "1"],
  ["remove", (store) => store.create("a", bytes("1")), (store) => store.remove("a").then(() => paths(store)), []],
  ["list", (store) => store.create("a", bytes("1")), (store) => paths(store), ["a"]],
];

describe("a SAS that is rotated while a store is open", () => {
  for (const [name, prepare, call, want] of calls)
    test(`${name} is repeated with the new SAS`, async () => {
      const { store, rotate } = await opened();
      await prepare(store);
      await rotate();
      assert.deepEqual(await call(store), want);
      assert.equal(refusals, 1);
    });

  test("rotated between the blocks of a file", async () => {
    const { store, rotate } = await opened();
    const upload = await store.upload("P-1.ndjson", "application/fhir+ndjson");
    const first = await upload.stage(1, "aaaaaaaa", bytes("one\n"));
    await rotate();
    const blocks: StagedBlock[] = [
      [first, 4],
      [await upload.stage(2, "aaaaaaaa", bytes("two\n")), 4],
    ];
    await rotate();
    assert.equal(await upload.holds(blocks), true);
    await rotate();
    assert.equal(await upload.commit(blocks), "committed");
    assert.equal((await readAll(store, "P-1.ndjson"))?.toString(), "one\ntwo\n");
    assert.equal(refusals, 3);
  });

  test("rotated between the pages of a list: nothing comes twice, and nothing is missing", async () => {
    const { store, rotate } = await opened();
    const names = ["a", "b", "c", "d", "e"];
    for (const name of names) await store.create(name, bytes(name));
    const found: string[] = [];
    for await (const { path } of store.list("")) {
      found.push(path);
      if (path === "b" || path === "d") await rotate();
    }
    assert.deepEqual(found, names);
    assert.equal(refusals, 2);
  });

  test("rotated before many concurrent calls", async () => {
    const { store, rotate } = await opened();
    await rotate();
    const tags = await Promise.all(Array.from({ length: 8 }, (_, index) => store.create(`x${index}`, bytes("1"))));
    assert(tags.every(Boolean));
    assert(refusals <= 8);
  });

  test("revoked, with no new one in the Secret: a terminal error after one more look", async () => {
    const { store, revoke } = await opened();
    revoke();
    await assert.rejects(store.create("a", bytes("1")), (error) => {
      assert(error instanceof FailureError);
      assert.deepEqual([error.class, error.reason], ["terminal", "TargetUnauthorized"]);
      assert.doesNotMatch(error.message, /sig=/);
      return true;
    });
    assert.equal(refusals, 1);
  });
});

test("an account key that is rotated while a store is open", async () => {
  const { secrets, target } = await place("azure");
  const file = join(secrets, "target", "connection-string");
  const wrong = Buffer.from("another key").toString("base64");
  await writeFile(file, azurite().connectionString.replace(accountKey, wrong));
  const store = await openStore(target, secrets);
  await assert.rejects(store.create("a", bytes("1")), { reason: "TargetUnauthorized" });
  await writeFile(file, azurite().connectionString);
  await store.prepare();
  assert(await store.create("a", bytes("1")));
  assert.equal((await readAll(store, "a"))?.toString(), "1");
});

test("an error names the key of a new connection string that is not valid", async () => {
  const { secrets, target } = await place("azure");
  const file = join(secrets, "target", "connection-string");
  await writeFile(file, azurite().connectionString.replace(accountKey, Buffer.from("x").toString("base64")));
  const store = await openStore(target, secrets);
  await writeFile(file, "SECRET");
  await assert.rejects(store.create("a", bytes("1")), (error) => {
    assert(error instanceof FailureError);
    assert.match(error.message, /key "connection-string".*is not an Azure Storage connection string/);
    assert.doesNotMatch(error.message, /SECRET/);
    return true;
  });
});
