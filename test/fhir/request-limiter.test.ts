import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { RequestLimiter, type RequestOutcome } from "../../src/fhir/request-limiter.ts";

/** A clock that moves only when a test says so. */
function clock() {
  let now = 0;
  let calls: { at: number; call: () => void }[] = [];
  return {
    now: () => now,
    after: (ms: number, call: () => void) => {
      const one = { at: now + ms, call };
      calls.push(one);
      return () => void (calls = calls.filter((other) => other !== one));
    },
    async pass(ms: number): Promise<void> {
      const end = now + ms;
      for (;;) {
        await settled();
        const [next] = calls.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at);
        if (!next) break;
        calls = calls.filter((other) => other !== next);
        now = Math.max(now, next.at);
        next.call();
      }
      now = end;
      await settled();
    },
  };
}
const settled = () => new Promise((resolve) => setImmediate(resolve));
const never = new AbortController().signal;

/** Makes `count` requests, of which each takes as long as `answer` says.
 *  @returns the times at which they start, and how many were under way at most */
function load(
  limiter: RequestLimiter,
  time: ReturnType<typeof clock>,
  count: number,
  answer: (index: number, at: number) => RequestOutcome & { ms: number },
) {
  const starts: number[] = [];
  let [active, most] = [0, 0];
  const all = Promise.all(
    Array.from({ length: count }, async (_, index) => {
      const done = await limiter.turn(never);
      const at = time.now();
      starts.push(at);
      most = Math.max(most, ++active);
      const outcome = answer(index, at);
      await new Promise<void>((resolve) => time.after(outcome.ms, resolve));
      active--;
      done(outcome);
    }),
  );
  return { starts, most: () => most, all };
}

describe("the limiter of requests", () => {
  test("there are never more requests at a time than the share", async () => {
    const time = clock();
    const { starts, most, all } = load(new RequestLimiter({ requests: 3, ...time }), time, 10, () => ({
      status: 200,
      ms: 100,
    }));
    await time.pass(1000);
    await all;
    assert.equal(most(), 3);
    assert.deepEqual(starts, [0, 0, 0, 100, 100, 100, 200, 200, 200, 300]);
  });

  test("there are never more requests a second than the share, and no bursts", async () => {
    const time = clock();
    const limiter = new RequestLimiter({ requests: 8, perSecond: 4, ...time });
    const { starts, all } = load(limiter, time, 6, () => ({ status: 200, ms: 10 }));
    await time.pass(5000);
    await all;
    assert.deepEqual(starts, [0, 250, 500, 750, 1000, 1250]);
    assert.equal(limiter.throttledMs, 250 + 500 + 750 + 1000 + 1250);
  });

  test("a Retry-After holds all requests", async () => {
    const time = clock();
    const { starts, all } = load(new RequestLimiter({ requests: 2, ...time }), time, 5, (index) =>
      index === 1 ? { status: 429, ms: 50, retryAfterMs: 2000 } : { status: 200, ms: 100 },
    );
    await time.pass(10_000);
    await all;
    assert.deepEqual(starts.slice(0, 2), [0, 0]);
    assert(
      starts.slice(2).every((at) => at >= 2050),
      starts.join(),
    );
  });

  test("429 and 503 halve the limit, once for all requests under way; good answers raise it by one per round", async () => {
    const time = clock();
    const limiter = new RequestLimiter({ requests: 16, ...time });
    await runAll(limiter, time, { count: 16 }, { status: 503, ms: 10 });
    assert.equal(limiter.limit, 8);
    await runAll(limiter, time, { count: 8 }, { status: 429, ms: 10 });
    assert.equal(limiter.limit, 4);
    await runAll(limiter, time, { count: 5 }, { status: 200, ms: 10 });
    assert.equal(limiter.limit, 5);
    await runAll(limiter, time, { count: 200 }, { status: 200, ms: 10 });
    assert.equal(limiter.limit, 16);
    for (let i = 0; i < 10; i++) await runAll(limiter, time, { count: 1 }, { status: 503, ms: 10 });
    assert.equal(limiter.limit, 1, "never none");
  });

  test("a source that becomes slow under load gets fewer requests; one that stays slow gets all again", async () => {
    const time = clock();
    const limiter = new RequestLimiter({ requests: 16, ...time });
    // An answer takes 20 ms, and 50 ms more for each request beyond four.
    const answer = (active: number) => ({ status: 200, ms: 20 + 50 * Math.max(0, active - 4) });
    let active = 0;
    let stop = false;
    const limits: number[] = [];
    const chain = async () => {
      while (!stop) {
        const done = await limiter.turn(never);
        const { status, ms } = answer(++active);
        await new Promise<void>((resolve) => time.after(ms, resolve));
        active--;
        done({ status, ms });
        limits.push(limiter.limit);
      }
    };
    await runAll(limiter, time, { count: 20, width: 1 }, { status: 200, ms: 20 });
    const chains = Array.from({ length: 16 }, chain);
    await time.pass(20_000);
    const least = Math.min(...limits);
    assert(least <= 10, `fewer at a time (${least})`);
    stop = true;
    await time.pass(5000);
    await Promise.all(chains);

    const other = new RequestLimiter({ requests: 16, ...time });
    await runAll(other, time, { count: 20, width: 1 }, { status: 200, ms: 20 });
    await runAll(other, time, { count: 32, width: 16 }, { status: 200, ms: 900 });
    assert(other.limit < 16);
    await runAll(other, time, { count: 2000, width: 16 }, { status: 200, ms: 900 });
    assert.equal(other.limit, 16);
  });

  test("a source of which only some answers are slow gets all requests", async () => {
    const time = clock();
    const limiter = new RequestLimiter({ requests: 4, ...time });
    await runAll(limiter, time, { count: 20, width: 1 }, { status: 200, ms: 20 });
    const { all } = load(limiter, time, 300, (index) => ({ status: 200, ms: index % 10 === 0 ? 100 : 700 }));
    const limits: number[] = [];
    for (let i = 0; i < 600; i++) {
      await time.pass(100);
      limits.push(limiter.limit);
    }
    await all;
    assert.equal(Math.min(...limits), 4);
  });

  test("a request that stops waiting does not delay the others", async () => {
    const time = clock();
    const limiter = new RequestLimiter({ requests: 1, ...time });
    const first = await limiter.turn(never);
    const stop = new AbortController();
    const second = limiter.turn(stop.signal);
    const third = limiter.turn(never);
    stop.abort(new Error("enough"));
    await assert.rejects(second, /enough/);
    first({ status: 200 });
    (await third)({ status: 200 });
    await assert.rejects(limiter.turn(stop.signal), /enough/);
  });

  test("a request without an answer frees its place and does not change the limit", async () => {
    const time = clock();
    const limiter = new RequestLimiter({ requests: 4, ...time });
    await runAll(limiter, time, { count: 40 }, { status: 0, ms: 5 });
    assert.equal(limiter.limit, 4);
  });
});

/** Makes `count` requests, at most `width` at a time, which are all answered in the same way. */
async function runAll(
  limiter: RequestLimiter,
  time: ReturnType<typeof clock>,
  { count, width = count }: { count: number; width?: number },
  outcome: RequestOutcome & { ms: number },
): Promise<void> {
  for (let left = count; left > 0; left -= width) {
    const { all } = load(limiter, time, Math.min(left, width), () => outcome);
    let done = false;
    void all.then(() => (done = true));
    while (!done) await time.pass(outcome.ms);
  }
}
