/** `npm run bench:hapi [-- --json] [--rounds N] [--only NAME,NAME] [--memory]`: our system export of a HAPI FHIR server
 *  on PostgreSQL with 65,000 resources of 1.5 kB, against chains that follow next links, and against the server's own
 *  `$export`. Measures wall time and the server's CPU time (with its database), and tells where the time goes. All read
 *  the same data; the resources they give are counted. `--memory`: the server has its database in memory (H2). */
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { openStore } from "../src/sink/open.ts";
import { startHapi } from "../test/hapi/hapi.ts";
import { load } from "../test/hapi/load.ts";
import { postgresMissing } from "../test/hapi/postgres.ts";
import { Export } from "../test/worker/harness.ts";
import { followPages, itsOwnExport } from "./hapi-peers.ts";
import { type Hospital, openHospital, transaction } from "./hapi-records.ts";
import { records } from "./records.ts";
import { RequestLog, type RequestSummary, summarize } from "./request-log.ts";

const { values } = parseArgs({
  options: {
    json: { type: "boolean" },
    rounds: { type: "string" },
    only: { type: "string" },
    memory: { type: "boolean" },
  },
});
const say = (line: string) => (values.json ? console.error(line) : console.log(line));
const folder = mkdtempSync(join(tmpdir(), "fhir-export-bench-"));
const requestLog = join(folder, "requests.log");
const pageSize = 1000;

const sizes = new Map<string, number>();
for (const { type } of records()) sizes.set(type, (sizes.get(type) ?? 0) + 1);
const types = [...sizes.keys()].sort((a, b) => sizes.get(b)! - sizes.get(a)!);
const total = [...sizes.values()].reduce((sum, size) => sum + size, 0);

interface Run {
  seconds: number;
  /** CPU time of the server and its database */
  cpuSeconds: number;
  requests: RequestSummary;
}

/** User and system time so far of some processes and their children, in seconds. */
function cpuOf(pids: readonly number[]): number {
  let ticks = 0;
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const fields = readFileSync(`/proc/${entry}/stat`, "utf8").split(") ")[1]!.split(" ");
      const isParent = pids.includes(Number(entry));
      if (!isParent && !pids.includes(Number(fields[1]))) continue;
      // children that have ended count for their parent
      for (const at of isParent ? [11, 12, 13, 14] : [11, 12]) ticks += Number(fields[at]);
    } catch {
      // It has ended meanwhile.
    }
  }
  return ticks / 100;
}

let files = 0;
/** 16 requests at a time are what a FhirSource's default limits give an export with one pod.
 *  @param inline whether the pod of the plan does all; otherwise each step is a command of its own */
async function ours(baseURL: string, inline: boolean): Promise<number> {
  const place = join(folder, `ours-${++files}`);
  const target = { folder: "out", volume: { path: place } };
  const exported = new Export({ target, secrets: place, open: () => openStore(target, place) }, baseURL, {
    export: { types },
    source: { count: pageSize, share: { requests: 16 }, retrySeconds: 60 },
    plan: { shardResources: 100_000, inlineResources: inline ? 200_000 : 0, parallelism: 1 },
  });
  process.env.FHIR_EXPORT_LOG_LEVEL = "silent";
  const done = inline ? await exported.run("plan") : await exported.all();
  assert.deepEqual([done.code, done.report.error, done.report.exact], [0, undefined, true]);
  rmSync(place, { recursive: true });
  return done.report.totals!.resources;
}

async function plain(baseURL: string, chains: number): Promise<number> {
  const file = join(folder, `chains-${++files}.ndjson`);
  const resources = await followPages(baseURL, types, { count: pageSize, chains, file });
  rmSync(file);
  return resources;
}

const ways = {
  "our export": (url: string) => ours(url, true),
  "our export, by Jobs": (url: string) => ours(url, false),
  "one chain": (url: string) => plain(url, 1),
  "four chains": (url: string) => plain(url, 4),
  "its own $export": (url: string) => itsOwnExport(url, types),
};
type Way = keyof typeof ways;
/** It takes minutes, most of which it waits for its own timer. */
const onceOnly: Way = "its own $export";
const wanted = (Object.keys(ways) as Way[]).filter((way) => !values.only || values.only.split(",").includes(way));

