import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { planningPath } from "../../src/sink/layout.ts";
import { storage } from "../sink/stores.ts";
import { sampleOf } from "../tools/sample.ts";
import {
  comparable,
  exportThrough,
  inLanes,
  type Lane,
  openLane,
  putState,
  type Step,
  start,
  stateOf,
  steps,
  undisturbed,
} from "./faults.ts";
import type { Export } from "./harness.ts";

const { kinds, place, azurite } = storage({ apart: true });
/** Indexes of the steps whose worker is frozen: the plan, one export and the seal. */
const frozenSteps = [0, 1, 3];

interface Point {
  frozen: number;
  request: number;
  /** held: the request reaches the server only after the export has ended; done: the server has done it, and only its
   *  answer is held back */
  when: "held" | "done";
  /** What others do until the worker wakes up: a successor runs the same step; or all steps are run; or a purge. */
  meanwhile: "continued" | "sealed" | "purged";
}

const othersDo: Record<Point["meanwhile"], (frozen: number) => readonly Step[]> = {
  continued: (frozen) => steps.slice(frozen, frozen + 1),
  sealed: (frozen) => steps.slice(frozen),
  purged: () => [["purge", 0]],
};

async function runAll(of: Export, all: readonly Step[], at: string): Promise<void> {
  for (const [command, index] of all) {
    const { code, report } = await of.run(command, index);
    assert.equal(code, 0, `${at}: ${command} ends with ${JSON.stringify(report.error)}`);
    if (command === "purge") assert.equal(report.left, 0, at);
  }
}

for (const kind of kinds)
  describe(`a worker that is frozen by SIGSTOP and wakes up after the export has ended, into ${kind}`, () => {
    let lanes: Lane[];
    before(async () => {
      lanes = [await openLane(azurite()), await openLane(azurite())];
    });
    after(() => Promise.all(lanes.map((lane) => lane.close())));
    const begin = async (lane: Lane) => exportThrough(lane, await place(kind), azurite());

    /** The number of the plan's first request after its first object is in storage. */
    async function firstWrite(): Promise<number> {
      const lane = lanes[0]!;
      const { of, store } = await begin(lane);
      let first = 0;
      lane.watch({
        before: async ({ number }) => {
          // reading fails until the container exists
          if (await store.read(planningPath).catch(() => undefined)) first ||= number;
          return undefined;
        },
      });
      assert.equal((await of.run("plan")).code, 0);
      assert(first > 1);
      return first;
    }

    test("at every request of an export, does not change what was sealed, and does not bring back what was purged", {
      timeout: 900_000,
    }, async () => {
      const reference = await undisturbed(lanes[0]!, await begin(lanes[0]!));
      const begun = await firstWrite();
      const all = frozenSteps.flatMap((frozen) =>
        Array.from({ length: reference.requests[frozen]! }, (_, at) => at + 1).flatMap((request) =>
          (["held", "done"] as const).flatMap((when) =>
            (["continued", "sealed", "purged"] as const)
              .map((meanwhile): Point => ({ frozen, request, when, meanwhile }))
              // a plan that has stored nothing yet cannot tell a purge from a new export
              .filter(({ meanwhile }) => frozen > 0 || (request >= begun && meanwhile !== "sealed"))
              // of the requests that change nothing, every fifth is enough, except in an export
              .filter(
                () =>
                  frozen === 1 || kind === "directory" || reference.writes[frozen]!.has(request) || request % 5 === 0,
              ),
          ),
        ),
      );
      const points = sampleOf(`freezes into ${kind}`, all, {
        size: kind === "azure" ? 36 : 18,
        kindsOf: ({ frozen, request, when, meanwhile }) => [
          reference.kinds[frozen]![request - 1]!,
          `${frozen} ${when} ${meanwhile}`,
        ],
      });
      let froze = 0;
      await inLanes(lanes, points, async (lane, { frozen, request, when, meanwhile }) => {
        const { of, store } = await begin(lane);
        await putState(store, reference.states[frozen]!);
        const at = `${meanwhile} with request ${request} of ${steps[frozen]!.join(" ")} ${when}`;
        const stopped = Promise.withResolvers<void>();
        const over = Promise.withResolvers<undefined>();
        let pid: number | undefined;
        const freeze = (number: number) => {
          if (number !== request) return undefined;
          process.kill(pid!, "SIGSTOP");
          stopped.resolve();
          return over.promise;
        };
        lane.watch({
          before: ({ number }) => (when === "held" ? freeze(number) : undefined),
          after: ({ number }) => (when === "done" ? freeze(number) : undefined),
        });
        const { child, code } = await start(of, steps[frozen]!);
        pid = child.pid;
        try {
          const first = await Promise.race([stopped.promise.then(() => "frozen"), code]);
          if (first === "frozen") froze++;
          lane.watch({});
          await runAll(of, othersDo[meanwhile](frozen), at);
        } finally {
          // A worker that needed fewer requests this time has ended: then there is no process to wake, which is no
          // error.
          child.kill("SIGCONT");
          over.resolve(undefined);
        }
        await code;
        if (meanwhile === "continued") await runAll(of, steps.slice(frozen + 1), at);
        assert.deepEqual(comparable(await stateOf(store)), meanwhile === "purged" ? {} : reference.end, at);
        if (meanwhile !== "purged") assert.equal((await of.run("verify")).code, 0, at);
      });
      assert(froze > Math.max(points.length - 10, 0.8 * points.length), `froze ${froze} times`);
      console.log(
        `!! fence walk into ${kind}: ${froze} freezes at ${points.length} of ${all.length} points, nothing changed, nothing came back`,
      );
    });
  });
