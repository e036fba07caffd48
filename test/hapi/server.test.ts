import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import { generate } from "../sources/generator.ts";
import { type Hapi, hapiMissing, startHapi } from "./hapi.ts";
import { load } from "./load.ts";

const sample = generate({ scale: 0.6 });
const idsOf = (type: string) => sample.filter((it) => it.type === type).map(({ id }) => id);
const types = [...new Set(sample.map(({ type }) => type))];

// The skip is set on each test, as the reporter does not count a skipped suite.
const skip = hapiMissing() ?? false;

suite("HAPI FHIR, loaded with the sample", () => {
  let hapi: Hapi;
  before(async () => {
    if (skip) return;
    hapi = await startHapi();
    await load(hapi.baseURL, sample);
  });
  after(() => hapi?.close());

  const get = async (path: string): Promise<string> => {
    const answer = await fetch(new URL(path, `${hapi.baseURL}/`), { headers: { "cache-control": "no-cache" } });
    const text = await answer.text();
    assert.equal(answer.status, 200, text);
    return text;
  };
  const count = async (search: string) =>
    (JSON.parse(await get(`${search}${search.includes("?") ? "&" : "?"}_summary=count`)) as { total: number }).total;

  test("holds at least 4,000 resources, of each type as many as were loaded", { skip }, async () => {
    assert.ok(sample.length >= 4000);
    for (const type of types) assert.equal(await count(type), idsOf(type).length, type);
  });

  test("gives every resource once over its next links", { skip }, async () => {
    for (const type of types) {
      const ids: string[] = [];
      for (let next: string | undefined = `${type}?_sort=_lastUpdated,_id&_count=500`; next; ) {
        const page = JSON.parse(await get(next)) as {
          entry?: { resource: { id: string } }[];
          link: { relation: string; url: string }[];
        };
        ids.push(...(page.entry ?? []).map(({ resource }) => resource.id));
        next = page.link.find(({ relation }) => relation === "next")?.url;
      }
      assert.deepEqual(ids.sort(), idsOf(type).sort(), type);
    }
  });

  test("keeps decimals as they were sent", { skip }, async () => {
    const sent = sample.find(({ type, text }) => type === "Observation" && /"value":\s?1\.50\b/.test(text))!;
    assert.match(await get(`Observation/${sent.id}`), /"value":1\.50\b/);
  });

  test("windows of lastUpdated add up", { skip }, async () => {
    const all = idsOf("Observation").length;
    const first = JSON.parse(await get("Observation?_sort=_lastUpdated&_count=1")) as {
      entry: { resource: { meta: { lastUpdated: string } } }[];
    };
    const at = new Date(Date.parse(first.entry[0]!.resource.meta.lastUpdated) + 5000).toISOString();
    assert.equal(
      (await count(`Observation?_lastUpdated=lt${at}`)) + (await count(`Observation?_lastUpdated=ge${at}`)),
      all,
    );
    assert.equal(await count("Observation?_lastUpdated=lt1900-01-01"), 0);
  });
});
