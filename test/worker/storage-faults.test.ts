import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { storage } from "../sink/stores.ts";
import type { Hooks, Passed } from "../tools/fault-proxy.ts";
import { sampleOf } from "../tools/sample.ts";
import {
  comparable,
  exportThrough,
  inLanes,
  type Lane,
  openLane,
  putState,
  stateOf,
  steps,
  undisturbed,
} from "./faults.ts";

const { place, azurite } = storage({ apart: true });

const answer = (status: number, headers = {}): Passed => ({ status, headers, body: Buffer.alloc(0) });
/** What happens to one request. In some faults storage has done what was asked, in others it has not. */
const faults: Record<string, Hooks> = {
  "408": { before: () => answer(408) },
  "409": { before: () => answer(409) },
  "412": { before: () => answer(412) },
  "429 with Retry-After": { before: () => answer(429, { "retry-after": "1" }) },
  "500": { before: () => answer(500) },
  "503": { before: () => answer(503) },
  "no answer, not done": { before: () => "drop" },
  "500, but done": { after: () => answer(500) },
  "no answer, but done": { after: () => "drop" },
  "half an answer": { after: () => "cut" },
};
const names = Object.keys(faults);
/** How often all requests are gone through. A request has another fault each time. */
const rounds = Number(process.env.ROUNDS ?? 2);

describe("storage that fails at one request", () => {
  let lanes: Lane[];
  before(async () => {
    // many, because most of the time passes between two tries of a request
    lanes = await Promise.all(Array.from({ length: 8 }, () => openLane(azurite())));
  });
  after(() => Promise.all(lanes.map((lane) => lane.close())));
  const begin = async (lane: Lane) => exportThrough(lane, await place("azure"), azurite());
  const isStorage = (url: string) => url.startsWith("/devstoreaccount1");

  test("the command succeeds, or its next run does, and the files are byte-identical to those of an undisturbed run", {
    timeout: 900_000,
  }, async () => {
    const reference = await undisturbed(lanes[0]!, await begin(lanes[0]!));
    const all = Array.from({ length: rounds }, (_, round) =>
      reference.requests.flatMap((_, step) =>
        Array.from({ length: reference.storage[step]! }, (_, at) => ({
          step,
          request: at + 1,
          fault: names[(at + step + 3 * round) % names.length]!,
        })),
      ),
    ).flat();
    const points = sampleOf("storage faults", all, {
      size: 32,
      kindsOf: ({ step, fault }) => `${steps[step]![0]} ${fault}`,
    });
    const again = new Map<string, number>();
    let met = 0;
    await inLanes(lanes, points, async (lane, { step, request, fault }) => {
      const { of, store } = await begin(lane);
      await putState(store, reference.states[step]!);
      let count = 0;
      const mine = new Set<number>();
      lane.watch({
        before: (asked) => {
          if (!isStorage(asked.url) || ++count !== request) return undefined;
          mine.add(asked.number);
          met++;
          return faults[fault]!.before?.(asked);
        },
        after: (asked, passed) => (mine.has(asked.number) ? faults[fault]!.after?.(asked, passed) : undefined),
      });
      const at = `${fault} at request ${request} of ${steps[step]!.join(" ")}`;
      const first = await of.run(...steps[step]!);
      lane.watch({});
      if (first.code !== 0) {
        again.set(`${fault}: ${first.code}`, (again.get(`${fault}: ${first.code}`) ?? 0) + 1);
        if (process.env.LOOK) console.log("!!", at, first.code, first.report.error?.message);
      }
      for (const [command, index] of steps.slice(first.code === 0 ? step + 1 : step)) {
        const { code, report } = await of.run(command, index);
        assert.equal(code, 0, `${at}: ${command} ${index} ends with ${JSON.stringify(report.error)}`);
      }
      assert.deepEqual(comparable(await stateOf(store)), reference.end, at);
    });
    assert(met > Math.max(points.length - 5, 0.8 * points.length));
    console.log(
      `!! storage faults: ${met} of ${all.length}, ${[...again.values()].reduce((sum, runs) => sum + runs, 0)} commands needed a second run`,
      again,
    );
  });
});
