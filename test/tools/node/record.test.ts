import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { end, lives, processOf } from "./namespaces.ts";
import { alone } from "./record.ts";

const skip = process.platform === "linux" ? false : "the node is for Linux";

test("a process is told from a later one with its number, and a dead process from a living one", { skip }, async () => {
  const child = spawn("sleep", ["100"], { stdio: "ignore" });
  const one = processOf(child.pid!)!;
  assert(lives(one) && lives(processOf(process.pid)!));
  assert(!lives({ ...one, started: `${Number(one.started) - 1}` }));
  await end({ ...one, started: "1" });
  assert(lives(one), "another process was ended");
  const exited = once(child, "exit");
  await end(one);
  await exited;
  assert(!lives(one) && processOf(child.pid!) === undefined);
});

test("the lock lets in one at a time, also after one has failed", { skip }, async () => {
  let inside = 0;
  const seen: number[] = [];
  const act = async () => {
    seen.push(++inside);
    await sleep(20);
    inside--;
  };
  await assert.rejects(
    alone(() => Promise.reject(new Error("no"))),
    /no/,
  );
  await Promise.all([alone(act), alone(act), alone(act)]);
  assert.deepEqual(seen, [1, 1, 1]);
});
