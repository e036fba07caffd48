import { gunzipSync } from "node:zlib";
import { contained } from "../../src/sink/contained.ts";
import { random } from "../sources/random.ts";
import { makeSample } from "../sources/server.ts";
import { MemoryBlobs } from "./blobs.ts";
import { MemoryFiles } from "./files.ts";
import { type End, Operator } from "./operator.ts";
import { judge } from "./oracle.ts";
import { clockOf, Timeline } from "./timeline.ts";
import type { World, Write } from "./world.ts";

/** How a world has ended. */
export interface Result {
  end: End["end"] | "unbounded";
  /** only of an export that is complete */
  exact: boolean | undefined;
  /** what is wrong with it; nothing where all is well */
  wrong: string[];
  requests: { source: number; storage: number };
  /** what storage holds, to compare worlds */
  objects: Map<string, Buffer>;
}

/** Runs a world, and judges how it has ended. */
export async function runWorld(world: World, log: (line: string) => void = () => {}): Promise<Result> {
  const timeline = new Timeline(world.begin);
  const storage = world.storage === "azure" ? new MemoryBlobs() : new MemoryFiles();
  const server = serverOf(world, timeline);
  const requests = { source: 0, storage: 0 };
  const operator = new Operator({
    world,
    timeline,
    server,
    open: (send) => contained(storage.open(send), "x"),
    dropBlocks: () => storage instanceof MemoryBlobs && storage.dropBlocks(),
    chance: random(world.seed ^ 0x5eed),
    requests,
    log: (line) => log(`${((timeline.now - world.begin) / 1000).toFixed(2).padStart(9)} s  ${line}`),
  });
  let end: End | undefined;
  let broken: unknown;
  operator.run().then(
    (ended) => (end = ended),
    (error) => (broken = error),
  );
  const isOver = () =>
    broken !== undefined || operator.unbounded !== undefined || (end !== undefined && !operator.isAnyAlive);
  await timeline.run(isOver).catch((error) => (broken ??= error));
  server.store.close();
  const objects = storage.contents();
  const result = { requests, objects, exact: undefined };
  if (operator.unbounded !== undefined) return { ...result, end: "unbounded", wrong: [operator.unbounded] };
  if (broken !== undefined || !end) return { ...result, end: end?.end ?? "failed", wrong: [String(broken)] };
  const wrong = judge({ world, end, source: server.store, objects, uncommitted: storage.uncommitted() });
  return { ...result, end: end.end, exact: end.end === "complete" ? end.report.exact : undefined, wrong };
}

/** Runs a world, and once more without its blows and the faults of storage where these must not change a byte of the
 *  output. */
export async function examineWorld(world: World, log?: (line: string) => void): Promise<Result> {
  const result = await runWorld(world, log);
  if (result.wrong.length > 0 || !result.exact || !isRepeatable(world)) return result;
  const calm = await runWorld({ ...world, blows: [], storageFaults: [] });
  return { ...result, wrong: calm.exact ? differingFiles(result.objects, calm.objects) : [] };
}

/** Whether a world has something that must not show in the output, and nothing else that changes it from run to run. */
function isRepeatable({ blows, storageFaults, writes, faults, behaviour, source }: World): boolean {
  const { unstableOrder, lag, refuseSort, ignore, windowDelay, pageDelay } = behaviour;
  return (
    (blows.flat().length > 0 || storageFaults.length > 0) &&
    writes.every(({ request }) => request === 0) &&
    faults.length === 0 &&
    source.sort !== false &&
    [unstableOrder, lag, refuseSort, ignore, windowDelay, pageDelay].every((one) => one === undefined)
  );
}

/** The content of each file of the output. A shard that was begun again counts on from the files that it had, so files
 *  are named by their place among those of their shard. */
function contentsInOrder(objects: ReadonlyMap<string, Buffer>): Map<string, Buffer> {
  const files = [...objects]
    .flatMap(([path, bytes]) => {
      const [, shard, number, gz] = /^(.*)-(\d+)\.ndjson(\.gz)?$/.exec(path) ?? [];
      return shard === undefined ? [] : [{ shard, number: Number(number), content: gz ? gunzipSync(bytes) : bytes }];
    })
    .sort((a, b) => a.number - b.number);
  const places = [...Map.groupBy(files, ({ shard }) => shard)].flatMap(([shard, its]) =>
    its.map(({ content }, at): [string, Buffer] => [`${shard}, file ${at + 1},`, content]),
  );
  return new Map(places);
}

/** What differs of the files of two runs whose transactionTime is the same. */
function differingFiles(one: ReadonlyMap<string, Buffer>, other: ReadonlyMap<string, Buffer>): string[] {
  const moment = (objects: ReadonlyMap<string, Buffer>) =>
    (JSON.parse(objects.get("manifest.json")!.toString()) as { transactionTime: string }).transactionTime;
  if (moment(one) !== moment(other)) return [];
  const [ours, theirs] = [contentsInOrder(one), contentsInOrder(other)];
  return [...new Set([...ours.keys(), ...theirs.keys()])]
    .filter((path) => {
      const [a, b] = [ours.get(path), theirs.get(path)];
      return !a || !b || !a.equals(b);
    })
    .map((path) => `${path} is another one than without kills`);
}

function serverOf(world: World, timeline: Timeline) {
  const { behaviour, resources, begin, ahead, faults } = world;
  let past: number | undefined;
  const clock = clockOf(timeline);
  const server = makeSample({
    resources,
    behaviour: { ...behaviour, lag: 0 },
    clock,
    now: () => past ?? clock.now() + ahead.source,
  });
  const apply = ({ type, id, text }: Write) => {
    if (text === undefined) server.store.delete(type, id);
    else server.store.put(text);
  };
  for (const write of world.writes.filter(({ request }) => request === 0)) {
    past = begin + ahead.source - write.ago;
    apply(write);
  }
  past = undefined;
  server.behaviour = behaviour;
  server.store.lag = behaviour.lag ?? 0;
  for (const fault of faults) server.faults.add(fault);
  const waiting = world.writes.filter(({ request }) => request > 0).sort((a, b) => a.request - b.request);
  server.hooks.add((_, number) => {
    while (waiting.length > 0 && waiting[0]!.request <= number) apply(waiting.shift()!);
  });
  return server;
}
