import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cp, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { gunzipSync } from "node:zlib";
import type { Command } from "../../src/contracts.ts";
import type { Store } from "../../src/sink/store.ts";
import { type Place, paths, readAll, storage } from "../sink/stores.ts";
import { generate } from "../sources/generator.ts";
import { type Source, startSource } from "../sources/server.ts";
import { type FaultProxy, startFaultProxy } from "../tools/fault-proxy.ts";
import { Export } from "./harness.ts";

const { place, azurite } = storage();
const until = "2026-01-01T00:00:00.000Z";
const sample = generate({ scale: 0.1 });
const some = (type: string, count: number) => sample.filter((resource) => resource.type === type).slice(0, count);

/** One of the walks that go side by side, with a source and a proxy of its own, through which both source and storage are reached. */
interface Lane {
  source: Source;
  proxy: FaultProxy;
}
let lanes: Lane[];

async function openLane(): Promise<Lane> {
  let calls = 0;
  const source = await startSource({
    resources: [...some("DocumentReference", 60), ...some("Patient", 24)],
    // the plan waits for the next second of this clock
    now: () => Date.now() + (calls++ % 2) * 1000,
  });
  const proxy = await startFaultProxy({ fhir: new URL(source.baseURL).origin, devstoreaccount1: new URL(azurite().accountURL).origin });
  return { source, proxy };
}

/** a command that was run, e.g. the export of the second package */
type Step = [command: Command, index: number];
const steps: Step[] = [
  ["plan", 0],
  ["export", 0],
  ["export", 1],
  ["seal", 0],
];

/** An export through a lane's proxy, and the way to its storage beside it. */
async function begin({ proxy }: Lane, change: { gzip?: boolean } = {}): Promise<{ of: Export; store: Store; drop: () => Promise<void> }> {
  const direct = await place("azure");
  const secrets = join(direct.secrets, "through-proxy");
  await cp(join(direct.secrets, "target"), join(secrets, "target"), { recursive: true });
  const { connectionString, accountURL } = azurite();
  await writeFile(join(secrets, "target", "connection-string"), connectionString.replace(new URL(accountURL).origin, proxy.origin));
  const { target } = direct;
  assert("azureBlob" in target);
  const through: Place = { ...direct, secrets, target: { ...target, azureBlob: { ...target.azureBlob, blockBytes: 65_536 } } };
  const of = new Export(through, `${proxy.origin}/fhir`, {
    export: { types: ["DocumentReference", "Patient"], until, maxFileBytes: 70_000, gzip: change.gzip ?? false },
    source: { count: 10, share: { requests: 2 } },
    plan: { shardResources: 56 },
  });
  // the same files for all
  of.task.uid = "walked";
  const store = await direct.open();
  return { of, store, drop: () => drop(store) };
}

async function drop(store: Store): Promise<void> {
  for (const path of await paths(store, "", true)) await store.remove(path);
}

/** All objects as they are, the ones never committed included. */
async function stateOf(store: Store): Promise<Map<string, Buffer>> {
  const found = new Map<string, Buffer>();
  for (const path of await paths(store, "", true)) found.set(path, (await readAll(store, path)) ?? Buffer.from("never committed"));
  return found;
}

/** What an export's end is compared by: of the manifest all but its time and where the container is, of gzip the content. */
function comparable(state: ReadonlyMap<string, Buffer>): Record<string, string> {
  const normalised = ([path, bytes]: [string, Buffer]): [string, string] => {
    if (path.startsWith("_work/")) return [path, "there"];
    if (path === "manifest.json")
      return [
        path,
        bytes
          .toString()
          .replace(/"transactionTime": "[^"]+"/, "")
          .replaceAll(/"http:[^"]+\/out\//g, '"out/'),
      ];
    return [path, (path.endsWith(".gz") ? gunzipSync(bytes) : bytes).toString("latin1")];
  };
  return Object.fromEntries([...state].map(normalised));
}

/** One command as a process of its own. @returns its exit code, undefined when a signal ended it */
async function run(of: Export, [command, index]: Step, onStart: (pid: number) => void): Promise<number | undefined> {
  const child = spawn(process.execPath, ["bin/fhir-export.mjs", "worker", command], {
    env: { ...process.env, ...(await of.environment(index)) },
    stdio: "ignore",
  });
  onStart(child.pid!);
  const [code] = (await once(child, "exit")) as [number | null];
  return code ?? undefined;
}

