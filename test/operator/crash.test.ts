import assert from "node:assert/strict";
import { test } from "node:test";
import { findCondition } from "../../src/api/conditions.ts";
import { terminal, transient, waiting } from "../../src/failure.ts";
import { sampleOf } from "../tools/sample.ts";
import { drive, endState } from "./drive.ts";
import { FakePort, makeExport } from "./fake.ts";
import { scenarios } from "./scenarios.ts";

function summary(port: FakePort): string[] | undefined {
  const object = port.objects.get("ns/x");
  if (!object) return undefined;
  const conditions = object.status?.conditions ?? [];
  const held = conditions.filter(({ status }) => status === "True").map(({ type }) => type);
  return [findCondition(conditions, "Ready")?.reason ?? "", ...held.sort()];
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
    const all = Array.from({ length: points + 1 }, (_, first) =>
      [undefined, 1, 2].map((second) => ({ first, second })),
    ).flat();
    const kindsOf = ({ first }: (typeof all)[number]) => calm.effects[first - 1] ?? "none";
    for (const { first, second } of sampleOf(name, all, { size: all.length / 6, kindsOf })) {
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

test("an export without disturbance needs five status writes, one outcome and at most four events", async () => {
  const port = new FakePort();
  port.add(makeExport());
  await drive(port);
  const count = (what: string) => port.effects.filter((effect) => effect === what).length;
  assert.deepEqual(
    [count("status") <= 5, count("outcome"), count("event") <= 4],
    [true, 1, true],
    port.effects.join(" "),
  );
});

const refusals = [
  {
    case: "for good: it fails",
    error: terminal("UnsupportedParameter", "mend spec.worker"),
    want: "Failed",
    message: /mend spec.worker/,
    times: 1,
  },
  {
    case: "for now (quota): it is shown and tried again",
    error: waiting("Internal", "exceeded quota"),
    want: "Complete",
    message: /10 resources/,
    times: 3,
  },
  {
    case: "by a hiccup: tried again",
    error: transient("Internal", "HTTP 500"),
    want: "Complete",
    message: /10 resources/,
    times: 3,
  },
];
for (const { case: what, error, want, message, times } of refusals)
  test(`a run is refused ${what}`, async () => {
    const port = new FakePort();
    const key = port.add(makeExport());
    let left = times;
    const seen = new Set<string>();
    port.refuse = ({ command }) => {
      for (const { message } of port.objects.get(key)?.status?.conditions ?? []) seen.add(message);
      return command === "export" && left-- > 0 ? error : undefined;
    };
    const { seconds } = await drive(port);
    const ready = findCondition(port.objects.get(key)?.status?.conditions, "Ready");
    assert.equal(ready?.reason, want);
    assert.match(ready?.message ?? "", message);
    if (error.class === "waiting") {
      assert.ok(
        [...seen].some((text) => /exporting 3 packages; exceeded quota/.test(text)),
        [...seen].join("\n"),
      );
      // The second time it runs at once, woken by its own status write.
      assert.equal(seconds, 60);
    }
  });
