import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { Checkpoint } from "../../src/contracts.ts";
import { checkpointPath } from "../../src/sink/layout.ts";
import { storage } from "../sink/stores.ts";
import type { Passing } from "../tools/fault-proxy.ts";
import { sampleOf } from "../tools/sample.ts";
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
import { linesOf } from "./harness.ts";

const { place, azurite } = storage({ apart: true });

interface Point {
  /** index of the step */
  step: number;
  /** number of the request, among the step's requests to source and storage */
  request: number;
  /** before the server gets it, or after the server has done it */
  when: "before" | "after";
}

/** How a kill differs from the usual one. */
interface Variation {
  /** of the export */
  change?: Change;
  /** called for each request of the step that is killed */
  meanwhile?: (asked: Passing) => void;
}

/** Both moments of every request. */
const pointsOf = ({ requests }: Reference): Point[] =>
  requests.flatMap((count, step) =>
    Array.from({ length: count }, (_, at) => at + 1).flatMap((request): Point[] => [
      { step, request, when: "before" },
      { step, request, when: "after" },
    ]),
  );

const kindIn =
  ({ kinds }: Reference) =>
  ({ step, request, when }: Point): string[] => [kinds[step]![request - 1]!, `${step} ${when}`];

const isManifest = ({ method, url }: Passing) => method === "PUT" && /\/manifest\.json(\?|$)/.test(url);

