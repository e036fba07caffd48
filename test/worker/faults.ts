import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { cp, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Command, Task } from "../../src/contracts.ts";
import type { Store } from "../../src/sink/store.ts";
import { gunzipOnce, type Place, paths } from "../sink/stores.ts";
import { generate } from "../sources/generator.ts";
import { type Source, startSource } from "../sources/server.ts";
import type { Azurite } from "../tools/azurite.ts";
import { type FaultProxy, type Hooks, startFaultProxy } from "../tools/fault-proxy.ts";
import { Export } from "./harness.ts";

export const until = "2026-01-01T00:00:00.000Z";
const sample = generate({ scale: 0.1 });
const some = (type: string, count: number) => sample.filter((resource) => resource.type === type).slice(0, count);
/** 60 of 2 kB and 24 of 0.6 kB: three shards in two packages, up to six pages and two files in a shard, two blocks in a
 *  file */
const resources = [...some("DocumentReference", 60), ...some("Patient", 24)];

/** A quiet source and the proxy through which it and the storage are reached. Lanes go side by side without seeing each
 *  other. */
export interface Lane {
  source: Source;
  proxy: FaultProxy;
  watch(hooks: Hooks): void;
  close(): Promise<void>;
}

export async function openLane(azurite: Azurite): Promise<Lane> {
  let calls = 0;
  // the plan waits for the next second of this clock; it must not get a minute off, or the plan warns of that
  const source = await startSource({ resources, now: () => Date.now() + Math.min(calls++, 30) * 1000 });
  const proxy = await startFaultProxy({
    fhir: new URL(source.baseURL).origin,
    devstoreaccount1: new URL(azurite.accountURL).origin,
  });
  return {
    source,
    proxy,
    watch(hooks) {
      calls = 0;
      proxy.watch(hooks);
    },
    close: async () => void (await Promise.all([source.close(), proxy.close()])),
  };
}

/** what an operator runs one after the other */
export type Step = [command: Command, index: number];
export const steps: readonly Step[] = [
  ["plan", 0],
  ["export", 0],
  ["export", 1],
  ["seal", 0],
];

export type Change = Partial<Task["export"]>;

/** An export through the lane's proxy. All have one uid, so that the files of one can be given to another.
 *  @param direct where it goes; for Azurite its requests go through the proxy, too
 *  @returns with its storage, reached beside the proxy */
export async function exportThrough(
  { proxy }: Lane,
  direct: Place,
  azurite: Azurite,
  change: Change = {},
): Promise<{ of: Export; store: Store }> {
  const secrets = join(direct.secrets, "through-proxy");
  await cp(join(direct.secrets, "target"), join(secrets, "target"), { recursive: true });
  const { connectionString, accountURL } = azurite;
  await writeFile(
    join(secrets, "target", "connection-string"),
    connectionString.replace(new URL(accountURL).origin, proxy.origin),
  );
  const { target } = direct;
  const small = "azureBlob" in target ? { ...target, azureBlob: { ...target.azureBlob, blockBytes: 65_536 } } : target;
  const of = new Export({ ...direct, secrets, target: small }, `${proxy.origin}/fhir`, {
    export: { types: ["DocumentReference", "Patient"], until, maxFileBytes: 70_000, ...change },
    source: { count: 10, share: { requests: 2 } },
    plan: { shardResources: 56 },
  });
  of.task.uid = "through-proxy";
  return { of, store: await direct.open() };
}

/** One command as a process of its own.
 *  @param more of its environment
 *  @returns the process, and its exit code, undefined when a signal ended it */
export async function start(
  of: Export,
  [command, index]: Step,
  more: Record<string, string> = {},
): Promise<{ child: ChildProcess; code: Promise<number | undefined> }> {
  const child = spawn(process.execPath, ["bin/fhir-export.mjs", "worker", command], {
    env: { ...process.env, ...(await of.environment(index)), ...more },
    stdio: "ignore",
  });
  const code = once(child, "exit").then(([exit]) => (exit as number | null) ?? undefined);
  return { child, code };
}

/** All objects as they are; those never committed are without content. */
export async function stateOf(store: Store): Promise<Map<string, Buffer | undefined>> {
  const found = new Map<string, Buffer | undefined>();
  for (const path of await paths(store, "", true)) found.set(path, (await store.read(path))?.bytes);
  return found;
}

const digest = (bytes: Buffer) => `${bytes.length} bytes, SHA-256 ${createHash("sha256").update(bytes).digest("hex")}`;

/** What an export's end is compared by: of the manifest all but its time and where the container is, of gzip the
 *  content, of working files their names. */
