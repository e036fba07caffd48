import assert from "node:assert/strict";
import { suite, test } from "node:test";
import type { Command } from "../../src/contracts.ts";
import { afterExit, type IndexState, startable } from "../../src/standalone/rules.ts";

const index = (number: number, state: IndexState["state"], more: Partial<IndexState> = {}): IndexState => ({
  number,
  state,
  failures: 0,
  ...more,
});

suite("the indexes that start", () => {
  const cases: Record<string, { indexes: IndexState[]; parallelism: number; start: number[]; wait?: number }> = {
    "the first ones, up to parallelism": {
      indexes: [0, 1, 2].map((n) => index(n, "pending")),
      parallelism: 2,
      start: [0, 1],
    },
    "running ones count": {
      indexes: [index(0, "running"), index(1, "pending"), index(2, "pending")],
      parallelism: 2,
      start: [1],
    },
    "done ones do not": { indexes: [index(0, "done"), index(1, "pending")], parallelism: 1, start: [1] },
    "none beyond a parallelism that was lowered": {
      indexes: [index(0, "running"), index(1, "running"), index(2, "pending")],
      parallelism: 1,
      start: [],
    },
    "an index that has to wait lets others pass": {
      indexes: [index(0, "pending", { notBefore: 1500 }), index(1, "pending")],
      parallelism: 1,
      start: [1],
      wait: 500,
    },
    "an index starts when its wait is over": {
      indexes: [index(0, "pending", { notBefore: 1000 })],
      parallelism: 1,
      start: [0],
    },
  };
  for (const [name, { indexes, parallelism, ...expected }] of Object.entries(cases))
    test(name, () => assert.deepEqual(startable(indexes, parallelism, 1000), expected));
});

suite("the state of an index after its process has ended", () => {
  const report = { v: 1, uid: "u", command: "export" } as const;
  const cases: Record<
    string,
    { command: Command; failures?: number; exit: Parameters<typeof afterExit>[2]; expected: object }
  > = {
    "exit 0 is done": {
      command: "export",
      exit: { stopped: false, code: 0, report },
      expected: { index: { state: "done", report } },
    },
    "exit 0 although it was stopped is done": {
      command: "export",
      exit: { stopped: true, code: 0 },
      expected: { index: { state: "done" } },
    },
    "stopped by us counts as nothing": {
      command: "plan",
      exit: { stopped: true, code: 143 },
      expected: { index: { state: "pending" } },
    },
    "killed by us counts as nothing": {
      command: "plan",
      exit: { stopped: true, code: null },
      expected: { index: { state: "pending" } },
    },
    "SIGTERM by someone else counts as nothing, a moment later": {
      command: "plan",
      exit: { stopped: false, code: 143 },
      expected: { index: { state: "pending", notBefore: 1100 } },
    },
    "a package that crashed is tried again": {
      command: "export",
      exit: { stopped: false, code: null },
      expected: { index: { state: "pending", failures: 1, notBefore: 1100 } },
    },
    "the wait doubles with each failure": {
      command: "export",
      failures: 3,
      exit: { stopped: false, code: 1, report },
      expected: { index: { state: "pending", failures: 4, notBefore: 1800, report } },
    },
    "after six retries the run fails": {
      command: "export",
      failures: 6,
      exit: { stopped: false, code: 75, report },
      expected: { index: { state: "failed", failures: 7, report }, runFailed: "BackoffLimitExceeded" },
    },
    "a terminal error ends the run": {
      command: "export",
      exit: { stopped: false, code: 64, report },
      expected: { index: { state: "failed", failures: 1, report }, runFailed: "Terminal" },
    },
    "a plan is not retried here": {
      command: "plan",
      exit: { stopped: false, code: 75 },
      expected: {
        index: { state: "failed", failures: 1 },
        runFailed: "BackoffLimitExceeded; a worker ended with exit code 75",
      },
    },
    "a plan that was killed says so": {
      command: "plan",
      exit: { stopped: false, code: null },
      expected: { index: { state: "failed", failures: 1 }, runFailed: "BackoffLimitExceeded; a worker was killed" },
    },
  };
  for (const [name, { command, failures = 0, exit, expected }] of Object.entries(cases))
    test(name, () =>
      assert.deepEqual(
        afterExit(command, index(0, "running", { failures }), exit, { now: 1000, backoffMs: 100 }),
        expected,
      ),
    );
});
