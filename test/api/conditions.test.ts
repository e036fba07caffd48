import assert from "node:assert/strict";
import { test } from "node:test";
import { dropConditions, isTrue, setCondition } from "../../src/api/conditions.ts";

const [early, late] = [new Date("2026-01-01T00:00:00.123Z"), new Date("2026-01-02T00:00:00.000Z")];
const ready = { type: "Ready", status: "Unknown", reason: "Planning", message: "" } as const;

test("lastTransitionTime stays while only reason and message change, and moves with the status", () => {
  const first = setCondition(undefined, ready, 1, early);
  assert.deepEqual(first, [{ ...ready, observedGeneration: 1, lastTransitionTime: "2026-01-01T00:00:00Z" }]);
  const second = setCondition(first, { ...ready, reason: "Running" }, 2, late);
  assert.deepEqual(second, [
    { ...ready, reason: "Running", observedGeneration: 2, lastTransitionTime: "2026-01-01T00:00:00Z" },
  ]);
  const third = setCondition(second, { ...ready, status: "True", reason: "Complete" }, 2, late);
  assert.equal(third[0]!.lastTransitionTime, "2026-01-02T00:00:00Z");
});

test("other conditions keep their place, and the list that is given is not changed", () => {
  const before = setCondition(
    setCondition(undefined, ready, 1, early),
    { ...ready, type: "Accepted", status: "True" },
    1,
    early,
  );
  const copy = structuredClone(before);
  const after = setCondition(before, { ...ready, status: "True" }, 1, late);
  assert.deepEqual(before, copy);
  assert.deepEqual(
    after.map(({ type }) => type),
    ["Ready", "Accepted"],
  );
  assert.ok(isTrue(after, "Ready") && !isTrue(before, "Ready"));
  assert.deepEqual(dropConditions(after, "Ready", "Stalled"), [before[1]]);
});
