import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { storage } from "../sink/stores.ts";
import { type Source, startSource } from "../sources/server.ts";
import { Export } from "./harness.ts";

const { place } = storage();
let source: Source;
before(async () => {
  source = await startSource();
});
after(() => source.close());

/** Runs an export of many shards.
 *  @returns its requests as the source has seen them */
async function run(share: { requests: number; perSecond?: number }, types: string[]) {
  const exported = new Export(await place("directory"), source.baseURL, {
    export: { types },
    source: { count: 100, retrySeconds: 30, share },
    plan: { shardResources: 300 },
  });
  const from = source.requests.length;
  (source.counters as { maxActive: number }).maxActive = 0;
  const done = await exported.all();
  assert.deepEqual([done.code, done.report.error, done.report.exact], [0, undefined, true]);
  return { requests: source.requests.slice(from), maxActive: source.counters.maxActive };
}

describe("the limits of a source hold", () => {
  test("no more requests are open at a time than the share allows, read-ahead included", async () => {
    source.set({ pageDelay: 5, linkHeader: true });
    const { maxActive } = await run({ requests: 3 }, ["Observation", "Encounter"]);
    source.set({ pageDelay: 0, linkHeader: false });
    assert(maxActive > 1 && maxActive <= 3, `${maxActive} at a time`);
  });

  test("no more requests are sent in a second than the share allows", async () => {
    const { requests } = await run({ requests: 4, perSecond: 50 }, ["Encounter", "Patient"]);
    // each command has a client of its own, whose requests are at least 20 ms apart
    const seconds = (requests.at(-1)!.at - requests[0]!.at) / 1000;
    assert(requests.length > 30);
    assert(requests.length - 20 <= seconds * 50, `${requests.length} requests in ${seconds} s`);
  });

  test("after a 429 with Retry-After no chain sends a request until that time has passed", async () => {
    source.set({ pageDelay: 20 });
    source.inject({ kind: "status", status: 429, retryAfter: 2, match: "&_sort=", skip: 8 });
    const { requests } = await run({ requests: 4 }, ["Observation"]);
    source.set({ pageDelay: 0 });
    const index = requests.findIndex(({ status }) => status === 429);
    const { at } = requests[index]!;
    // requests that were already under way may arrive shortly after the answer
    const early = requests.slice(index + 1).filter((request) => request.at > at + 100 && request.at < at + 1990);
    assert.deepEqual(early, []);
    assert(requests.length > index + 10);
  });
});