interface Reference {
  /** what stands in storage before each step */
  states: Map<string, Buffer>[];
  /** requests of each step */
  requests: number[];
  wanted: Record<string, string>;
}

async function undisturbed(lane: Lane, change: { gzip?: boolean } = {}): Promise<Reference> {
  const { of, store } = await begin(lane, change);
  const states: Reference["states"] = [];
  const requests: number[] = [];
  for (const [command, index] of steps) {
    states.push(await stateOf(store));
    lane.proxy.watch({});
    const { code } = await of.run(command, index);
    assert.equal(code, 0);
    requests.push(lane.proxy.count);
  }
  const wanted = comparable(await stateOf(store));
  assert.deepEqual(
    Object.keys(wanted).filter((path) => path.startsWith("_work/")),
    ["_work/plan.json"],
  );
  await drop(store);
  return { states, requests, wanted };
}

interface Point {
  step: number;
  request: number;
  when: "before" | "after";
}

/** Kills the step's process at the point, and lets the step and those behind it run in this one. @returns whether it came to the point */
async function killedAt(lane: Lane, { states, wanted }: Reference, { step, request, when }: Point, change: { gzip?: boolean } = {}) {
  const { of, store, drop } = await begin(lane, change);
  if (step > 0) await store.prepare();
  for (const [path, bytes] of states[step]!) await store.create(path, bytes);
  let manifests = 0;
  const count = {
    after: (asked: { method: string; url: string }, { status }: { status: number }) => {
      if (asked.method === "PUT" && asked.url.includes("/manifest.json") && status === 201) manifests++;
      return undefined;
    },
  };
  let pid = 0;
  let killed = false;
  const kill = (number: number) => {
    if (number !== request || killed) return undefined;
    killed = true;
    process.kill(pid, "SIGKILL");
    return "drop" as const;
  };
  lane.proxy.watch({
    before: ({ number }) => (when === "before" ? kill(number) : undefined),
    after: (asked, answer) => count.after(asked, answer) ?? (when === "after" ? kill(asked.number) : undefined),
  });
  const code = await run(of, steps[step]!, (started) => (pid = started));
  if (!killed) assert.equal(code, 0);
  lane.proxy.watch(count);
  for (const [command, index] of steps.slice(killed ? step : step + 1)) {
    const ended = await of.run(command, index);
    assert.equal(
      ended.code,
      0,
      `${command} ${index} after it was killed ${when} request ${request} of ${steps[step]!.join(" ")}: ${JSON.stringify(ended.report)}`,
    );
  }
  assert.deepEqual(comparable(await stateOf(store)), wanted, `killed ${when} request ${request} of ${steps[step]!.join(" ")}`);
  assert.equal(manifests, 1);
  await drop();
  return killed;
}

/** Does all in the order they stand in, as many at a time as there are lanes. */
async function inLanes<T>(items: readonly T[], work: (lane: Lane, item: T) => Promise<void>): Promise<void> {
  const queue = items.values();
  await Promise.all(
    lanes.map(async (lane) => {
      for (const item of queue) await work(lane, item);
    }),
  );
}

describe("kill -9 of the worker at every request", () => {
  before(async () => {
    lanes = [await openLane(), await openLane()];
  });
  after(async () => {
    for (const { source, proxy } of lanes) await Promise.all([source.close(), proxy.close()]);
  });

  test("the files are byte-identical to the undisturbed run's, and the manifest is written once", async () => {
    const reference = await undisturbed(lanes[0]!);
    const points = reference.requests.flatMap((requests, step) =>
      Array.from({ length: requests }, (_, at) => at + 1).flatMap((request): Point[] => [
        { step, request, when: "before" },
        { step, request, when: "after" },
      ]),
    );
    if (process.env.LOOK) return void console.log("!!", reference.requests, Object.keys(reference.wanted));
    let kills = 0;
    await inLanes(points, async (lane, point) => {
      if (await killedAt(lane, reference, point)) kills++;
    });
    console.log(`!! fault walk: ${points.length / 2} requests, ${kills} kills, all byte-identical`);
  });
});
