import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { windowsAreSlow } from "../../../src/worker/plan/page-times.ts";

describe("are windows too slow?", () => {
  const times = (first: number[], next: number[]) => ({ first, next });
  const cases: [
    name: string,
    windowed: ReturnType<typeof times>,
    plain: ReturnType<typeof times>,
    pages: number,
    boolean,
  ][] = [
    ["as fast as plain ones", times([40, 45, 50], [40, 45, 50]), times([40, 45, 50], [40, 45, 50]), 100, false],
    [
      "five times as long, but less than 50 ms more",
      times([24, 25, 26], [24, 25, 26]),
      times([4, 5, 6], [4, 5, 6]),
      100,
      false,
    ],
    [
      "110 to 250 ms instead of 45",
      times([110, 180, 250], [110, 180, 250]),
      times([45, 45, 46], [44, 45, 45]),
      100,
      true,
    ],
    ["twice as long", times([400, 410, 500], [400, 410, 500]), times([200, 200, 210], [200, 205, 210]), 100, false],
    ["one outlier", times([50, 50, 5000], [40, 50, 9000]), times([45, 45, 46], [44, 45, 45]), 100, false],
    [
      "a busy machine: one quick windowed page among slow ones",
      times([5, 300, 300], [5, 300, 320]),
      times([45, 45, 46], [44, 45, 45]),
      100,
      false,
    ],
    [
      "a busy machine: some plain pages are slow, too",
      times([200, 300, 300], [200, 300, 320]),
      times([45, 45, 460], [44, 45, 380]),
      100,
      false,
    ],
    [
      "only first pages are slow, and a window has one in a hundred",
      times([900, 950, 990], [45, 45, 50]),
      times([45, 45, 46], [44, 45, 45]),
      100,
      false,
    ],
    [
      "only first pages are slow, and a window has two pages",
      times([900, 950, 990], [45, 45, 50]),
      times([45, 45, 46], [44, 45, 45]),
      2,
      true,
    ],
    [
      "the first plain page is slow, the others are quick",
      times([900, 950, 990], [400, 450, 500]),
      times([950, 950, 990], [44, 45, 45]),
      100,
      true,
    ],
    ["windows of one page", times([45, 50, 55], []), times([45, 45, 46], [44, 45, 45]), 1, false],
    ["no plain page can be read", times([300, 300, 300], [300, 300, 300]), times([], []), 100, false],
    ["no windowed page can be read", times([], []), times([45, 45, 46], [44, 45, 45]), 100, false],
  ];
  for (const [name, windowed, plain, pages, slow] of cases)
    test(name, () => assert.equal(windowsAreSlow({ windowed, plain }, pages), slow));
});
