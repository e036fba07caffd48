import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { array, property as forAll, integer, assert as property } from "fast-check";
import { PollLimiter } from "../../src/shim/limits.ts";

suite("PollLimiter", () => {
  test("ten polls may come at once, then as many as the rate allows; each refusal says how long to wait", () => {
    const limiter = new PollLimiter();
    for (let n = 0; n < 10; n++) assert.equal(limiter.wait("a", 60, 0), 0, String(n));
    assert.equal(limiter.wait("a", 60, 0), 1);
    assert.equal(limiter.wait("a", 6, 0), 10);
    assert.equal(limiter.wait("a", 60, 999), 1);
    assert.equal(limiter.wait("a", 60, 2001), 0);
  });

  test("a client that polls much faster than the rate is answered as often as the rate allows", () => {
    const limiter = new PollLimiter();
    let admitted = 0;
    for (let now = 0; now < 10_000; now += 20) if (limiter.wait("a", 1200, now) === 0) admitted++;
    // 30 at once, and 20 more in each of the ten seconds
    assert.ok(admitted >= 228 && admitted <= 230, String(admitted));
  });

  test("one key's polls do not count for another", () => {
    const limiter = new PollLimiter();
    for (let n = 0; n < 20; n++) limiter.wait("a", 60, 0);
    assert.equal(limiter.wait("b", 60, 0), 0);
  });

  test("0 is no limit", () => {
    const limiter = new PollLimiter();
    for (let n = 0; n < 100; n++) assert.equal(limiter.wait("a", 0, 0), 0);
  });

  test("a client that waits as long as it was told is answered", () => {
    property(
      forAll(
        integer({ min: 1, max: 600 }),
        array(integer({ min: 0, max: 5000 }), { maxLength: 60 }),
        (perMinute, gaps) => {
          const limiter = new PollLimiter();
          let now = 0;
          for (const gap of gaps) {
            const seconds = limiter.wait("a", perMinute, (now += gap));
            if (seconds > 0) assert.equal(limiter.wait("a", perMinute, (now += seconds * 1000)), 0);
          }
        },
      ),
    );
  });

  test("it remembers a bounded number of keys", () => {
    const limiter = new PollLimiter();
    for (let n = 0; n < 11; n++) limiter.wait("first", 1, 0);
    for (let n = 0; n < 10_000; n++) limiter.wait(`k${n}`, 1, 0);
    assert.equal(limiter.wait("first", 1, 0), 0);
  });
});
