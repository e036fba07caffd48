// What the service answers to kick-offs that it refuses or repeats, to DELETE, and to polls: called from contract.ts.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { until } from "../tools/until.ts";
import type { KickOff } from "./bulk-client.ts";
import { type Calls, type KickOffParameters, textOf } from "./contract-calls.ts";

export function requestsContract({ backend, client, accepted, refused }: Calls): void {
  const refusals: Record<string, { kickOff: KickOff; status: number; says: RegExp }> = {
    "R44 no Accept": { kickOff: { path: "/$export", headers: { accept: "text/html" } }, status: 400, says: /Accept/ },
    "R46 no Prefer": {
      kickOff: { path: "/$export", headers: { prefer: "return=minimal" } },
      status: 400,
      says: /respond-async/,
    },
    "R69 an unknown parameter": {
      kickOff: { path: "/$export", parameters: [["_foo", "1"]] },
      status: 400,
      says: /_foo/,
    },
    "R49 another format": {
      kickOff: { path: "/$export", parameters: [["_outputFormat", "text/csv"]] },
      status: 400,
      says: /_outputFormat/,
    },
    "R63 a type that the source cannot search": {
      kickOff: { path: "/$export", parameters: [["_type", "Starship"]] },
      status: 400,
      says: /cannot search Starship/,
    },
    "R107 a type outside the compartment": {
      kickOff: { path: "/Patient/$export", parameters: [["_type", "Organization"]] },
      status: 400,
      says: /Organization.*compartment/,
    },
    "_since in the future": {
      kickOff: { path: "/$export", parameters: [["_since", new Date(Date.now() + 86_400_000).toISOString()]] },
      status: 400,
      says: /_since/,
    },
    "a container that the target does not allow": {
      kickOff: { path: "/$export", parameters: [["_container", "private"]] },
      status: 400,
      says: /_container/,
    },
    "R87 patient by GET": {
      kickOff: { path: "/Patient/$export", parameters: [["patient", "Patient/p-1"]] },
      status: 400,
      says: /POST/,
    },
    "organizeOutputBy is not supported": {
      kickOff: { path: "/$export", parameters: [["organizeOutputBy", "Patient"]] },
      status: 400,
      says: /organizeOutputBy/,
    },
  };
  for (const [title, { kickOff, status, says }] of Object.entries(refusals))
    test(`${title}: ${status}`, async () => {
      const answer = await refused(kickOff);
      assert.equal(answer.status, status);
      assert.match(textOf(answer), says);
    });

  test("the job finds that a Group does not exist: 422 at the status URL", async () => {
    const answer = await client().wait(await accepted({ path: "/Group/nobody/$export" }));
    assert("status" in answer);
    assert.equal(answer.status, 422);
    assert.match(textOf(answer), /UnknownGroup/);
  });

  test("HEAD starts nothing and other methods are refused", async () => {
    for (const path of ["/$export", "/Patient/$export", "/Group/ward/$export"]) {
      const answer = await fetch(`${backend().base}${path}`, {
        method: "HEAD",
        headers: { accept: "*/*", prefer: "respond-async" },
      });
      assert.equal(answer.status, 405);
    }
    assert.equal((await fetch(`${backend().base}/$export`, { method: "PUT" })).status, 405);
  });

  test("R119-R122: after DELETE every request is 404, at once here and within a second elsewhere", async () => {
    const running = await accepted({ path: "/$export" });
    const { statusURL: whole, manifest } = await client().export({
      path: "/$export",
      parameters: [["_type", "Group"]],
    });
    for (const url of [running, whole]) {
      assert.equal((await fetch(url, { method: "DELETE" })).status, 202);
      assert.equal((await fetch(url)).status, 404);
      assert.equal((await fetch(url, { method: "DELETE" })).status, 404);
      for (const other of backend().others) {
        const elsewhere = url.replace(backend().base, other);
        await until("404 elsewhere", async () => (await fetch(elsewhere)).status === 404, 1000);
      }
    }
    assert.equal((await fetch(manifest.output[0]!.url)).status, 404);
  });

  test("a repeated kick-off with the same Idempotency-Key makes one export", async () => {
    const headers = { "idempotency-key": crypto.randomUUID() };
    const once = { path: "/$export", parameters: [["_type", "Group"]] as KickOffParameters, headers };
    const urls = await Promise.all([accepted(once), accepted(once), accepted(once)]);
    assert.equal(new Set(urls).size, 1);
    const another = await refused({ ...once, path: "/Patient/$export" });
    assert.equal(another.status, 422);
    await client().wait(urls[0]!);
    assert.equal(await accepted(once), urls[0]);
    await fetch(urls[0]!, { method: "DELETE" });
    assert.equal((await refused(once)).status, 409);
    const others = await Promise.all([accepted({ path: "/$export" }), accepted({ path: "/$export" })]);
    assert.notEqual(others[0], others[1]);
    for (const url of others) await fetch(url, { method: "DELETE" });
  });

  test("Prefer: separate-export-status: 200 is about the poll, X-Export-Status about the export", async () => {
    const headers = { accept: "*/*", prefer: "respond-async, separate-export-status" };
    const answer = await fetch(`${backend().base}/Group/nobody/$export`, { headers });
    assert.equal(answer.status, 202);
    assert.deepEqual(answer.headers.get("preference-applied")?.split(/,\s*/), [
      "respond-async",
      "separate-export-status",
    ]);
    const states: string[] = [];
    await until(
      "an end",
      async () => {
        const poll = await fetch(answer.headers.get("content-location")!);
        assert.equal(poll.status, 200);
        states.push(poll.headers.get("x-export-status")!);
        await poll.body?.cancel();
        await sleep(300);
        return !states.at(-1)!.startsWith("202");
      },
      60_000,
    );
    assert.equal(states[0], "202 Accepted");
    assert.equal(states.at(-1), "422 Unprocessable Entity");
  });
}
