import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { type Requeue, retryDelayMs, WorkQueue } from "../../src/operator/queue.ts";

beforeEach(() => {
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  // The queue reads the monotonic clock, which mock timers do not change.
  mock.method(performance, "now", () => Date.now());
});
afterEach(() => {
  mock.timers.reset();
  mock.restoreAll();
});

/** Lets every promise continue that can. */
const settle = async () => {
  for (let turns = 0; turns < 20; turns++) await Promise.resolve();
};
const tick = async (ms: number) => {
  mock.timers.tick(ms);
  await settle();
};

/** A work of which each call waits until the test ends it. */
function held() {
  const open: { key: string; end: (again?: Requeue) => void; fail: (error: Error) => void }[] = [];
  const work = (key: string) =>
    new Promise<Requeue>((resolve, reject) => open.push({ key, end: (again = {}) => resolve(again), fail: reject }));
  return { open, work, keys: () => open.map(({ key }) => key) };
}

test("a key that is added ten times before it is worked on is worked on once", async () => {
  const { work, open, keys } = held();
  const queue = new WorkQueue(work, { workers: 2 });
  for (let i = 0; i < 10; i++) queue.add("a");
  assert.equal(queue.depth, 1);
  queue.start();
  await settle();
  assert.deepEqual(keys(), ["a"]);
  assert.equal(queue.depth, 0);
  open[0]!.end();
  await settle();
  assert.deepEqual(keys(), ["a"]);
  assert.deepEqual(queue.counters, { adds: 10, retries: 0, runs: 1, errors: 0 });
});

test("a key that is added while it runs runs once more afterwards, never beside itself", async () => {
  const { work, open, keys } = held();
  const queue = new WorkQueue(work, { workers: 4 });
  queue.start();
  queue.add("a");
  await settle();
  queue.add("a");
  queue.add("a");
  await settle();
  assert.deepEqual(keys(), ["a"]);
  open[0]!.end();
  await settle();
  assert.deepEqual(keys(), ["a", "a"]);
  open[1]!.end();
  await settle();
  assert.equal(open.length, 2);
});

test("there are never more keys at work than workers, and the others follow in the order in which they came", async () => {
  const { work, open, keys } = held();
  const queue = new WorkQueue(work, { workers: 2 });
  queue.start();
  for (const key of ["a", "b", "c", "d"]) queue.add(key);
  await settle();
  assert.deepEqual(keys(), ["a", "b"]);
  assert.deepEqual([queue.running, queue.depth], [2, 2]);
  open[1]!.end();
  await settle();
  assert.deepEqual(keys(), ["a", "b", "c"]);
  open[0]!.end();
  await settle();
  assert.deepEqual(keys(), ["a", "b", "c", "d"]);
});

test("a work that adds keys does not get more workers", async () => {
  const { work, keys } = held();
  const queue: WorkQueue = new WorkQueue(
    (key) => {
      if (key === "a") for (const more of ["b", "c", "d"]) queue.add(more);
      return work(key);
    },
    { workers: 2 },
  );
  queue.start();
  queue.add("a");
  await settle();
  assert.deepEqual(keys(), ["a", "b"]);
});

test("a work that throws is tried again after 5 ms, doubling; one that does not starts anew", async () => {
  const errors: unknown[] = [];
  let bad = true;
  let runs = 0;
  const queue = new WorkQueue(
    async () => {
      runs += 1;
      if (bad) throw new Error("no");
      return {};
    },
    { workers: 1, onError: (key, error) => errors.push([key, String(error)]) },
  );
  queue.start();
  queue.add("a");
  await settle();
  for (const wait of [5, 10, 20, 40]) {
    const before = runs;
    await tick(wait - 1);
    assert.equal(runs, before, `not yet after ${wait - 1} ms`);
    await tick(1);
    assert.equal(runs, before + 1, `after ${wait} ms`);
  }
  assert.deepEqual(errors[0], ["a", "Error: no"]);
  assert.equal(errors.length, 5);
  bad = false;
  await tick(80);
  assert.equal(runs, 6);
  bad = true;
  queue.add("a");
  await settle();
  assert.equal(runs, 7);
  await tick(5);
  assert.equal(runs, 8);
});

test("the backoff ends at 16 minutes", () => {
  assert.deepEqual([0, 1, 2, 17, 18, 1000].map(retryDelayMs), [5, 10, 20, 655_360, 960_000, 960_000]);
});

test("requeueAfter: at once, later, or not at all", async () => {
  let runs = 0;
  const answers: Requeue[] = [{ requeueAfter: 0 }, { requeueAfter: 30 }, {}];
  const queue = new WorkQueue(async () => answers[runs++]!, { workers: 1 });
  queue.start();
  queue.add("a");
  await settle();
  await tick(0);
  assert.equal(runs, 2);
  await tick(29_999);
  assert.equal(runs, 2);
  await tick(1);
  assert.equal(runs, 3);
  await tick(24 * 3600_000);
  assert.equal(runs, 3);
});

test("of several waits the shortest counts, and an add ends the wait", async () => {
  let runs = 0;
  const queue = new WorkQueue(
    async () => {
      runs += 1;
      return {};
    },
    { workers: 1 },
  );
  queue.start();
  queue.addAfter("a", 1000);
  queue.addAfter("a", 10);
  queue.addAfter("a", 5000);
  await tick(10);
  assert.equal(runs, 1);
  await tick(10_000);
  assert.equal(runs, 1);
  queue.addAfter("a", 1000);
  queue.add("a");
  await settle();
  assert.equal(runs, 2);
  await tick(1000);
  assert.equal(runs, 2);
});

test("forget starts the backoff of a waiting key anew", async () => {
  let runs = 0;
  const queue = new WorkQueue(
    async () => {
      runs += 1;
      throw new Error("no");
    },
    { workers: 1 },
  );
  queue.start();
  queue.add("a");
  for (const wait of [0, 5, 10, 20]) await tick(wait);
  assert.equal(runs, 4);
  queue.forget("a");
  await tick(40);
  assert.equal(runs, 5);
  await tick(5);
  assert.equal(runs, 6);
});

test("close waits for what runs and starts nothing more", async () => {
  const { work, open, keys } = held();
  const queue = new WorkQueue(work, { workers: 1 });
  queue.start();
  queue.add("a");
  queue.add("b");
  queue.addAfter("c", 10);
  await settle();
  let closed = false;
  const closing = queue.close().then(() => (closed = true));
  await settle();
  assert.equal(closed, false);
  open[0]!.end({ requeueAfter: 1 });
  await closing;
  queue.add("d");
  await tick(5000);
  assert.deepEqual(keys(), ["a"]);
});
