import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";
import { listening, onAbort } from "../../src/fhir/aborts.ts";

test("every listener is called once, one that was removed is not called, and the signal itself has one listener", () => {
  const abort = new AbortController();
  const called: string[] = [];
  const call = (name: string, then = () => {}) =>
    onAbort(abort.signal, () => {
      called.push(name);
      then();
    });
  call("first");
  const left = call("left");
  call("third", () => ended());
  const ended = call("ended by the third");
  call("last");
  left();
  assert.equal(listening(abort.signal), 4);
  assert.equal(getEventListeners(abort.signal, "abort").length, 1);
  abort.abort();
  assert.deepEqual(called, ["first", "third", "last"]);
  assert.equal(listening(abort.signal), 0);
});

test("each signal calls its own listeners, and can get new ones again and again", () => {
  const [one, other] = [new AbortController(), new AbortController()];
  let calls = 0;
  for (let i = 0; i < 3; i++) onAbort(one.signal, () => calls++)();
  onAbort(one.signal, () => (calls += 10));
  onAbort(other.signal, () => (calls += 100));
  one.abort();
  assert.equal(calls, 10);
});
