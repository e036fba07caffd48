import assert from "node:assert/strict";
import { suite, test } from "node:test";
import {
  type Assertion,
  ask,
  assertion,
  clock,
  ec,
  type Keyed,
  keysURL,
  openAuthority,
  other,
  served,
  tokenOf,
} from "./registered.ts";

suite("keys at a URL", () => {
  const remote = (key: Keyed): Assertion => ({ key, claims: { iss: "remote", sub: "remote" } });
  const serve = (keys: Keyed[], headers: Record<string, string> = {}, status = 200) =>
    Object.assign(served, { keys: keys.map((key) => key.public), headers, status, requests: 0 });

  test("are kept as long as their owner says, and not longer", async () => {
    serve([ec], { "cache-control": "max-age=60" });
    const authority = openAuthority();
    await tokenOf(authority, remote(ec));
    await tokenOf(authority, remote(ec));
    assert.equal(served.requests, 1);
    clock.now += 61_000;
    await tokenOf(authority, remote(ec));
    assert.equal(served.requests, 2);
  });

  test("with no-store, are fetched each time", async () => {
    serve([ec], { "cache-control": "no-store" });
    const authority = openAuthority();
    await tokenOf(authority, remote(ec));
    await tokenOf(authority, remote(ec));
    assert.equal(served.requests, 2);
  });

  test("a new key is found, but junk does not make the service flood the owner of the keys", async () => {
    serve([ec], { "cache-control": "max-age=3600" });
    const authority = openAuthority();
    await tokenOf(authority, remote(ec));
    for (let n = 0; n < 5; n++) assert.equal((await ask(authority, await assertion(remote(other)))).status, 401);
    assert.equal(served.requests, 1);
    served.keys = [ec.public, other.public];
    clock.now += 31_000;
    await tokenOf(authority, remote(other));
    assert.equal(served.requests, 2);
  });

  test("a withdrawn key is refused after an hour, whatever its owner said", async () => {
    serve([ec], { "cache-control": "max-age=31536000" });
    const authority = openAuthority();
    await tokenOf(authority, remote(ec));
    served.keys = [other.public];
    clock.now += 3_601_000;
    assert.equal((await ask(authority, await assertion(remote(ec)))).status, 401);
  });

  test("two keys with one kid are refused", async () => {
    serve([ec, { ...other, public: { ...other.public, kid: "ec-1" } }]);
    const { status, body } = await ask(openAuthority(), await assertion(remote(ec)));
    assert.deepEqual([status, /more than one/.test(JSON.stringify(body))], [401, true]);
  });

  test("a jku that is the registered URL is fine, another is not", async () => {
    serve([ec]);
    const authority = openAuthority();
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
    test(`${name} is the key owner's fault: no 401`, async () => {
      serve([ec], headers, status);
      await assert.rejects(ask(openAuthority(), await assertion(remote(ec))), /cannot be fetched/);
    });
});
