import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { failureOf, type Meaning, meaningOf, type Purpose } from "../../src/fhir/refusals.ts";

const nothing = { same: false, any: false };
const purposes: Purpose[] = ["statement", "probe", "search", "next", "resource"];

/** What each answer means, for the purposes in their order. */
const table: { answers: [status: number, isMarkup?: true][]; first: Meaning[]; worked: Meaning[] }[] = [
  {
    answers: [[200], [201], [204]],
    first: ["answer", "answer", "answer", "answer", "answer"],
    worked: ["answer", "answer", "answer", "answer", "answer"],
  },
  {
    answers: [[200, true], [301], [302], [307], [403, true], [404, true]],
    first: ["busy", "failing", "failing", "failing", "failing"],
    worked: ["busy", "failing", "failing", "failing", "failing"],
  },
  {
    answers: [[401], [401, true]],
    first: ["unauthorized", "unauthorized", "unauthorized", "unauthorized", "unauthorized"],
    worked: ["busy", "failing", "failing", "failing", "failing"],
  },
  {
    answers: [[403]],
    first: ["busy", "no", "failing", "failing", "no"],
    worked: ["busy", "failing", "failing", "failing", "no"],
  },
  {
    answers: [[404], [410], [410, true]],
    first: ["busy", "no", "failing", "no", "no"],
    worked: ["busy", "failing", "failing", "no", "no"],
  },
  {
    answers: [[408], [429], [429, true]],
    first: ["busy", "busy", "busy", "busy", "busy"],
    worked: ["busy", "busy", "busy", "busy", "busy"],
  },
  {
    answers: [[500], [502], [503], [504, true], [599]],
    first: ["busy", "failing", "failing", "failing", "failing"],
    worked: ["busy", "failing", "failing", "failing", "failing"],
  },
  {
    answers: [[400], [405], [406], [412], [413], [414, true], [415], [422], [431], [501], [505]],
    first: ["busy", "no", "no", "no", "no"],
    worked: ["busy", "no", "no", "no", "no"],
  },
];

describe("what an answer of the source means", () => {
  for (const { answers, first, worked } of table)
    for (const [status, isMarkup = false] of answers)
      test(`${status}${isMarkup ? " with a web page" : ""}`, () => {
        const meanings = (before: { same: boolean; any: boolean }) =>
          purposes.map((purpose) => meaningOf(purpose, { status, isMarkup }, before));
        assert.deepEqual(meanings(nothing), first);
        assert.deepEqual(meanings({ same: true, any: true }), worked);
      });

  test("403 and 404 are a no to a probe that is asked for the first time, whatever else has worked", () => {
    for (const status of [403, 404, 410])
      assert.equal(meaningOf("probe", { status, isMarkup: false }, { same: false, any: true }), "no");
  });
});

test("what is told where nobody does without the answer", () => {
  const told: [status: number, isMarkup: boolean, reason: string, message: RegExp][] = [
    [401, false, "SourceUnauthorized", /401 at X.*spec\.auth/],
    [403, false, "SourceUnauthorized", /403 at X.*spec\.auth/],
    [302, false, "SourceNotFHIR", /redirects \(302 at X\).*spec\.baseURL/],
    [200, true, "SourceNotFHIR", /X answers a web page.*spec\.baseURL/],
    [404, false, "SourceNotFHIR", /404 at X.*spec\.baseURL/],
    [422, false, "SourceNotFHIR", /422 at X/],
    [503, false, "SourceUnreachable", /503 at X/],
    [429, false, "SourceUnreachable", /429 at X/],
  ];
  for (const [status, isMarkup, reason, message] of told) {
    const failure = failureOf({ status, isMarkup }, "X");
    assert.deepEqual([status, failure.reason], [status, reason]);
    assert.equal(failure.class, reason === "SourceUnreachable" ? "waiting" : "terminal");
    assert.match(failure.message, message);
  }
});
