import assert from "node:assert/strict";
import { cp } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Store } from "../../src/sink/store.ts";
import { storage } from "../sink/stores.ts";
import { random } from "../sources/random.ts";
import { sampleOf } from "../tools/sample.ts";
import {
  comparable,
  exportThrough,
  type Lane,
  openLane,
  putState,
  type Reference,
  type Step,
  start,
  stateOf,
  steps,
  undisturbed,
} from "./faults.ts";
import { type Export, linesOf } from "./harness.ts";

const { kinds, place, azurite } = storage({ apart: true });
const [plan, first, , seal] = steps as [Step, Step, Step, Step];
const done = 0;
/** exit codes after which the operator runs the command again: transient and waiting */
const retryable = [1, 75];

/** Runs a step as a process of its own, to its end. @returns its exit code */
const ended = async (of: Export, step: Step) => (await (await start(of, step)).code)!;

for (const kind of kinds)
  describe(`several workers at the same work at once, into ${kind}`, () => {
    let lane: Lane;
    let reference: Reference;
    before(async () => {
      lane = await openLane(azurite());
      const { of, store } = await exportThrough(lane, await place(kind), azurite());
      reference = await undisturbed(lane, { of, store });
    });
    after(() => lane.close());

    /** Workers of one export, each with its own files as in a pod, and their storage as it was before a step. */
    async function rivals(count: number, before: number): Promise<{ all: Export[]; store: Store }> {
      const direct = await place(kind);
      const all: Export[] = [];
      for (let number = 0; number < count; number++) {
        const secrets = join(direct.secrets, `rival-${number}`);
        await cp(join(direct.secrets, "target"), join(secrets, "target"), { recursive: true });
        all.push((await exportThrough(lane, { ...direct, secrets }, azurite())).of);
      }
      const store = await direct.open();
      await putState(store, reference.states[before]!);
      return { all, store };
    }

    /** Delays each request and each answer by 0 to 12 ms, so that the workers meet at other places in each round.
     *  @returns how many manifests were written, when it is called */
    function disorder(seed: number): () => number {
      const r = random(seed);
      let manifests = 0;
      lane.watch({
        before: async () => void (await sleep(r.int(12))),
        after: async ({ method, url }, { status }) => {
          if (method === "PUT" && /\/manifest\.json(\?|$)/.test(url) && status === 201) manifests++;
          await sleep(r.int(12));
          return undefined;
        },
      });
      return () => manifests;
    }

    /** Rounds of a test that this run goes through. */
    const drawRounds = (of: string, rounds: number, kindsOf: (round: number) => string) =>
      sampleOf(`${of} into ${kind}`, [...Array(rounds).keys()], { size: 3, kindsOf });

    /** Runs the steps one after the other, each again while its exit code asks for it. */
    async function runRest(of: Export, rest: readonly Step[]): Promise<void> {
      for (const [command, index] of rest)
        for (let tries = 1; ; tries++) {
          const { code, report } = await of.run(command, index);
          if (code === done) break;
          assert(
            retryable.includes(code) && tries < 3,
            `${command} ${index} ends with ${JSON.stringify(report.error)}`,
          );
        }
    }

    async function check(store: Store, manifests: number): Promise<void> {
      assert.deepEqual(comparable(await stateOf(store)), reference.end);
      const { lines, doubled } = await linesOf(store);
      assert.deepEqual([lines.size, doubled], [84, []]);
      if (kind === "azure") assert.equal(manifests, 1);
    }

    const cases: {
      name: string;
      step: Step;
      before: number;
      rest: readonly Step[];
      rounds: number;
      processes?: true;
    }[] = [
      { name: "plans", step: plan, before: 0, rest: steps, rounds: 6 },
      { name: "workers on one package", step: first, before: 1, rest: steps.slice(1), rounds: 10 },
      // A seal that fails at one type has other types under way. They end only with its process.
      { name: "seals", step: seal, before: 3, rest: [seal], rounds: 8, processes: true },
    ];
    for (const { name, step, before, rest, rounds, processes } of cases)
      test(`two or three ${name} neither double, lose nor mix anything, and those that fail may run again`, async () => {
        const codes = new Map<number, number>();
        for (const round of drawRounds(name, rounds, (round) => `${round % 2}`)) {
          const { all, store } = await rivals(2 + (round % 2), before);
          const manifests = disorder(round);
          const ends = await Promise.all(
            all.map((of) => (processes ? ended(of, step) : of.run(...step).then(({ code }) => code))),
          );
          for (const code of ends) {
            codes.set(code, (codes.get(code) ?? 0) + 1);
            assert([done, ...retryable].includes(code), `round ${round}: exit ${code}`);
          }
          await runRest(all[0]!, rest);
          await check(store, manifests());
        }
        if (process.env.LOOK) console.log("!!", kind, name, codes);
      });

    test("three workers on one package, each a process of its own", async () => {
      const { all, store } = await rivals(3, 1);
      const manifests = disorder(99);
      for (const code of await Promise.all(all.map((of) => ended(of, first))))
        assert([done, ...retryable].includes(code));
      await runRest(all[0]!, steps.slice(1));
      await check(store, manifests());
    });

    test("an object that is removed while it is replaced does not exist afterwards", async () => {
      const store = await (await place(kind)).open();
      await store.prepare();
      for (let round = 0; round < 100; round++) {
        const path = `_work/shard-${round}/checkpoint.json`;
        const etag = (await store.create(path, Buffer.from("1")))!;
        await Promise.all([store.replace(path, Buffer.from("2"), etag), store.remove(path)]);
        assert.equal(await store.read(path), undefined, `round ${round}`);
      }
    });

    test("a purge beside workers: nothing that it has removed comes back", async () => {
      for (const round of drawRounds("purge", 12, (round) => `${round >> 2}`)) {
        const { all, store } = await rivals(3, 1);
        disorder(round);
        const [purger, ...workers] = all as [Export, ...Export[]];
        const working = workers.map((of) => of.run(...first));
        await sleep(round * 25);
        const purged = await purger.run("purge");
        assert.equal(purged.code, done, JSON.stringify(purged.report.error));
        assert.equal(purged.report.left, 0);
        await Promise.all(working);
        assert.deepEqual(comparable(await stateOf(store)), {}, `round ${round}`);
      }
    });
  });
