import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { ShardResult } from "../../../src/contracts.ts";
import type { ClosedSearch } from "../../../src/evidence.ts";
import { evidenceOf, judgeExport } from "../../../src/worker/seal/judge.ts";

const counted: ClosedSearch = { shown: 3, counted: 3, proof: "counted" };
const agreed: ClosedSearch = { shown: 3, proof: "agreed" };
const open: ClosedSearch = { shown: 3, counted: 4 };

describe("whether an export is exact", () => {
  const cases: {
    name: string;
    searches?: ClosedSearch[];
    doubts?: string[];
    errors?: number;
    exact: boolean;
    proof: string;
    says?: RegExp;
  }[] = [
    { name: "no search: a page has shown that there is nothing", searches: [], exact: true, proof: "counted" },
    { name: "all searches are counted", searches: [counted, counted], exact: true, proof: "counted" },
    { name: "one search is not counted", searches: [counted, agreed], exact: true, proof: "agreed" },
    {
      name: "one search has no proof, and nobody has said why",
      searches: [counted, open],
      exact: false,
      proof: "none",
      says: /all resources of Patient were shown is not proven/,
    },
    { name: "a doubt beside proofs", searches: [counted], doubts: ["why"], exact: false, proof: "none", says: /^why$/ },
    {
      name: "a search without proof, and its doubt",
      searches: [open],
      doubts: ["why"],
      exact: false,
      proof: "none",
      says: /^why$/,
    },
    {
      name: "an answer that could not be exported",
      searches: [counted],
      errors: 2,
      exact: false,
      proof: "counted",
      says: /^2 answers/,
    },
  ];
  for (const { name, searches = [], doubts = [], errors = 0, exact, proof, says } of cases)
    test(name, () => {
      const judged = judgeExport([{ type: "Patient", searches, doubts }], errors);
      assert.deepEqual([judged.exact, judged.proofs], [exact, { Patient: proof }]);
      assert.equal(judged.doubts.length, says ? 1 : 0);
      if (says) assert.match(judged.doubts[0]!, says);
    });
});

test("the evidence of a type is that of all its shards, and an empty type has none", () => {
  const result = {
    type: "Patient",
    closed: { "Patient-0001": [counted], "Patient-0002": [agreed] },
  } as unknown as ShardResult;
  assert.deepEqual(evidenceOf([result], ["Group"]), [
    { type: "Patient", searches: [counted, agreed], doubts: [] },
    { type: "Group", searches: [], doubts: [] },
  ]);
});
