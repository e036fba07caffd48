import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { countIn, smallerPage, withCount } from "../../src/fhir/page-size.ts";

const first = "Patient?_lastUpdated=lt2024-01-01T00:00:00.000Z&_sort=_lastUpdated,_id&_count=100";

describe("a smaller page", () => {
  const cases: [name: string, link: string, first: string, expected: ReturnType<typeof smallerPage>][] = [
    ["of the first page", first, first, { first: withCount(first, 50), from: withCount(first, 50), count: 50 }],
    [
      "of a link that shows its count",
      "http://x/fhir/Patient?_count=100&_offset=300",
      first,
      { first: withCount(first, 50), from: "http://x/fhir/Patient?_count=50&_offset=300", count: 50 },
    ],
    [
      "of a link that hides its count: from the start",
      "http://x/fhir?_getpages=abc",
      first,
      { first: withCount(first, 50), from: withCount(first, 50), count: 50 },
    ],
    [
      "of a server that gives fewer than were asked for",
      "http://x/fhir/Patient?_offset=30&_count=30",
      first,
      { first: withCount(first, 15), from: "http://x/fhir/Patient?_offset=30&_count=15", count: 15 },
    ],
    ["of a page of one", withCount(first, 1), withCount(first, 1), undefined],
    ["of a search without a count", "Patient", "Patient", undefined],
  ];
  for (const [name, link, start, expected] of cases)
    test(name, () => assert.deepEqual(smallerPage(link, start), expected));

  test("halving comes to an end at one", () => {
    const counts: number[] = [];
    for (let link = withCount(first, 1000); ; ) {
      const next = smallerPage(link, link);
      if (!next) break;
      counts.push(next.count);
      link = next.first;
    }
    assert.deepEqual(counts, [500, 250, 125, 62, 31, 15, 7, 3, 1]);
  });

  test("only `_count` counts, not what ends so", () => {
    assert.equal(countIn("Patient?x_count=5&a=1"), undefined);
    assert.equal(countIn("Patient?a=1&_count=5&b=2"), 5);
    assert.equal(withCount("Patient?a=1&_count=5&b=2", 2), "Patient?a=1&_count=2&b=2");
  });
});
