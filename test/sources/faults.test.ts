import assert from "node:assert/strict";
import { afterEach, beforeEach, suite, test } from "node:test";
import { allIds, count, get, idsOf, nextOf, pagesOf, selfOf } from "./client.ts";
import type { Behaviour, Fault } from "./faults.ts";
import { type Source, startSource } from "./server.ts";

suite("faults of the sample source", () => {
  let source: Source;
  beforeEach(async () => void (source = await startSource({ scale: 0.1, control: true })));
  afterEach(() => source.close());

  const first = (path = "Observation?_count=10") => get(source.baseURL, path);
  const isWhole = async () => assert.equal((await first()).page.entry!.length, 10);

  test("status, Retry-After and how often", async () => {
    source.inject({ kind: "status", status: 429, retryAfter: 7, times: 2 });
    const refused = await first();
    assert.deepEqual([refused.status, refused.headers.get("retry-after")], [429, "7"]);
    assert.match(refused.text, /OperationOutcome/);
    assert.equal((await first()).status, 429);
    await isWhole();
  });

  test("match and skip choose the request", async () => {
    source.inject({ kind: "status", status: 500, match: "gender=male,female", skip: 1 });
    const search = "Patient?gender=male%2Cfemale";
    assert.equal((await first("Patient")).status, 200);
    assert.deepEqual(
      [(await first(search)).status, (await first(search)).status, (await first(search)).status],
      [200, 500, 200],
    );
  });

  test("a standing fault ends when it is cleared", async () => {
    source.inject({ kind: "status", status: 503, times: "always" });
    for (let n = 0; n < 5; n++) assert.equal((await first()).status, 503);
    source.clearFaults();
    await isWhole();
  });

  test("html: a web page with 200", async () => {
    source.inject({ kind: "html" });
    const got = await first();
    assert.deepEqual(
      [got.status, got.headers.get("content-type"), got.text[0]],
      [200, "text/html; charset=utf-8", "<"],
    );
  });

  test("drop and cut end the connection", async () => {
    for (const fault of [{ kind: "drop" }, { kind: "cut" }] satisfies Fault[]) {
      source.inject(fault);
      await assert.rejects(first());
      await isWhole();
    }
  });

  test("a clean cut is half a body that ends properly", async () => {
    source.inject({ kind: "cut", clean: true });
    const got = await first();
    assert.equal(got.status, 200);
    assert.throws(() => got.page, SyntaxError);
  });

  test("slow, and the page delay", async () => {
    source.inject({ kind: "slow", ms: 60 });
    for (const set of [{}, { pageDelay: 60 }]) {
      source.set(set);
      const start = performance.now();
      await first();
      assert.ok(performance.now() - start >= 59);
    }
    source.set({ pageDelay: 5000 });
    const start = performance.now();
    await first("Observation?_summary=count");
    assert.ok(performance.now() - start < 4000, "counts are not pages");
  });

  for (const [fault, seen] of [
    [{ kind: "wrongType" }, /"resourceType":"Basic"/],
    [{ kind: "outcome" }, /"mode":"outcome"/],
    [{ kind: "notBundle" }, /^\{"hello"/],
  ] satisfies [Fault, RegExp][])
    test(`${fault.kind} is in the page, once`, async () => {
      source.inject(fault);
      assert.match((await first()).text, seen);
      assert.doesNotMatch((await first()).text, seen);
    });

  test("garbage makes one resource unreadable", async () => {
    source.inject({ kind: "garbage" });
    const got = await first();
    assert.throws(() => got.page, SyntaxError);
    assert.equal(got.text.split('"fullUrl"').length - 1, 10);
  });

  test("foreignNext, repeatNext and noNext change the link", async () => {
    source.inject({ kind: "foreignNext", origin: "http://evil.example" });
    assert.match(nextOf((await first()).page)!, /^http:\/\/evil\.example\//);
    source.inject({ kind: "repeatNext", match: "_cursor" });
    const page = await first();
    const next = nextOf(page.page)!;
    assert.equal(nextOf((await first(next)).page), next);
    source.inject({ kind: "noNext" });
    assert.equal(nextOf((await first()).page), undefined);
  });

  test("link faults wait for a page that has a next link", async () => {
    source.inject({ kind: "noNext" });
    await first("Group");
    await first("Observation?_summary=count");
    assert.equal(nextOf((await first()).page), undefined);
  });

  test("shortPage lacks entries, its total does not", async () => {
    source.inject({ kind: "shortPage", missing: 3 });
    const { page } = await first("Group");
    assert.deepEqual([page.entry!.length, page.total], [5, 8]);
  });

  test("expired links are 410", async () => {
    const next = nextOf((await first()).page)!;
    source.inject({ kind: "expired" });
    assert.equal((await first()).status, 200);
    assert.equal((await first(next)).status, 410);
    assert.equal((await first(next)).status, 200);
    source.expireLinks();
    assert.equal((await first(next)).status, 410);
  });

  const all = (behaviour: Behaviour) => source.set(behaviour);
  test("ignored parameters neither filter nor come back in the self link", async () => {
    all({ ignore: ["gender", "_lastUpdated"] });
    const { page } = await first("Patient?gender=female&_lastUpdated=lt1900-01-01&active=true");
    assert.deepEqual([...new URL(selfOf(page)).searchParams.keys()], ["active"]);
    assert.equal(await count(source.baseURL, "Patient?gender=female&_lastUpdated=lt1900"), 24);
    all({ ignoreButRepeat: true });
    assert.match(selfOf((await first("Patient?gender=female")).page), /gender=female/);
  });

  test("unknown parameters: ignored, or only unless strict", async () => {
    all({ unknownParameters: "ignore" });
    const { page } = await first("Patient?nonsense=1");
    assert.deepEqual([page.total ?? 24, selfOf(page).includes("nonsense")], [24, false]);
    all({ unknownParameters: "ignoreUnlessStrict" });
    assert.equal((await first("Patient?nonsense=1")).status, 200);
    assert.equal(
      (await get(source.baseURL, "Patient?nonsense=1", { headers: { prefer: "handling=strict" } })).status,
      400,
    );
  });

  test("no counts, wrong counts, no sort", async () => {
    all({ noCount: true });
    const { page } = await first("Patient?_summary=count&_count=10");
    assert.deepEqual([page.entry!.length, page.total], [10, undefined]);
    all({ noCount: false, countError: 5 });
    assert.equal(await count(source.baseURL, "Patient"), 29);
    all({ refuseSort: true });
    assert.equal((await first("Patient?_sort=_lastUpdated")).status, 400);
  });

  test("parameters that are refused, find nothing, or count only when they come last", async () => {
    all({ refuse: ["_lastUpdated"] });
    assert.equal((await first("Patient?_lastUpdated=ge2000")).status, 400);
    all({ refuse: [], findNothing: ["_lastUpdated"] });
    assert.deepEqual(
      [await count(source.baseURL, "Patient?_lastUpdated=ge2000"), await count(source.baseURL, "Patient")],
      [0, 24],
    );
    assert.equal((await first("Patient?_lastUpdated=ge2000")).page.entry, undefined);
    all({ findNothing: [], lastOnly: true });
    assert.equal(await count(source.baseURL, "Patient?_lastUpdated=lt2000&_lastUpdated=ge2000"), 24);
    assert.equal(await count(source.baseURL, "Patient?_lastUpdated=ge2000&_lastUpdated=lt2000"), 0);
  });

  test("an index of whole seconds: windows find what they hold when rounded", async () => {
    const at = Date.parse("2026-03-01T00:00:00.700Z");
    const text = '{"resourceType":"Patient","id":"a"}';
    const own = await startSource({ resources: [{ type: "Patient", id: "a", versionId: "1", lastUpdated: at, text }] });
    const window = (from: string, till: string) =>
      count(own.baseURL, `Patient?_lastUpdated=ge2026-03-01T${from}Z&_lastUpdated=lt2026-03-01T${till}Z`);
    try {
      const counts = async () => [
        await window("00:00:00.000", "00:00:00.001"),
        await window("00:00:00.700", "00:00:00.701"),
        await window("00:00:01.000", "00:00:01.001"),
      ];
      assert.deepEqual(await counts(), [0, 1, 0]);
      own.set({ precision: { ms: 1000 } });
      assert.deepEqual(await counts(), [1, 0, 0]);
      own.set({ precision: { ms: 1000, nearest: true } });
      assert.deepEqual(await counts(), [0, 0, 1]);
    } finally {
      await own.close();
    }
  });

  test("a resource without a time is in no window, and in the whole", async () => {
    const resources = ["a", "b", "c"].map((id, n) => ({
      type: "Patient",
      id,
      versionId: "1",
      lastUpdated: n === 0 ? Date.parse("2026-01-01") : Number.NEGATIVE_INFINITY,
      text: `{"resourceType":"Patient","id":"${id}"}`,
    }));
    const own = await startSource({ resources });
    try {
      const counts = ["Patient", "Patient?_lastUpdated=lt2100", "Patient?_lastUpdated=ge1900"].map((search) =>
        count(own.baseURL, search),
      );
      assert.deepEqual(await Promise.all(counts), [3, 1, 1]);
      assert.deepEqual(await allIds(own.baseURL, "Patient?_count=1&_sort=_lastUpdated,_id"), ["b", "c", "a"]);
      assert.deepEqual(await allIds(own.baseURL, "Patient?_count=1&_sort=-_lastUpdated,-_id"), ["a", "c", "b"]);
    } finally {
      await own.close();
    }
  });

  test("the window delay is of each page of a windowed search, and of no other", async () => {
    all({ windowDelay: 60 });
    const timed = async (path: string) => {
      const start = performance.now();
      const { page } = await first(path);
      return { next: nextOf(page)!, ms: performance.now() - start };
    };
    const windowed = await timed("Observation?_count=10&_lastUpdated=ge2000");
    assert.ok(windowed.ms >= 59 && (await timed(windowed.next)).ms >= 59);
    all({ windowDelay: 5000 });
    assert.ok((await timed("Observation?_count=10&_sort=_lastUpdated")).ms < 4000);
  });

  test("unstable order: two searches differ, each is whole", async () => {
    all({ unstableOrder: true });
    const one = await allIds(source.baseURL, "Observation?_count=100&_sort=_lastUpdated,_id");
    const two = await allIds(source.baseURL, "Observation?_count=100&_sort=_lastUpdated,_id");
    assert.notDeepEqual(one, two);
    assert.deepEqual(one.toSorted(), two.toSorted());
    assert.equal(new Set(one).size, source.dump("Observation").size);
  });

  test("links last, Link header, another cap", async () => {
    all({ linksLast: true, linkHeader: true, maxCount: 5 });
    const got = await first();
    assert.ok(got.text.indexOf('"link"') > got.text.indexOf('"entry"'));
    assert.equal(got.headers.get("link"), `<${nextOf(got.page)}>; rel="next"`);
    assert.equal(got.page.entry!.length, 5);
  });

  test("basic and bearer: 401 until the credentials are right, and they can change", async () => {
    const status = async (authorization?: string) =>
      (await get(source.baseURL, "Patient", authorization ? { headers: { authorization } } : {})).status;
    source.setAuth({ kind: "bearer", token: "t1" });
    assert.deepEqual([await status(), await status("Bearer t2"), await status("Bearer t1")], [401, 401, 200]);
    source.setAuth({ kind: "bearer", token: "t2" });
    assert.deepEqual([await status("Bearer t1"), await status("Bearer t2")], [401, 200]);
    source.setAuth({ kind: "basic", username: "u", password: "p:w" });
    assert.deepEqual([await status("Bearer t2"), await status(`Basic ${btoa("u:p:w")}`)], [401, 200]);
    assert.equal((await first("metadata")).status, 200);
    source.set({ closedMetadata: true });
    const closed = await first("metadata");
    assert.deepEqual([closed.status, JSON.parse(closed.text).resourceType], [401, "OperationOutcome"]);
  });

  test("hooks act at the k-th request, the log tells what was asked", async () => {
    const seen: number[] = [];
    const off = source.onRequest(async (_request, number) => {
      seen.push(number);
      if (number === 2) source.put('{"resourceType":"Patient","id":"new"}');
    });
    const before = (await first("Patient?_count=100")).page.entry!.length;
    assert.equal((await first("Patient?_count=100")).page.entry!.length, before + 1);
    off();
    await get(source.baseURL, "Patient/_search", { method: "POST", body: new URLSearchParams({ _id: "p0" }) });
    assert.deepEqual(seen, [1, 2]);
    assert.deepEqual(
      source.requests.map(({ method, url, status, form }) => [method, url, status, form?.length]),
      [
        ["GET", "/fhir/Patient?_count=100", 200, undefined],
        ["GET", "/fhir/Patient?_count=100", 200, undefined],
        ["POST", "/fhir/Patient/_search", 200, 1],
      ],
    );
    assert.deepEqual([source.counters.requests, source.counters.pages], [3, 3]);
  });

  test("another process controls it over HTTP", async () => {
    const control = (body: object) =>
      fetch(new URL("/_control", source.baseURL), { method: "POST", body: JSON.stringify(body) });
    await control({
      inject: { kind: "status", status: 500 },
      put: ['{"resourceType":"Patient","id":"new","v":1.50}'],
      delete: ["Patient/p0"],
      behaviour: { maxCount: 3 },
    });
    assert.equal((await first()).status, 500);
    assert.equal((await first()).page.entry!.length, 3);
    assert.match(source.get("Patient", "new")!, /"v":1\.50/);
    assert.equal(source.get("Patient", "p0"), undefined);
    const told = (await (await fetch(new URL("/_control", source.baseURL))).json()) as {
      counters: { requests: number };
    };
    assert.equal(told.counters.requests, 2, "control requests are not counted");
  });

  test("without the option there is no control", async () => {
    const own = await startSource({ scale: 0.1 });
    try {
      await fetch(new URL("/_control", own.baseURL), {
        method: "POST",
        body: JSON.stringify({ delete: ["Patient/p0"] }),
      });
      assert.notEqual(own.get("Patient", "p0"), undefined);
    } finally {
      await own.close();
    }
  });

  test("pages end where they should while nothing is wrong", async () => {
    const pages = await pagesOf(source.baseURL, "Observation?_count=100");
    assert.equal(pages.flatMap(idsOf).length, source.dump("Observation").size);
  });
});
