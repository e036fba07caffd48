import assert from "node:assert/strict";
import { afterEach, beforeEach, suite, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { allIds, count, get, idsOf, nextOf, type Page, pagesOf } from "./client.ts";
import { type Source, startSource } from "./server.ts";

suite("writes to the sample source", () => {
  let source: Source;
  let now: number;
  beforeEach(async () => {
    now = Date.UTC(2026, 0, 1);
    source = await startSource({ scale: 0.1, now: () => now });
  });
  afterEach(() => source.close());

  const at = (ms: number) => new Date(ms).toISOString();
  const basic = (id: string, more = "") => `{"resourceType":"Basic","id":"${id}"${more}}`;

  test("put sets version and time by the server's clock and keeps the rest of the text", () => {
    const first = source.put(basic("a", ',"meta":{"lastUpdated":"1999-01-01T00:00:00Z","profile":["p"]},"v":1.50'));
    assert.equal(
      first.bytes.toString(),
      '{"resourceType":"Basic","id":"a","meta":{"versionId":"1","lastUpdated":"2026-01-01T00:00:00.000Z","profile":["p"]},"v":1.50}',
    );
    now += 5;
    assert.equal(source.put(basic("a")).versionId, "2");
    assert.match(source.get("Basic", "a")!, /"versionId":"2","lastUpdated":"2026-01-01T00:00:00.005Z"/);
  });

  test("an update moves in the order of time and stays one resource", async () => {
    const before = await allIds(source.baseURL, "Patient?_sort=_lastUpdated&_count=100");
    source.put(`{"resourceType":"Patient","id":"${before[3]}"}`);
    const moved = before.filter((id) => id !== before[3]);
    assert.deepEqual(await allIds(source.baseURL, "Patient?_sort=_lastUpdated&_count=100"), [...moved, before[3]]);
    assert.equal(await count(source.baseURL, `Patient?_lastUpdated=ge${at(now)}`), 1);
    assert.equal(source.dump("Patient").size, before.length);
  });

  test("a deleted resource is gone from searches and dump, and 410 by id", async () => {
    assert.equal(source.delete("Patient", "p0"), true);
    assert.equal(source.delete("Patient", "p0"), false);
    assert.deepEqual(await allIds(source.baseURL, "Patient?_id=p0"), []);
    assert.equal(source.dump().has("Patient/p0"), false);
    assert.equal((await get(source.baseURL, "Patient/p0")).status, 410);
    assert.equal((await get(source.baseURL, "Patient/p0/_history/1")).status, 200);
  });

  test("a cursor goes on behind its place: nothing twice, nothing that stayed missed", async () => {
    const first = (await get(source.baseURL, "Patient?_sort=_lastUpdated,_id&_count=5")).page;
    source.put(`{"resourceType":"Patient","id":"${idsOf(first)[0]}"}`);
    const rest = (await pagesOf(source.baseURL, nextOf(first)!)).flatMap(idsOf);
    assert.equal(rest.length, 20, "19 and the one that moved to the end");
    assert.equal(new Set([...idsOf(first), ...rest]).size, 24);
  });

  test("offset pages skip a stranger when a row moves up", async () => {
    source.set({ paging: "offset" });
    const before = await allIds(source.baseURL, "Patient?_sort=_lastUpdated,_id&_count=5");
    const first = (await get(source.baseURL, "Patient?_sort=_lastUpdated,_id&_count=5")).page;
    source.put(`{"resourceType":"Patient","id":"${before[0]}"}`);
    const rest = (await pagesOf(source.baseURL, nextOf(first)!)).flatMap(idsOf);
    assert.ok(!rest.includes(before[5]!));
  });

  test("snapshot pages serve what their ids have become", async () => {
    source.set({ paging: "snapshot" });
    const before = await allIds(source.baseURL, "Patient?_sort=_lastUpdated,_id&_count=5");
    const first = (await get(source.baseURL, "Patient?_sort=_lastUpdated,_id&_count=5")).page;
    source.put(`{"resourceType":"Patient","id":"${before[6]}"}`);
    source.delete("Patient", before[7]!);
    const pages = await pagesOf(source.baseURL, nextOf(first)!);
    assert.deepEqual(idsOf(pages[0]!), [before[5], before[6], before[8], before[9]]);
    assert.equal(pages[0]!.entry![1]!.resource!.meta.lastUpdated, at(now));
  });

  interface History {
    total: number;
    entry?: {
      resource?: { id: string; meta: { versionId: string } };
      request: { method: string; url: string };
      response: { etag: string; lastModified?: string };
    }[];
  }
  const history = async (path: string) => JSON.parse((await get(source.baseURL, path)).text) as History & Page;
  const told = ({ entry }: History) =>
    (entry ?? []).map(({ request, response }) => `${request.method} ${request.url} ${response.etag}`);

  test("_history of a type and an instance: newest first, deletions without resource", async () => {
    source.put(basic("a"));
    source.put(basic("b"));
    const since = (now += 10);
    source.put(basic("a"));
    now += 10;
    source.delete("Basic", "b");
    assert.deepEqual(told(await history("Basic/_history")), [
      'DELETE Basic/b W/"2"',
      'PUT Basic/a W/"2"',
      'PUT Basic/b W/"1"',
      'PUT Basic/a W/"1"',
    ]);
    assert.deepEqual(told(await history(`Basic/_history?_since=${at(since)}`)), [
      'DELETE Basic/b W/"2"',
      'PUT Basic/a W/"2"',
    ]);
    assert.deepEqual(told(await history(`Basic/_history?_since=${at(since + 1)}`)), ['DELETE Basic/b W/"2"']);
    assert.deepEqual(told(await history("Basic/a/_history")), ['PUT Basic/a W/"2"', 'PUT Basic/a W/"1"']);
    const [deletion] = (await history("Basic/_history?_count=1")).entry!;
    assert.deepEqual([deletion!.resource, deletion!.response.lastModified], [undefined, undefined]);
  });

  test("_history?_at= tells what was current then", async () => {
    source.put(basic("a"));
    source.put(basic("b"));
    const then = now;
    now += 10;
    source.put(basic("a"));
    source.delete("Basic", "b");
    assert.deepEqual(told(await history(`Basic/_history?_at=${at(then)}`)).sort(), [
      'PUT Basic/a W/"1"',
      'PUT Basic/b W/"1"',
    ]);
    assert.deepEqual(told(await history(`Basic/_history?_at=${at(then - 1)}`)), []);
    assert.deepEqual(told(await history(`Basic/a/_history?_at=${at(now)}`)), ['PUT Basic/a W/"2"']);
  });

  test("_history pages, and can be switched off", async () => {
    for (let n = 0; n < 7; n++) source.put(basic("a"));
    const pages = await pagesOf(source.baseURL, "Basic/_history?_count=3");
    assert.deepEqual(
      pages.map(({ entry }) => entry!.length),
      [3, 3, 1],
    );
    source.set({ noTypeHistory: true });
    assert.equal((await get(source.baseURL, "Basic/_history")).status, 400);
    assert.equal((await get(source.baseURL, "Basic/a/_history")).status, 200);
    source.set({ noInstanceHistory: true });
    assert.equal((await get(source.baseURL, "Basic/a/_history")).status, 400);
    assert.doesNotMatch((await get(source.baseURL, "metadata")).text, /history-/);
  });

  test("an index that lags shows all writes so far when it catches up", async () => {
    source.set({ lag: 3_600_000 });
    source.put(basic("a"));
    source.put(basic("b"));
    source.put(basic("b", ',"v":2'));
    assert.deepEqual(await allIds(source.baseURL, "Basic"), []);
    source.catchUp();
    assert.deepEqual(await allIds(source.baseURL, "Basic?_sort=_id"), ["a", "b"]);
    assert.match((await get(source.baseURL, "Basic?_id=b")).text, /"v":2/);
  });

  test("with a lag, searches see a write later than a read does", async () => {
    source.set({ lag: 1000 });
    source.put(basic("late"));
    source.put(`{"resourceType":"Patient","id":"p0"}`);
    assert.equal((await get(source.baseURL, "Basic/late")).status, 200);
    assert.deepEqual(await allIds(source.baseURL, "Basic"), []);
    assert.equal(await count(source.baseURL, "Patient"), 24);
    while ((await allIds(source.baseURL, "Basic")).length === 0) await sleep(50);
    assert.deepEqual(await allIds(source.baseURL, "Basic"), ["late"]);
    assert.equal(await count(source.baseURL, `Patient?_lastUpdated=ge${at(now)}`), 1);
  });

  test("PUT and DELETE over HTTP", async () => {
    const put = () => get(source.baseURL, "Basic/web", { method: "PUT", body: basic("web", ',"v":0.010') });
    assert.equal((await put()).status, 201);
    const again = await put();
    assert.deepEqual([again.status, again.headers.get("etag")], [200, 'W/"2"']);
    assert.match(source.get("Basic", "web")!, /"v":0\.010/);
    assert.equal((await get(source.baseURL, "Basic/web", { method: "DELETE" })).status, 204);
    assert.equal(source.get("Basic", "web"), undefined);
  });
});
