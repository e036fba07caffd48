import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { FailureError, terminal, transient } from "../../src/failure.ts";
import { type AnswerCause, Retries, retryAfterMs } from "../../src/fhir/retries.ts";
import { system } from "../../src/surroundings.ts";

const now = Date.parse("2026-01-01T00:00:00Z");
const clock = { ...system.clock, now: () => now };

describe("Retry-After", () => {
  const cases: [name: string, status: number, value: string | string[] | undefined, expected: number | undefined][] = [
    ["seconds", 429, "2", 2000],
    ["zero", 503, "0", 0],
    ["of an answer that is on its way", 202, "1", 1000],
    ["a fraction", 429, "0.5", 500],
    ["a date", 429, "Thu, 01 Jan 2026 00:00:03 GMT", 3000],
    ["a date in the past", 429, "Wed, 21 Oct 2015 07:28:00 GMT", 0],
    ["seconds since 1970", 429, String(now / 1000 + 4), 4000],
    ["a list", 429, "1, 2", 1000],
    ["twice", 429, ["3", "5"], 3000],
    ["a day: no longer than the request is tried", 429, "86400", 60_000],
    ["9999999999", 503, "9999999999", 60_000],
    ["nonsense", 429, "soon", undefined],
    ["a unit", 429, "2s", undefined],
    ["a negative number", 429, "-5", undefined],
    ["none", 429, undefined, undefined],
    ["of a good answer", 200, "3600", undefined],
    ["of an error that is no pause", 500, "3600", undefined],
    ["of a refusal", 404, "3600", undefined],
  ];
  for (const [name, status, value, expected] of cases)
    test(name, () =>
      assert.equal(retryAfterMs({ status, headers: { "retry-after": value } }, clock, 60_000), expected),
    );
});

describe("when a request is sent again", () => {
  const failure = (status: number, headers: Record<string, string> = {}) =>
    transient("SourceUnreachable", `${status}`, {
      head: { status, headers, ms: 1, first: undefined },
      failure: terminal("SourceUnreachable", "x"),
      isTooMuch: status === 504,
    } satisfies AnswerCause);
  const retries = (seconds: number, tries: number, at = { ms: now }) =>
    new Retries(now + seconds * 1000, tries, { ...system, clock: { ...clock, now: () => at.ms } });

  test("a pause that is longer than the time is waited for to its end, and then it is over", () => {
    const at = { ms: now };
    const one = retries(10, 4, at);
    assert.equal(one.delayAfter(failure(429, { "retry-after": "86400" }), false), 10_000);
    at.ms += 10_000;
    assert.equal(one.delayAfter(failure(429, { "retry-after": "86400" }), false), undefined);
    assert.equal(one.mayGiveUp, false, "429 says nothing of the request");
  });

  const tries: [name: string, status: number | undefined, isLikeOthers: boolean, isLess: boolean, after: number][] = [
    ["500 may be the page's own", 500, false, false, 4],
    ["503 is waited for", 503, false, false, Number.POSITIVE_INFINITY],
    ["503 of a probe may be a no", 503, true, false, 4],
    ["504 where less can be asked for", 504, false, true, 2],
    ["504 where it cannot", 504, false, false, Number.POSITIVE_INFINITY],
    ["429 never is", 429, true, false, Number.POSITIVE_INFINITY],
    ["a network without an answer never is", undefined, true, false, Number.POSITIVE_INFINITY],
  ];
  for (const [name, status, isLikeOthers, isLess, after] of tries)
    test(name, () => {
      const one = retries(3600, 4);
      const error =
        status === undefined
          ? new FailureError("transient", "SourceUnreachable", "x", { cause: { code: "ECONNREFUSED" } })
          : failure(status);
      const given: boolean[] = [];
      for (let failures = 1; failures <= 8; failures++) {
        one.delayAfter(error, isLikeOthers, isLess);
        given.push(one.mayGiveUp);
      }
      assert.deepEqual(
        given,
        Array.from({ length: 8 }, (_, index) => index + 1 >= after),
      );
    });
});
