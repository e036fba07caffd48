import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { generate } from "./generator.ts";

suite("sample", () => {
  const sample = generate();
  const texts = sample.map(({ text }) => text).join("\n");

  test("is the same for the same seed, another for another", () => {
    assert.equal(
      generate()
        .map(({ text }) => text)
        .join("\n"),
      texts,
    );
    assert.notEqual(
      generate({ seed: 2 })
        .map(({ text }) => text)
        .join("\n"),
      texts,
    );
  });

  test("has at least 5,000 resources, each of its own", () => {
    assert.ok(sample.length >= 5000);
    assert.equal(new Set(sample.map(({ type, id }) => `${type}/${id}`)).size, sample.length);
  });

  test("scales", () => {
    assert.ok(generate({ scale: 3 }).length > 2.5 * sample.length);
    assert.ok(generate({ scale: 0.1 }).length < 0.3 * sample.length);
  });

  test("is valid JSON that says what its index says", () => {
    for (const { type, id, versionId, lastUpdated, text } of sample) {
      const it = JSON.parse(text) as {
        resourceType: string;
        id: string;
        meta: { versionId: string; lastUpdated: string };
      };
      assert.deepEqual(
        [it.resourceType, it.id, it.meta.versionId, Math.floor(Date.parse(it.meta.lastUpdated))],
        [type, id, versionId, lastUpdated],
      );
      assert.match(id, /^[A-Za-z0-9.-]{1,64}$/);
    }
  });

  test("comes in the order of lastUpdated, over years", () => {
    assert.ok(sample.every(({ lastUpdated }, n) => n === 0 || sample[n - 1]!.lastUpdated <= lastUpdated));
    assert.ok(sample.at(-1)!.lastUpdated - sample[0]!.lastUpdated > 5 * 365 * 86_400_000);
  });

  test("has tie blocks of about 80 and one of several hundred", () => {
    const ties = Map.groupBy(sample, ({ lastUpdated }) => lastUpdated);
    const sizes = [...ties.values()].map(({ length }) => length).sort((a, b) => b - a);
    assert.ok(sizes[0]! >= 300, String(sizes[0]));
    assert.ok(
      sizes.slice(1, 15).every((size) => size >= 75 && size <= 100),
      String(sizes.slice(1, 15)),
    );
  });

  for (const [name, pattern] of [
    ["trailing zeros", /:\s?1\.50\b/],
    ["leading zeros", /:\s?0\.010\b/],
    ["exponents", /:\s?1\.0E\+2\b/],
    ["more digits than a double holds", /3\.14159265358979323846/],
    ["raw emoji", /😀/],
    ["escaped emoji", /\\ud83d\\ude00/],
    ["raw U+2028", /\u2028/],
    ["escaped letters", /Ren\\u00e9/],
    ["escaped slashes in references", /"reference":\s?"Patient\\\//],
    ["escaped letters in references", /"reference":\s?"\\u0050atient\//],
    ["braces and quotes in narratives", /<p>\{\\"resourceType\\"/],
    ["resourceType last", /"resourceType":"[A-Za-z]+"\}$/m],
    ["meta first", /^\{"meta":/m],
    ["white space between tokens", /^\{"resourceType": "/m],
    ["versions beyond 1", /"versionId":\s?"\d\d"/],
    ["offsets in lastUpdated", /"lastUpdated":\s?"[^"]*\+02:00"/],
    ["microseconds in lastUpdated", /"lastUpdated":\s?"[^"]*\.\d{6}Z"/],
    ["references to a version", /"Patient\/[^"]+\/_history\/1"/],
    ["contained resources that name another patient", /"contained":\s?\[\{"resourceType":\s?"Specimen"/],
  ] as const)
    test(`has ${name}`, () => assert.match(texts, pattern));
});
