import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  candidateWait,
  held,
  isAnothers,
  type LeaseSpec,
  leadsFor,
  mayTake,
  microTime,
  observe,
  released,
  wrongTimes,
} from "../../src/kube/election.ts";

const [old, time] = ["2026-01-01T00:00:00.000000Z", "2026-01-02T03:04:05.678000Z"];
const spec = (more: LeaseSpec = {}): LeaseSpec => ({
  holderIdentity: "other",
  leaseDurationSeconds: 15,
  acquireTime: old,
  renewTime: old,
  leaseTransitions: 3,
  ...more,
});

describe("may a candidate take the lease?", () => {
  const rows: [string, LeaseSpec, number, boolean][] = [
    ["another's, seen this moment", spec(), 0, false],
    ["another's, unchanged for just under its duration", spec(), 14_999, false],
    ["another's, unchanged for its whole duration", spec(), 15_000, true],
    ["another's, asked for before it was last seen to change", spec(), -20, false],
    ["another's, whose clock is hours behind", spec({ renewTime: "2020-01-01T00:00:00.000000Z" }), 5000, false],
    ["another's, whose clock is hours ahead", spec({ renewTime: "2099-01-01T00:00:00.000000Z" }), 15_000, true],
    ["another's, of a longer duration than ours", spec({ leaseDurationSeconds: 60 }), 30_000, false],
    ["another's, of a shorter one", spec({ leaseDurationSeconds: 3 }), 3000, true],
    ["another's, of none", { holderIdentity: "other" }, 14_999, false],
    ["another's, of none, for as long as ours", { holderIdentity: "other" }, 15_000, true],
    ["our own", spec({ holderIdentity: "me" }), 0, true],
    ["given back", spec({ holderIdentity: "" }), 0, true],
    ["without a holder", {}, 0, true],
  ];
  for (const [name, seen, unchangedMs, want] of rows)
    test(`${name}: ${want ? "yes" : "no"}`, () =>
      assert.equal(mayTake({ spec: seen, at: 7000 }, "me", 15, 7000 + unchangedMs), want));
});

describe("is the lease seen to change?", () => {
  const before = { spec: spec(), at: 1000 };
  const rows: [string, LeaseSpec, boolean][] = [
    ["the same", spec(), false],
    ["the same in another order", Object.fromEntries(Object.entries(spec()).reverse()), false],
    ["renewed", spec({ renewTime: time }), true],
    ["renewed by a clock that went back", spec({ renewTime: "2020-01-01T00:00:00.000000Z" }), true],
    ["another holder", spec({ holderIdentity: "third" }), true],
    ["another duration", spec({ leaseDurationSeconds: 16 }), true],
    ["taken again at the same time", spec({ leaseTransitions: 4 }), true],
  ];
  for (const [name, now, changes] of rows)
    test(`${name}: ${changes ? "yes" : "no"}`, () =>
      assert.deepEqual(observe(before, now, 9000), changes ? { spec: now, at: 9000 } : before));
  test("a lease that is seen for the first time counts as changed now", () =>
    assert.deepEqual(observe(undefined, spec(), 9000), { spec: spec(), at: 9000 }));
});

describe("the spec that is written", () => {
  const ours = { holderIdentity: "me", leaseDurationSeconds: 20, acquireTime: time, renewTime: time };
  const rows: [string, LeaseSpec | undefined, LeaseSpec][] = [
    ["no lease: the first holder", undefined, { ...ours, leaseTransitions: 0 }],
    ["another's: a transition", spec(), { ...ours, leaseTransitions: 4 }],
    ["given back: a transition", spec({ holderIdentity: "" }), { ...ours, leaseTransitions: 4 }],
    [
      "our own: acquireTime and transitions stay",
      spec({ holderIdentity: "me" }),
      { ...ours, acquireTime: old, leaseTransitions: 3 },
    ],
    ["an empty lease", {}, { ...ours, leaseTransitions: 1 }],
  ];
  for (const [name, seen, want] of rows) test(name, () => assert.deepEqual(held(seen, "me", 20, time), want));
  test("fields that others have set stay", () => {
    const more = { ...spec(), strategy: "OldestEmulationVersion" };
    assert.equal((held(more, "me", 20, time) as typeof more).strategy, more.strategy);
  });
  test("a lease that is given back has no holder and lasts a second", () =>
    assert.deepEqual(released(spec({ holderIdentity: "me" }), time), {
      holderIdentity: "",
      leaseDurationSeconds: 1,
      acquireTime: time,
      renewTime: time,
      leaseTransitions: 3,
    }));
  test("times have six digits", () => assert.equal(microTime(new Date("2026-01-02T03:04:05.678Z")), time));
});

describe("how long may a leader act?", () => {
  const rows: [string, number, number][] = [
    ["just renewed", 0, 10_000],
    ["renewed a while ago", 4000, 6000],
    ["at the deadline", 10_000, 0],
    ["stopped for an hour", 3_600_000, 0],
  ];
  for (const [name, ago, want] of rows)
    test(`${name}: ${want} ms`, () => assert.equal(leadsFor(5000, 10, 5000 + ago), want));
});

test("who holds the lease", () =>
  assert.deepEqual(
    [{}, { holderIdentity: "" }, { holderIdentity: "me" }, { holderIdentity: "other" }].map((one) =>
      isAnothers(one, "me"),
    ),
    [false, false, false, true],
  ));

test("a candidate waits for 1 to 2.2 periods", () =>
  assert.deepEqual(
    [0, 0.5, 1].map((random) => candidateWait(2, random)),
    [2000, 3200, 4400],
  ));

describe("times that contradict each other", () => {
  const rows: [number, number, number, RegExp | undefined][] = [
    [15, 10, 2, undefined],
    [3, 2, 1, undefined],
    [10, 10, 2, /--lease-seconds must be greater than --renew-seconds/],
    [15, 12, 10, /--renew-seconds must be greater than 1.2 times --retry-period-seconds/],
    [15, 2, 2, /--renew-seconds must be greater than/],
    [86_401, 10, 2, /--lease-seconds must be at most 86400/],
  ];
  for (const [leaseSeconds, renewSeconds, retrySeconds, want] of rows)
    test(`${leaseSeconds}, ${renewSeconds}, ${retrySeconds}: ${want ? "no" : "yes"}`, () => {
      const wrong = wrongTimes({ leaseSeconds, renewSeconds, retrySeconds });
      if (want) assert.match(wrong ?? "", want);
      else assert.equal(wrong, undefined);
    });
});
