import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Plan } from "../../../src/contracts.ts";
import { planningPath, planPath } from "../../../src/sink/layout.ts";
import type { Store } from "../../../src/sink/store.ts";
import type { DraftState } from "../../../src/worker/plan/draft.ts";
import { storage } from "../../sink/stores.ts";
import { type Source, startSource } from "../../sources/server.ts";
import { start } from "../faults.ts";
import { Export, linesOf } from "../harness.ts";

const { kinds, place } = storage();
const until = "2026-01-01T00:00:00.000Z";
const types = ["Encounter", "Group", "Observation", "Patient"];
const parameters = { export: { types, until }, plan: { shardResources: 4 }, source: { share: { requests: 2 } } };

const json = async <T>(store: Store, path: string) => {
  const found = await store.read(path);
  return found && (JSON.parse(found.bytes.toString()) as T);
};
/** A plan without what is different each time. */
const comparable = ({ transactionTime: _, key: __, uid: ___, ...rest }: Plan) => rest;
const countsOf = (source: Source, from: number) =>
  source.requests
    .slice(from)
    .map(({ url }) => url)
    .filter((url) => url.includes("_summary=count"));

for (const kind of kinds)
  describe(`a plan whose pod is killed, into ${kind}`, () => {
    test("its successor counts nothing a second time, and makes the same plan", async () => {
      const source = await startSource({ scale: 0.4 });
      try {
        const undisturbed = await place(kind);
        assert.equal((await new Export(undisturbed, source.baseURL, parameters).run("plan")).code, 0);
        const wanted = (await json<Plan>(await undisturbed.open(), planPath))!;
        assert(wanted.shards.length > 300);

        const where = await place(kind);
        const of = new Export(where, source.baseURL, parameters);
        const store = await where.open();
        await store.prepare();
        const off = source.onRequest(() => sleep(12));
        let found: DraftState | undefined;
        const { child, code } = await start(of, ["plan", 0]);
        // kill it while it counts Observation, when other types are already cut
        while (
          child.exitCode === null &&
          !(found && Object.keys(found.done).length > 1 && Object.keys(found.counts.Observation ?? {}).length > 50)
        ) {
          await sleep(50);
          found = await json<DraftState>(store, planningPath);
        }
        child.kill("SIGKILL");
        assert.equal(await code, undefined, "killed");
        off();
        assert.equal(await json<Plan>(store, planPath), undefined);
        found = (await json<DraftState>(store, planningPath))!;
        const asked = source.requests.length;

        const { code: ended } = await of.run("plan");
        assert.equal(ended, 0);
        const plan = (await json<Plan>(store, planPath))!;
        assert.deepEqual(comparable(plan), comparable(wanted));
        assert.equal(Date.parse(plan.transactionTime) + 1, found.end, "the moment is the first planner's");
        assert.equal(await json(store, planningPath), undefined);
        const counts = countsOf(source, asked);
        for (const type of Object.keys(found.done))
          assert.deepEqual(
            counts.filter((url) => url.includes(`/${type}?`)),
            [],
          );
        const instant = (ms: string) => new Date(Number(ms)).toISOString();
        const known = Object.keys(found.counts.Observation!).map((key) => {
          const [from, till] = key.split("-") as [string, string];
          return `${from === "" ? "" : `_lastUpdated=ge${instant(from)}&`}_lastUpdated=lt${instant(till)}&`;
        });
        assert(known.length > 50);
        // only the count below the end, of which both sides must add up, is asked for again
        assert.deepEqual(
          known.filter(
            (bounds) =>
              counts.some((url) => url.includes(`Observation?${bounds}`)) &&
              !bounds.startsWith(`_lastUpdated=lt${until}`),
          ),
          [],
        );
        assert(counts.length > 20, "some windows were left to count");
      } finally {
        await source.close();
      }
    });
  });

describe("a planner that continues the draft of another", () => {
  test("takes the members of the Group, the moment and the counts from it", async () => {
    const source = await startSource();
    try {
      const where = await place("directory");
      const of = new Export(where, source.baseURL, { export: { level: "Group", groupId: "g1" } });
      of.task.export.groupId = [...source.dump("Group").keys()][0]!.split("/")[1]!;
      const store = await where.open();
      const stop = new AbortController();
      const off = source.onRequest(({ url }) => {
        // once the members of the Group are read
        if (url.includes("_summary=count") && source.requests.some((request) => request.url.includes("/Group/")))
          stop.abort();
      });
      assert.equal((await of.run("plan", 0, stop.signal)).code, 143);
      off();
      const { end } = (await json<DraftState>(store, planningPath))!;
      // from now on a moment of its own would be another one
      while (Date.now() < end + 1000) await sleep(50);
      const done = await of.all();
      assert.deepEqual([done.code, done.report.error], [0, undefined]);
      assert.equal(Date.parse(done.report.transactionTime!) + 1, end);
      assert.equal(await json(store, planningPath), undefined);
      assert((await linesOf(store)).lines.size > 0);
    } finally {
      await source.close();
    }
  });

  test("refuses that of another export, and leaves it as it is", async () => {
    const source = await startSource({ scale: 0.1 });
    try {
      const where = await place("directory");
      const of = new Export(where, source.baseURL);
      const store = await where.open();
      await store.prepare();
      const theirs = Buffer.from(JSON.stringify({ v: 1, uid: "another" }));
      await store.create(planningPath, theirs);
      const { code, report } = await of.run("plan");
      assert.deepEqual([code, report.error?.reason], [64, "ForeignOutput"]);
      assert.deepEqual((await store.read(planningPath))!.bytes, theirs);
    } finally {
      await source.close();
    }
  });
});
