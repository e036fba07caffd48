import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import { allIds, count, get, idsOf, nextOf, pagesOf, selfOf } from "./client.ts";
import { generate } from "./generator.ts";
import { type Source, startSource } from "./server.ts";

const sample = generate();
const observations = sample.filter(({ type }) => type === "Observation");
const iso = (ms: number) => new Date(ms).toISOString();

suite("searches of the sample source", () => {
  let source: Source;
  before(async () => void (source = await startSource()));
  after(() => source.close());

  for (const paging of ["cursor", "offset", "snapshot"] as const)
    for (const sort of ["", "_lastUpdated,_id", "-_lastUpdated", "_lastUpdated", "_id", "-_id"])
      test(`${paging} pages sorted by "${sort}" hold each resource once, in order`, async () => {
        const own = await startSource({ behaviour: { paging } });
        try {
          const pages = await pagesOf(own.baseURL, `Observation?_count=200${sort ? `&_sort=${sort}` : ""}`);
          assert.equal(pages.length, Math.ceil(observations.length / 200));
          const got = pages.flatMap(idsOf);
          const by = sort || "-_lastUpdated";
          const wanted = observations.toSorted((a, b) => {
            const order = by.includes("_lastUpdated") ? a.lastUpdated - b.lastUpdated : a.id < b.id ? -1 : 1;
            return by.startsWith("-") ? -order : order;
          });
          assert.deepEqual(got.toSorted(), wanted.map(({ id }) => id).toSorted());
          const key = new Map(
            observations.map(({ id, lastUpdated }) => [id, by.includes("_lastUpdated") ? lastUpdated : id]),
          );
          assert.deepEqual(
            got.map((id) => key.get(id)),
            wanted.map(({ id }) => key.get(id)),
          );
          if (sort === "_lastUpdated,_id") {
            const time = new Map(observations.map(({ id, lastUpdated }) => [id, lastUpdated]));
            assert.ok(
              got.every((id, n) => n === 0 || time.get(got[n - 1]!)! < time.get(id)! || got[n - 1]! < id),
              "ties by id",
            );
          }
        } finally {
          await own.close();
        }
      });

  test("the bytes of a resource are those of the sample", async () => {
    for (const path of ["Observation?_count=250&_sort=_lastUpdated", "Patient?_count=250"]) {
      const { text, page } = await get(source.baseURL, path);
      const ids = idsOf(page);
      assert.ok(ids.length > 100);
      for (const it of sample.filter(({ type, id }) => path.startsWith(type) && ids.includes(id)))
        assert.ok(text.includes(`"resource":${it.text},"search"`), it.id);
    }
  });

  test("pretty pages hold the same tokens", async () => {
    const plain = await get(source.baseURL, "Patient?_count=50");
    const laidOut = await get(source.baseURL, "Patient?_count=50&_pretty=true");
    assert.ok(laidOut.text.includes("\n      "));
    assert.deepEqual(laidOut.page.entry, plain.page.entry);
  });

  test("next links are opaque, absolute and can be followed again", async () => {
    const first = await get(source.baseURL, "Observation?status=final&_count=10");
    const next = nextOf(first.page)!;
    assert.ok(next.startsWith(`${source.baseURL}/`));
    assert.doesNotMatch(next, /status|final|_count/);
    assert.equal((await get(source.baseURL, next)).text, (await get(source.baseURL, next)).text);
    assert.equal(nextOf((await get(source.baseURL, "Observation?status=final&_count=10")).page), next);
  });

  test("_count defaults to 20 and is capped", async () => {
    assert.equal((await get(source.baseURL, "Observation")).page.entry!.length, 20);
    assert.equal((await get(source.baseURL, "Observation?_count=100000")).page.entry!.length, 250);
  });

  test("totals: by _summary=count, by _total=accurate, or when one page holds all", async () => {
    const counted = (await get(source.baseURL, "Observation?_summary=count")).page;
    assert.equal(counted.total, observations.length);
    assert.equal(counted.entry, undefined);
    assert.equal((await get(source.baseURL, "Observation")).page.total, undefined);
    assert.equal((await get(source.baseURL, "Observation?_total=accurate")).page.total, observations.length);
    assert.equal((await get(source.baseURL, "Group")).page.total, 8);
  });

  test("windows add up at every bound, ties included", async () => {
    const tie = observations.find(({ id }) => id === "panel-3-0")!.lastUpdated;
    for (const at of [tie, tie + 1, tie - 1, observations[10]!.lastUpdated]) {
      const before = observations.filter(({ lastUpdated }) => lastUpdated < at).length;
      assert.equal(await count(source.baseURL, `Observation?_lastUpdated=lt${iso(at)}`), before);
      assert.equal(await count(source.baseURL, `Observation?_lastUpdated=ge${iso(at)}`), observations.length - before);
    }
    assert.equal(
      await count(source.baseURL, `Observation?_lastUpdated=ge${iso(tie)}&_lastUpdated=lt${iso(tie + 1)}`),
      400,
    );
    assert.equal(
      (await allIds(source.baseURL, `Observation?_lastUpdated=ge${iso(tie)}&_lastUpdated=lt${iso(tie + 1)}`)).length,
      400,
    );
    assert.equal(await count(source.baseURL, "Observation?_lastUpdated=lt1900-01-01"), 0);
  });

  test("a window holds for searches by _id and in the order of _id, too", async () => {
    const tie = observations.find(({ id }) => id === "panel-3-0")!.lastUpdated;
    assert.equal(
      (await allIds(source.baseURL, `Observation?_sort=_id&_lastUpdated=ge2001&_lastUpdated=lt${iso(tie)}&_count=250`))
        .length,
      among(0, tie),
    );
    assert.deepEqual(await allIds(source.baseURL, `Observation?_id=panel-3-0&_lastUpdated=lt${iso(tie)}`), []);
    assert.deepEqual(await allIds(source.baseURL, `Observation?_id=panel-3-0&_lastUpdated=ge${iso(tie)}`), [
      "panel-3-0",
    ]);
  });

  test("dump gives lines: the same tokens, no white space between them", () => {
    const spaced = sample.filter(({ text }) => text.startsWith('{"resourceType": '));
    assert.ok(spaced.length > 50);
    const lines = source.dump();
    for (const { type, id, text } of spaced.slice(0, 50)) {
      const line = lines.get(`${type}/${id}`)!.toString();
      assert.doesNotMatch(line, /^\{"resourceType": /);
      assert.deepEqual(JSON.parse(line), JSON.parse(text));
    }
  });

  const at = observations[100]!.lastUpdated;
  const second = at - (at % 1000);
  const among = (from: number, till: number) =>
    observations.filter(({ lastUpdated }) => lastUpdated >= from && lastUpdated < till).length;
  const infinity = Number.POSITIVE_INFINITY;
  for (const [value, wanted] of [
    [iso(at), among(at, at + 1)],
    [`eq${iso(at)}`, among(at, at + 1)],
    [`gt${iso(at)}`, among(at + 1, infinity)],
    [`le${iso(at)}`, among(-infinity, at + 1)],
    [`ge${new Date(at + 7_200_000).toISOString().replace("Z", "+02:00")}`, among(at, infinity)],
    [`lt${iso(at).replace("Z", "%2B00:00")}`, among(-infinity, at)],
    [`lt${iso(at).replace("Z", "+00:00")}`, among(-infinity, at)],
    [`lt${iso(at).replace("Z", "")}`, among(-infinity, at)],
    [iso(second).replace(".000Z", "Z"), among(second, second + 1000)],
    [`gt${iso(second).replace(".000Z", "Z")}`, among(second + 1000, infinity)],
    ["2021", among(Date.UTC(2021, 0), Date.UTC(2022, 0))],
    ["le2021-02", among(-infinity, Date.UTC(2021, 2))],
    ["gt2021-02-03", among(Date.UTC(2021, 1, 4), infinity)],
    [`ge${iso(at)}&_lastUpdated=ge2001`, among(at, infinity)],
    [`lt${iso(at)}&_lastUpdated=lt2099&_lastUpdated=ge2001`, among(-infinity, at)],
  ] as const)
    test(`_lastUpdated=${value}`, async () =>
      assert.equal(await count(source.baseURL, `Observation?_lastUpdated=${value}`), wanted));

  for (const path of [
    "Observation?nonsense=1",
    "Observation?_lastUpdated=yesterday",
    "Observation?_lastUpdated=ge2021-13-01",
    "Observation?_sort=code",
    "Observation?_count=many",
    "Observation?code:below=1",
    "Observation?subject.name=x",
    "Patient/p0/Observation",
    "Questionnaire",
    "?_type=Patient",
  ])
    test(`${path} is refused with 400, also when lenient`, async () => {
      const { status, text } = await get(source.baseURL, path.startsWith("?") ? `${source.baseURL}${path}` : path, {
        headers: { prefer: "handling=lenient" },
      });
      assert.equal(status, 400);
      assert.equal((JSON.parse(text) as { resourceType: string }).resourceType, "OperationOutcome");
    });

  test("unknown types and ids are 404", async () => {
    for (const path of ["Nonsense", "Patient/nobody"]) assert.equal((await get(source.baseURL, path)).status, 404);
  });

  test("types that hold nothing are empty searchsets", async () => {
    const { page } = await get(source.baseURL, "Procedure");
    assert.deepEqual([page.total, page.entry], [0, undefined]);
  });

  test("the self link repeats what was understood", async () => {
    const { page } = await get(source.baseURL, "Patient?gender=male&_lastUpdated=ge2020-01-01&_count=5");
    const names = [...new URL(selfOf(page)).searchParams.keys()];
    assert.deepEqual(names, ["gender", "_lastUpdated", "_count"]);
  });

  test("_elements cuts resources and says so", async () => {
    const { page } = await get(source.baseURL, "Patient?_elements=gender,birthDate&_count=5");
    for (const { resource } of page.entry!) {
      assert.deepEqual(Object.keys(resource!).sort(), ["birthDate", "gender", "id", "meta", "resourceType"]);
      assert.ok(JSON.stringify(resource!.meta).includes("SUBSETTED"));
    }
  });

  test("POST _search takes a form, also a long one, and pages on", async () => {
    const ids = observations.slice(0, 700).map(({ id }) => id);
    const body = new URLSearchParams({ _id: ids.join(","), _count: "250" });
    const first = await get(source.baseURL, "Observation/_search", { method: "POST", body });
    const rest = await pagesOf(source.baseURL, nextOf(first.page)!);
    assert.deepEqual([first.page, ...rest].flatMap(idsOf).sort(), ids.sort());
  });

  test("a GET beyond 8 kB is 414 with a web page", async () => {
    const got = await get(source.baseURL, `Observation?_id=${"x".repeat(9000)}`);
    assert.equal(got.status, 414);
    assert.match(got.text, /^<!DOCTYPE html>/);
  });

  test("metadata lists what can be searched", async () => {
    const { text } = await get(source.baseURL, "metadata");
    const { rest } = JSON.parse(text) as { rest: { resource: { type: string; interaction: { code: string }[] }[] }[] };
    const searchable = rest[0]!.resource
      .filter(({ interaction }) => interaction.some(({ code }) => code === "search-type"))
      .map(({ type }) => type);
    for (const type of source.dump().keys()) assert.ok(searchable.includes(type.split("/")[0]!));
    assert.ok(!searchable.includes("Questionnaire"));
  });

  test("answers carry the server's Date, and gzip when it is on", async () => {
    const own = await startSource({ scale: 0.1, now: () => Date.UTC(2030, 0, 1), behaviour: { gzip: true } });
    try {
      const got = await get(own.baseURL, "Patient?_count=5");
      assert.equal(got.headers.get("date"), "Tue, 01 Jan 2030 00:00:00 GMT");
      assert.equal(got.headers.get("content-encoding"), "gzip");
      assert.equal(got.page.entry!.length, 5);
    } finally {
      await own.close();
    }
  });
});
