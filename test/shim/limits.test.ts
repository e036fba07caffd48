import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { array, property as forAll, integer, assert as property } from "fast-check";
import { PollLimiter } from "../../src/shim/limits.ts";

suite("Pace", () => {
  test("ten at once, then as many as the rate gives, each told how long to wait", () => {
    const pace = new PollLimiter();
    for (let n = 0; n < 10; n++) assert.equal(pace.wait("a", 60, 0), 0, String(n));
    assert.equal(pace.wait("a", 60, 0), 1);
    assert.equal(pace.wait("a", 6, 0), 10);
    assert.equal(pace.wait("a", 60, 999), 1);
    assert.equal(pace.wait("a", 60, 2001), 0);
  });

  test("whoever comes much faster than the rate is let in as often as the rate says", () => {
    const pace = new PollLimiter();
    let admitted = 0;
    for (let now = 0; now < 10_000; now += 20) if (pace.wait("a", 1200, now) === 0) admitted++;
    // 30 at once, and 20 in each of ten seconds
    assert.ok(admitted >= 228 && admitted <= 230, String(admitted));
  });

  test("one key's haste is not another's", () => {
    const pace = new PollLimiter();
    for (let n = 0; n < 20; n++) pace.wait("a", 60, 0);
    assert.equal(pace.wait("b", 60, 0), 0);
  });

  test("0 is no limit", () => {
    const pace = new PollLimiter();
    for (let n = 0; n < 100; n++) assert.equal(pace.wait("a", 0, 0), 0);
  });

  test("whoever waits as long as told is let in", () => {
    property(
      forAll(
        integer({ min: 1, max: 600 }),
        array(integer({ min: 0, max: 5000 }), { maxLength: 60 }),
        (perMinute, gaps) => {
          const pace = new PollLimiter();
          let now = 0;
          for (const gap of gaps) {
            const seconds = pace.wait("a", perMinute, (now += gap));
            if (seconds > 0) assert.equal(pace.wait("a", perMinute, (now += seconds * 1000)), 0);
          }
        },
      ),
    );
  });

  test("it remembers a bounded number of keys", () => {
    const pace = new PollLimiter();
    for (let n = 0; n < 11; n++) pace.wait("first", 1, 0);
    for (let n = 0; n < 10_000; n++) pace.wait(`k${n}`, 1, 0);
    assert.equal(pace.wait("first", 1, 0), 0);
  });
});