const median = (list: number[]) => list.toSorted((a, b) => a - b)[list.length >> 1]!;
const runs = new Map<Way, Run[]>();

async function measure({ hapi, postgres }: Hospital, log: RequestLog, way: Way): Promise<Run> {
  const pids = [hapi.pid, ...(postgres ? [postgres.pid] : [])];
  log.take();
  const [began, cpu] = [Date.now(), cpuOf(pids)];
  assert.equal(await ways[way](hapi.baseURL), total, way);
  const ended = Date.now();
  const requests = summarize(log.take(), began, ended);
  return { seconds: (ended - began) / 1000, cpuSeconds: cpuOf(pids) - cpu, requests };
}

async function openServer(): Promise<Hospital> {
  const missing = postgresMissing();
  if (missing && !values.memory) throw new Error(`${missing}; or use --memory`);
  if (!values.memory) return openHospital(requestLog, say);
  const hapi = await startHapi({ heap: "2g", requestLog });
  await load(hapi.baseURL, records(), transaction);
  return { hapi, [Symbol.asyncDispose]: () => hapi.close() };
}

function printRuns(way: Way, list: Run[]): void {
  const of = (figure: (run: Run) => number) => median(list.map(figure));
  const seconds = of((run) => run.seconds);
  const figures = [seconds.toFixed(1), (total / seconds).toFixed(0), of((run) => run.cpuSeconds).toFixed(1)];
  say(`${way.padEnd(22)}${figures.map((figure) => figure.padStart(18)).join("")}`);
  const { kinds, phases, waits } = list.at(-1)!.requests;
  say(
    `  ${Object.entries(phases)
      .map(([name, time]) => `${name} ${time.toFixed(1)} s`)
      .join(", ")}; of it the server waits ${waits.toFixed(1)} s`,
  );
  say(
    `  ${Object.entries(kinds)
      .map(([kind, sum]) => `${kind} ${sum.requests} (${sum.seconds.toFixed(1)} s)`)
      .join(", ")}`,
  );
}

/** Of each round, because what slows one round slows all of its runs. */
function ratio(ofWay: Way, toWay: Way): number | undefined {
  const [ours, theirs] = [runs.get(ofWay), runs.get(toWay)];
  if (!ours || !theirs) return undefined;
  const each = theirs.map((run, round) => run.seconds / ours[Math.min(round, ours.length - 1)]!.seconds);
  return Number(median(each).toFixed(2));
}

try {
  await using server = await openServer();
  const log = new RequestLog(requestLog, pageSize);
  const often = wanted.filter((way) => way !== onceOnly);
  // The server's code is compiled as it is used.
  for (const way of often) await measure(server, log, way);
  for (let round = 0; round < Number(values.rounds ?? 3); round++)
    for (const way of often) runs.set(way, [...(runs.get(way) ?? []), await measure(server, log, way)]);
  if (wanted.includes(onceOnly)) runs.set(onceOnly, [await measure(server, log, onceOnly)]);
  say(`${"".padEnd(22)}${["seconds", "resources/s", "server CPU s"].map((head) => head.padStart(18)).join("")}`);
  for (const [way, list] of runs) printRuns(way, list);
  const results = {
    resources: total,
    hapiVsOneChain: ratio("our export", "one chain"),
    hapiVsFourChains: ratio("our export", "four chains"),
    hapiVsItsOwnExport: ratio("our export", "its own $export"),
    hapiByJobsVsOneChain: ratio("our export, by Jobs", "one chain"),
  };
  say(
    `  our export is ${results.hapiVsOneChain} times as fast as one chain (bar 1.5), ${results.hapiVsFourChains} times as fast as four (bar 0.9), ${results.hapiVsItsOwnExport} times as fast as its own $export (bar 8)`,
  );
  if (values.json) console.log(JSON.stringify(results));
} finally {
  rmSync(folder, { recursive: true, force: true });
}
