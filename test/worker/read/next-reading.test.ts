import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  isProven,
  type NextReading,
  nextReading,
  type ReadingEvidence,
} from "../../../src/worker/read/next-reading.ts";

const exactly = (number: number) => ({ least: number, most: number });

describe("whether a shard is read again", () => {
  const cases: [name: string, evidence: ReadingEvidence, expected: NextReading][] = [
    ["nothing speaks for it", {}, "none"],
    ["a next link was forgotten", { expired: true }, "onward"],
    [
      "a next link was forgotten, and a second reading would tell the errors again",
      { expired: true, errors: 1 },
      "anew",
    ],
    ["a page lied", { errors: 2 }, "anew"],
    ["a page lied, and resources are missing: all of it is read anew", { errors: 2, missing: exactly(3) }, "anew"],
    ["nobody has noted its foreign rows", { unclaimed: true, missing: exactly(0) }, "onward"],
    ["as many are counted as are known", { missing: exactly(0) }, "none"],
    ["fewer are counted: an update has left the window", { missing: exactly(-2) }, "none"],
    ["more are counted than are known", { missing: exactly(1) }, "onward"],
    ["more are counted, whoever has left", { missing: { least: 1, most: 4 } }, "onward"],
    ["as many are counted, and some that are known may have left", { missing: { least: 0, most: 1 } }, "unclear"],
    ["fewer are counted, and some that are known may have left", { missing: { least: -3, most: 1 } }, "unclear"],
    ["fewer are counted, whoever has left", { missing: { least: -3, most: 0 } }, "none"],
    ["nothing is counted, and no reading has agreed yet", { silence: { had: 0, wanted: 1 } }, "onward"],
    ["nothing is counted, and one of two readings has agreed", { silence: { had: 1, wanted: 2 } }, "onward"],
    ["nothing is counted, and readings have agreed", { silence: { had: 2, wanted: 2 } }, "none"],
    ["nothing is counted, and the history shows that nothing was written", { silence: { had: 0, wanted: 0 } }, "none"],
    [
      "a reading has proven it: counts have changed since",
      { proven: true, missing: exactly(5), unclaimed: true },
      "none",
    ],
  ];
  for (const [name, evidence, expected] of cases) test(name, () => assert.equal(nextReading(evidence), expected));
});

describe("whether a reading proves its search", () => {
  const counted = { counted: 7, shown: 7, silence: { had: 0, wanted: 2 } };
  const uncounted = { ...counted, counted: undefined };
  const fewer = { ...counted, shown: 6 };
  const cases: [name: string, reading: Parameters<typeof isProven>[0], expected: boolean][] = [
    ["it has shown what was counted right before it", counted, true],
    ["it has shown fewer", fewer, false],
    ["it has shown more: a row came meanwhile, and another may have left", { ...counted, shown: 8 }, false],
    ["it has shown fewer, but nothing new", { ...fewer, silence: { had: 3, wanted: 2 } }, false],
    ["nothing is counted, and one of two readings agrees", { ...uncounted, silence: { had: 1, wanted: 2 } }, false],
    ["nothing is counted, and readings agree", { ...uncounted, silence: { had: 2, wanted: 2 } }, true],
  ];
  for (const [name, reading, expected] of cases) test(name, () => assert.equal(isProven(reading), expected));
});
