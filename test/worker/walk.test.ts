import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { storage } from "../sink/stores.ts";
import type { Passing } from "../tools/fault-proxy.ts";
import {
  type Change,
  comparable,
  exportThrough,
  inLanes,
  type Lane,
  openLane,
  putState,
  type Reference,
  start,
  stateOf,
  steps,
  undisturbed,
} from "./faults.ts";

const { place, azurite } = storage();

interface Point {
  /** which of the steps */
  step: number;
  /** number of the step's request to source or storage */
  request: number;
  /** the server gets it, or has done it */
  when: "before" | "after";
}

/** Both moments of every request. */
const pointsOf = ({ requests }: Reference): Point[] =>
  requests.flatMap((count, step) =>
    Array.from({ length: count }, (_, at) => at + 1).flatMap((request): Point[] => [
      { step, request, when: "before" },
      { step, request, when: "after" },
    ]),
  );

const isManifest = ({ method, url }: Passing) => method === "PUT" && /\/manifest\.json(\?|$)/.test(url);

describe("kill -9 of the worker at every request", () => {
  let lanes: Lane[];
  let cache: string;
  before(async () => {
    lanes = [await openLane(azurite()), await openLane(azurite())];
    // half of a process' start
    cache = process.env.NODE_COMPILE_CACHE = await mkdtemp(join(tmpdir(), "fhir-export-cache-"));
  });
  after(async () => {
    await Promise.all(lanes.map((lane) => lane.close()));
    await rm(cache, { recursive: true });
  });

  const begin = async (lane: Lane, change: Change = {}) => exportThrough(lane, await place("azure"), azurite(), change);

  /** Kills the process of the step at the point; then the step once more and those behind it, in this process. @returns whether it came to the point */
  async function killAt(
    lane: Lane,
    { states, end }: Reference,
    { step, request, when }: Point,
    change: Change = {},
    meanwhile?: (asked: Passing) => void,
  ) {
    const { of, store } = await begin(lane, change);
    await putState(store, states[step]!);
    let manifests = 0;
    let pid: number | undefined;
    let killed = false;
    const kill = (number: number) => {
      if (number !== request || killed) return undefined;
      killed = true;
      process.kill(pid!, "SIGKILL");
      return "drop" as const;
    };
    lane.watch({
      before: (asked) => {
        meanwhile?.(asked);
        return when === "before" ? kill(asked.number) : undefined;
      },
      after: (asked, { status }) => {
        if (isManifest(asked) && status === 201) manifests++;
        return when === "after" ? kill(asked.number) : undefined;
      },
    });
    const { child, code } = await start(of, steps[step]!);
    pid = child.pid;
    assert.equal(await code, killed ? undefined : 0);
    lane.watch({
      after: (asked, { status }) => {
        if (isManifest(asked) && status === 201) manifests++;
        return undefined;
      },
    });
    const at = `killed ${when} request ${request} of ${steps[step]!.join(" ")}`;
    for (const [command, index] of steps.slice(killed ? step : step + 1)) {
      const { code, report } = await of.run(command, index);
      assert.equal(code, 0, `${at}: ${command} ${index} ends with ${JSON.stringify(report.error)}`);
    }
    assert.deepEqual(comparable(await stateOf(store)), end, at);
    assert.equal(manifests, 1, at);
    return killed;
  }

  test("the files are byte-identical to the undisturbed run's, and the manifest is written once", async () => {
    const reference = await undisturbed(lanes[0]!, await begin(lanes[0]!));
    let kills = 0;
    if (!process.env.SKIP)
      await inLanes(lanes, pointsOf(reference), async (lane, point) => {
        if (await killAt(lane, reference, point)) kills++;
      });
    const requests = reference.requests.reduce((sum, count) => sum + count, 0);
    // what goes side by side may be a request more or less
    assert(kills > 2 * requests - 10);
    console.log(`!! fault walk: ${requests} requests, ${kills} kills, all byte-identical`);
  });

  test("while a shard begins again, as its next link is known no more", async () => {
    const reference = await undisturbed(lanes[0]!, await begin(lanes[0]!));
    const points = pointsOf(reference).filter(({ step, request }) => step === 1 && request > 8);
    await inLanes(lanes, points, async (lane, point) => {
      let pages = 0;
      await killAt(lane, reference, point, {}, ({ url }) => {
        if (!url.startsWith("/fhir/DocumentReference") || url.includes("_summary")) return;
        // a file is committed by then
        if (++pages === 6) lane.source.expireLinks();
      });
    });
  });
});
