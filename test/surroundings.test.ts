import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { systemClock } from "../src/surroundings.ts";

const root = fileURLToPath(new URL("../", import.meta.url));

/** What talks to the world outside has its own time and its own random names; the key of worker/ids.ts never leaves the
 *  process. */
const outside = /^src\/(sink\/(azure|directory|sas)[\w-]*|fhir\/(connections?|stated|tls|auth\/\w+)|worker\/ids)\.ts$/;
const ownTimeOrChance =
  /\b(Date\.now|performance\.now|new Date\(\)|setTimeout|setInterval|setImmediate|AbortSignal\.timeout|Math\.random|random(Bytes|UUID|Int|FillSync)|timers\/promises)\b/;

test("whatever a worker runs takes time and chance from its surroundings", () => {
  const files = globSync("src/{worker,fhir,sink,scan}/**/*.ts", { cwd: root }).filter((path) => !outside.test(path));
  assert(files.length > 60);
  const own = files.flatMap((path) => {
    const found = ownTimeOrChance.exec(readFileSync(`${root}${path}`, "utf8"));
    return found ? [`${path}: ${found[0]}`] : [];
  });
  assert.deepEqual(own, []);
});

test("the system's clock sleeps until it is time or the signal aborts, and its timers can be cancelled", async () => {
  const stop = new AbortController();
  const asleep = systemClock.sleep(3600_000, stop.signal);
  stop.abort(new Error("stopped"));
  await assert.rejects(asleep, { name: "AbortError" });
  const cancel = systemClock.after(1, () => assert.fail("it was cancelled"));
  cancel();
  await systemClock.sleep(5);
  await new Promise<void>((resolve) => systemClock.after(1, resolve));
});