export function comparable(state: ReadonlyMap<string, Buffer | undefined>): Record<string, string> {
  const gzip = [...state.keys()].some((path) => path.endsWith(".gz"));
  const shown = (path: string, bytes: Buffer | undefined): string => {
    if (!bytes) return "never committed";
    if (path.startsWith("_work/")) return "there";
    if (path.endsWith(".gz")) return digest(gunzipOnce(bytes));
    // members end where a block ended, so the stored bytes of gzip are not promised
    if (path === "SHA256SUMS" && gzip) return "there";
    if (path !== "manifest.json") return digest(bytes);
    return bytes
      .toString()
      .replace(/"transactionTime": "[^"]+"/, "")
      .replaceAll(/"(file|http):[^"]+\/out\//g, '"out/')
      .replaceAll(gzip ? /"(fileSize|sha256)": [^,\n]+/g : /$^/g, "");
  };
  return Object.fromEntries([...state].map(([path, bytes]) => [path, shown(path, bytes)]));
}

/** How an export goes when nothing disturbs it. */
export interface Reference {
  /** what stands in storage before each step */
  states: Map<string, Buffer | undefined>[];
  /** requests of each step to source and storage */
  requests: number[];
  /** those of them that are to storage */
  storage: number[];
  /** numbers of those that change something there */
  writes: ReadonlySet<number>[];
  /** what each request of each step is (kindOfRequest), with its command: a sample of a walk has one of each */
  kinds: string[][];
  end: Record<string, string>;
}

export async function undisturbed(lane: Lane, { of, store }: { of: Export; store: Store }): Promise<Reference> {
  const states: Reference["states"] = [];
  const requests: number[] = [];
  const storage: number[] = [];
  const writes: Reference["writes"] = [];
  const kinds: Reference["kinds"] = [];
  for (const [command, index] of steps) {
    const changing = new Set<number>();
    writes.push(changing);
    const asked: string[] = [];
    kinds.push(asked);
    states.push(await stateOf(store));
    let stored = 0;
    lane.watch({
      before: ({ number, method, url }) => {
        asked.push(`${command}: ${kindOfRequest(method, url)}`);
        if (!url.startsWith("/devstoreaccount1/")) return undefined;
        stored++;
        if (method !== "GET" && method !== "HEAD") changing.add(number);
        return undefined;
      },
    });
    // A process, like those that are disturbed later; what it leaves in the compile cache makes half of their start.
    // Killed ones leave nothing.
    assert.equal(await (await start(of, [command, index])).code, 0);
    requests.push(lane.proxy.count);
    storage.push(stored);
  }
  const end = comparable(await stateOf(store));
  // below _work only the plan is left
  assert.deepEqual(
    Object.keys(end).filter((path) => path.startsWith("_work/")),
    ["_work/plan.json"],
  );
  return { states, requests, storage, writes, kinds, end };
}

/** Requests of one kind differ only in the shard, the file or the window, e.g. `PUT block`, `GET checkpoint.json`,
 *  `GET _cursor`. */
function kindOfRequest(method: string, url: string): string {
  const { pathname, searchParams } = new URL(url, "http://proxy");
  const [, service, ...path] = pathname.split("/");
  const part = searchParams.get("comp") ?? searchParams.get("restype");
  // a shard's files have numbers, its fingerprints the row and the writer
  const object = path
    .at(-1)!
    .replace(/-.*/, "")
    .replace(/.*\.ndjson$/, "file");
  if (service === "devstoreaccount1") return `${method} ${part ?? object}`;
  const asked = ["_cursor", "_summary", "_sort", "_count"].find((name) => searchParams.has(name));
  return `${method} ${["metadata", "_history"].find((name) => name === path.at(-1)) ?? asked ?? "search"}`;
}

/** Makes the storage as it was before a step of the undisturbed run. */
export async function putState(store: Store, state: ReadonlyMap<string, Buffer | undefined>): Promise<void> {
  if (state.size > 0) await store.prepare();
  for (const [path, bytes] of state) await store.create(path, bytes!);
}

/** Does all in the order they stand in, as many at a time as there are lanes. */
export async function inLanes<T>(
  lanes: readonly Lane[],
  items: Iterable<T>,
  work: (lane: Lane, item: T) => Promise<void>,
): Promise<void> {
  const queue = [...items];
  const ends = await Promise.allSettled(
    lanes.map(async (lane) => {
      for (let item = queue.shift(); item !== undefined; item = queue.shift())
        await work(lane, item).catch((error) => {
          queue.length = 0;
          throw error;
        });
    }),
  );
  for (const end of ends) if (end.status === "rejected") throw end.reason;
}
