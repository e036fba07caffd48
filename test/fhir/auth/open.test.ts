import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Auth } from "../../sources/faults.ts";
import { type Source, startSource } from "../../sources/server.ts";
import { failureOf, signedClients } from "../signed.ts";

const open = signedClients();
let source: Source;
before(async () => {
  source = await startSource({ scale: 0.01, behaviour: { closedMetadata: true } });
});
after(() => source.close());
const statuses = () => source.requests.map(({ status }) => status);
const from = (mark: number) => statuses().slice(mark);

const bearer = (token: string): Auth => ({ kind: "bearer", token });
const basic = (username: string, password: string): Auth => ({ kind: "basic", username, password });

for (const [name, wanted, kind, files] of [
  ["none", { kind: "none" }, "none", {}],
  ["basic", basic("u", "p:w"), "basic", { username: "u\n", password: "p:w\n" }],
  ["bearer", bearer("t.o-k"), "bearer", { token: "t.o-k\n" }],
] as const)
  test(`${name} is taken`, async () => {
    source.setAuth(wanted);
    assert.equal(await (await open(source.baseURL, { kind }, files)).get(), 200);
  });

test("a rotated Secret counts at the next request", async () => {
  const { get, write } = await open(source.baseURL, { kind: "bearer" }, { token: "one" });
  source.setAuth(bearer("one"));
  await get();
  source.setAuth(bearer("two"));
  await write("token", "two");
  const mark = statuses().length;
  await get();
  assert.deepEqual(from(mark), [200]);
});

for (const kind of ["bearer", "basic"] as const)
  test(`a Secret that is rotated while a request is under way: one more try (${kind})`, async () => {
    const [key, wanted] =
      kind === "bearer" ? (["token", bearer("new")] as const) : (["password", basic("u", "new")] as const);
    const { get, write } = await open(source.baseURL, { kind }, { username: "u", [key]: "old" });
    source.setAuth(wanted);
    const off = source.onRequest(() => write(key, "new"));
    const mark = statuses().length;
    await get().finally(off);
    assert.deepEqual(from(mark), [401, 200]);
  });

test("a file that is empty while it is written is read again", async () => {
  const { get, write } = await open(source.baseURL, { kind: "bearer" }, { token: "" });
  source.setAuth(bearer("late"));
  const written = new Promise((resolve) => setTimeout(resolve, 20)).then(() => write("token", "late"));
  assert.equal(await get(), 200);
  await written;
});

test("credentials that were refused and are still in the Secret are not sent again", async () => {
  const { get } = await open(source.baseURL, { kind: "bearer" }, { token: "wrong" });
  source.setAuth(bearer("right"));
  const mark = statuses().length;
  const failure = await failureOf(get());
  assert.deepEqual([failure.class, failure.reason], ["terminal", "SourceUnauthorized"]);
  assert.deepEqual(from(mark), [401]);
});

const wrong: [string, "basic" | "bearer", Record<string, string>, RegExp][] = [
  ["no token", "bearer", {}, /auth\.bearer has no key "token"/],
  ["no password", "basic", { username: "u" }, /auth\.basic has no key "password"/],
  ["an empty token", "bearer", { token: "\n" }, /key "token".*auth\.bearer is empty/],
  ["a token of two lines", "bearer", { token: "SECRET\nSECRET" }, /key "token".*auth\.bearer holds characters/],
];
for (const [name, kind, files, message] of wrong)
  test(`a Secret with ${name}`, async () => {
    const failure = await failureOf((await open(source.baseURL, { kind }, files)).get());
    assert.deepEqual([failure.class, failure.reason], ["terminal", "SourceUnauthorized"]);
    assert.match(failure.message, message);
    assert.doesNotMatch(failure.message, /SECRET/);
  });