describe("kill -9 of the worker at every request", () => {
  let lanes: Lane[];
  before(async () => {
    lanes = [await openLane(azurite()), await openLane(azurite())];
  });
  after(() => Promise.all(lanes.map((lane) => lane.close())));

  const begin = async (lane: Lane, change: Change = {}) => exportThrough(lane, await place("azure"), azurite(), change);

  /** Runs the step as a process and kills it at the point. Then runs the step again, and the later ones, in this
   *  process.
   *  @returns whether the step reached the point */
  async function killAt(
    lane: Lane,
    { states, end }: Reference,
    { step, request, when }: Point,
    { change = {}, meanwhile }: Variation = {},
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

  test("the files are byte-identical to the undisturbed run's, and the manifest is written once", {
    timeout: 900_000,
  }, async () => {
    const reference = await undisturbed(lanes[0]!, await begin(lanes[0]!));
    let kills = 0;
    const all = pointsOf(reference);
    const points = sampleOf("kills", all, { size: 24, kindsOf: kindIn(reference) });
    await inLanes(lanes, points, async (lane, point) => {
      if (await killAt(lane, reference, point)) kills++;
    });
    // requests of parallel chains vary by a few from run to run
    assert(kills > Math.max(points.length - 10, 0.8 * points.length));
    console.log(`!! fault walk: ${kills} kills at ${points.length} of ${all.length} points, all byte-identical`);
  });

  test("while a shard is read from its start, because the source has forgotten its next link", async () => {
    const reference = await undisturbed(lanes[0]!, await begin(lanes[0]!));
    // from the page that is refused to the first page that is written again
    const all = Array.from({ length: 16 }, (_, at): Point => ({ step: 1, request: 13 + at, when: "after" }));
    // the place counts here, not the kind of the request: one of each four that follow each other
    const points = sampleOf("read from the start", all, {
      size: 4,
      kindsOf: ({ request }) => `${(request - 13) >> 2}`,
    });
    let [kills, expirations] = [0, 0];
    await inLanes(lanes, points, async (lane, point) => {
      let pages = 0;
      const killed = await killAt(lane, reference, point, {
        meanwhile: ({ url }) => {
          if (!url.startsWith("/fhir/DocumentReference") || url.includes("_summary")) return;
          // by then a file is committed
          if (++pages !== 6) return;
          lane.source.expireLinks();
          expirations++;
        },
      });
      if (killed) kills++;
    });
    assert(kills > 0 && expirations > 0, `${kills} kills, links expired ${expirations} times`);
  });

  /** Kills at a sample of the points that has every kind of request in it. */
  async function killAtSome(walk: string, all: Point[], reference: Reference, change: Change) {
    let kills = 0;
    const points = sampleOf(walk, all, { size: 4, kindsOf: kindIn(reference) });
    await inLanes(lanes, points, async (lane, point) => {
      if (await killAt(lane, reference, point, { change })) kills++;
    });
    assert(kills > points.length / 2, `only ${kills} of ${points.length} points were reached`);
  }

  test("with gzip, at every tenth request: the content is the same", async () => {
    const change = { gzip: true };
    const reference = await undisturbed(lanes[0]!, await begin(lanes[0]!, change));
    // an odd number, so that both moments of a request are among them
    await killAtSome(
      "gzip",
      pointsOf(reference).filter((_, at) => at % 21 === 9),
      reference,
      change,
    );
  });

  test("with searches by members of a cohort, at every sixth request, also between the searches of a shard", async () => {
    const patients = [...lanes[0]!.source.dump("Patient").keys()]
      .slice(0, 5)
      .map((key) => key.slice("Patient/".length));
    const change: Change = { level: "Patient", patients };
    const reference = await undisturbed(lanes[0]!, await begin(lanes[0]!, change));
    const exports = Object.keys(reference.end).filter((path) => path.endsWith(".ndjson"));
    assert(exports.length > 1, exports.join());
    await killAtSome(
      "cohort",
      pointsOf(reference).filter((_, at) => at % 13 === 5),
      reference,
      change,
    );
  });

  /** An export of 19 pages into one file, so that only the time causes checkpoints. */
  const beginSlow = async (lane: Lane) => {
    const begun = await begin(lane, { maxFileBytes: 1 << 28 });
    begun.of.task.source.count = 3;
    return begun;
  };

  test("after a checkpoint: only the pages since then are read again", async () => {
    const reference = await undisturbed(lanes[0]!, await beginSlow(lanes[0]!));
    // the kill comes this many pages after the first checkpoint; checkpoints are 2 s apart
    const points = [0, 1, 2, 5];
    await inLanes(lanes, points, async (lane, behind) => {
      const { of, store } = await beginSlow(lane);
      await putState(store, reference.states[1]!);
      const pages: string[] = [];
      const isPage = (url: string) => url.startsWith("/fhir/DocumentReference") && !url.includes("_summary");
      let pid: number | undefined;
      let left: number | undefined;
      lane.source.set({ pageDelay: 250 });
      lane.watch({
        before: ({ url }) => {
          if (!isPage(url)) return undefined;
          pages.push(url);
          if (left !== undefined && left-- === 0) process.kill(pid!, "SIGKILL");
          return undefined;
        },
        after: ({ method, url, headers }) => {
          if (method === "PUT" && url.includes("checkpoint.json") && headers["if-match"] && left === undefined)
            left = behind;
          return undefined;
        },
      });
      const { child, code } = await start(of, ["export", 0]);
      pid = child.pid;
      assert.equal(await code, undefined, "killed");
      lane.source.set({ pageDelay: 0 });
      const { next } = JSON.parse(
        (await store.read(checkpointPath("DocumentReference-0001")))!.bytes.toString(),
      ) as Checkpoint;
      const resumed: string[] = [];
      lane.watch({ before: ({ url }) => void (isPage(url) && resumed.push(url)) });
      assert.equal((await of.run("export", 0)).code, 0);
      const from = pages.findIndex((url) => next!.endsWith(url));
      assert(from > 0, "the checkpoint names a page behind the first");
      assert.deepEqual(resumed.slice(0, pages.length - from), pages.slice(from));
      assert.equal(
        new Set([...pages.slice(0, from), ...resumed]).size,
        from + resumed.length,
        "and none of those before",
      );
      for (const [command, index] of steps.slice(2)) assert.equal((await of.run(command, index)).code, 0);
      assert.deepEqual(comparable(await stateOf(store)), reference.end);
    });
  });

  test("a page that could not be read until the kill is read by the successor, and leaves no error file behind", async () => {
    const lane = lanes[0]!;
    const { of, store } = await begin(lane);
    const reference = await undisturbed(lane, { of, store });
    const again = await begin(lane);
    await putState(again.store, reference.states[1]!);
    const id = [...lane.source.dump("DocumentReference").keys()][20]!.split("/")[1]!;
    lane.source.set({ poison: { ids: [id], as: 500 } });
    let pid: number | undefined;
    let killed = false;
    lane.watch({
      // the last checkpoint of the shard, with the error in it, does not arrive
      before: ({ method, url, body }) => {
        if (method !== "PUT" || !url.includes("checkpoint.json") || !body.includes('"ended"')) return undefined;
        if (!body.includes('"errorLines"') || killed) return undefined;
        killed = true;
        process.kill(pid!, "SIGKILL");
        return "drop";
      },
    });
    const { child, code } = await start(again.of, ["export", 0]);
    pid = child.pid;
    await code;
    lane.source.set({ poison: { ids: [], as: 500 } });
    lane.watch({});
    assert(killed);
    for (const [command, index] of steps.slice(1)) assert.equal((await again.of.run(command, index)).code, 0);
    // The page that could not be read comes last.
    const [wanted, found] = [await linesOf(store), await linesOf(again.store)];
    assert.deepEqual([found.doubled, found.manifest.error], [[], wanted.manifest.error]);
    assert.deepEqual([...found.lines].sort(), [...wanted.lines].sort());
    assert.equal((await again.of.run("verify")).code, 0);
  });
});
