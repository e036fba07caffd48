import assert from "node:assert/strict";
import { test } from "node:test";
import { find } from "../../src/api/conditions.ts";
import { drive, endState } from "./drive.ts";
import type { FakePort } from "./fake.ts";
import { scenarios } from "./scenarios.ts";

function summary(port: FakePort): string[] | undefined {
  const object = port.objects.get("ns/x");
  if (!object) return undefined;
  const conditions = object.status?.conditions ?? [];
  const held = conditions.filter(({ status }) => status === "True").map(({ type }) => type);
  return [find(conditions, "Ready")?.reason ?? "", ...held.sort()];
}

for (const { name, make, happenings, settings, end, did } of scenarios) {
  test(`${name}: ends as it should`, async () => {
    const port = make();
    await drive(port, happenings, settings);
    assert.deepEqual(summary(port), end);
    if (did) assert.equal(port.counts.get(did), 1, `${did}: ${[...port.counts.keys()]}`);
    for (const [what, times] of port.counts) if (what.startsWith("make task")) assert.equal(times, 1, what);
  });

  test(`${name}: the same after the operator was killed at any point, once or twice`, async () => {
    const calm = make();
    await drive(calm, happenings, settings);
    const want = endState(calm);
    const points = calm.effects.length;
    assert.ok(points > 0);
    for (let first = 0; first <= points; first++)
      for (const second of [undefined, 1, 2]) {
        const port = make();
        port.lives = first;
        port.more = second === undefined ? [] : [second];
        await drive(port, happenings, settings);
        assert.deepEqual(
          endState(port),
          want,
          `killed after effect ${first} (${calm.effects[first - 1]})${second === undefined ? "" : ` and ${second} later`}`,
        );
      }
  });
}
