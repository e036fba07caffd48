/** `npm run bench:shim [-- --json]`: polls and kick-offs of the HTTP service over a real API server. Polls are compared
 *  with a constant answer of the same fastify instance, kick-offs with making the same objects at the API server
 *  itself, with the same number of callers at once. Rounds are interleaved, and medians count. */
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Pool } from "undici";
import { KubeClient, pathOf, resources } from "../src/kube/client.ts";
import { freePort } from "../test/tools/azurite.ts";
import { buildControlPlane } from "../test/tools/build.ts";
import { startControlPlane } from "../test/tools/control-plane.ts";
import { applyCRDs } from "../test/tools/setup.ts";

const { values } = parseArgs({
  options: { json: { type: "boolean" }, seconds: { type: "string" }, rounds: { type: "string" } },
});
const say = (line: string) => (values.json ? console.error(line) : console.log(line));
const seconds = Number(values.seconds ?? 3);
const rounds = Number(values.rounds ?? 5);
const callers = 32;
const median = (list: number[]) => list.toSorted((a, b) => a - b)[list.length >> 1]!;

interface Load {
  perSecond: number;
  /** milliseconds */
  p50: number;
  p99: number;
}

/** `callers` that each call again as soon as they are answered, for `seconds`. */
async function load(call: () => Promise<unknown>): Promise<Load> {
  const times: number[] = [];
  const start = performance.now();
  const end = start + seconds * 1000;
  await Promise.all(
    Array.from({ length: callers }, async () => {
      for (let now = performance.now(); now < end; ) {
        await call();
        const next = performance.now();
        times.push(next - now);
        now = next;
      }
    }),
  );
  times.sort((a, b) => a - b);
  const at = (part: number) => times[Math.min(times.length - 1, Math.floor(times.length * part))]!;
  return { perSecond: times.length / ((performance.now() - start) / 1000), p50: at(0.5), p99: at(0.99) };
}

const folder = await mkdtemp(join(tmpdir(), "fhir-export-bench-shim-"));
const plane = await startControlPlane(await buildControlPlane(say), { controllers: false });
let server: ChildProcess | undefined;
try {
  await applyCRDs(plane.kubeconfig);
  const client = KubeClient.load(plane.kubeconfig);
  const namespace = "default";
  const config = join(folder, "config.yaml");
  await writeFile(config, "limits: { exportsPerClient: 0, pollsPerMinute: 0 }\n");
  const port = await freePort();
  const args = ["bench/shim-server.ts", plane.kubeconfig, namespace, String(port), config];
  // It has a core of its own where there are two; its callers and the API server share the other one.
  const pinned = availableParallelism() > 1 && existsSync("/usr/bin/taskset");
  server = pinned
    ? spawn("/usr/bin/taskset", ["-c", "1", process.execPath, ...args], { stdio: ["ignore", "pipe", "inherit"] })
    : spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  // its log comes by stdout, too
  for await (const chunk of server.stdout!) if (String(chunk).includes("ready")) break;

  const pool = new Pool(`http://127.0.0.1:${port}`, { connections: callers });
  const get = async (path: string, status: number): Promise<string | undefined> => {
    const { statusCode, headers, body } = await pool.request({
      method: "GET",
      path,
      headers: { accept: "application/fhir+json", prefer: "respond-async" },
    });
    await body.dump();
    if (statusCode !== status) throw new Error(`${path}: ${statusCode}`);
    return headers["content-location"] as string | undefined;
  };
  const kickOff = () => get("/$export?_type=Patient,Observation&_since=2026-01-01T00:00:00Z", 202);
  const statuses: string[] = [];
  for (let n = 0; n < 200; n++) statuses.push(new URL((await kickOff())!).pathname);
  const poll = () => get(statuses[Math.floor(Math.random() * statuses.length)]!, 202);
  const path = pathOf(resources.fhirExports, { namespace });
  const create = () =>
    client.create(path, {
      apiVersion: "fhirexport.dev/v1alpha1",
      kind: "FhirExport",
      metadata: { name: `export-${randomBytes(13).toString("hex")}`, namespace },
      spec: {
        sourceRef: { name: "hospital" },
        targetRef: { name: "research" },
        level: "System",
        types: ["Patient", "Observation"],
        since: "2026-01-01T00:00:00.000Z",
        origin: {
          client: "anonymous",
          request: `http://127.0.0.1:${port}/$export?_type=Patient,Observation&_since=2026-01-01T00:00:00Z`,
        },
      },
    } as never);
  const methods = { constant: () => get("/constant", 202), poll, create, kickOff };
  for (const call of Object.values(methods)) await load(call);
  const runs: Record<keyof typeof methods, Load[]> = { constant: [], poll: [], create: [], kickOff: [] };
  for (let round = 0; round < rounds; round++)
    for (const [name, call] of Object.entries(methods) as [keyof typeof methods, () => Promise<unknown>][])
      runs[name].push(await load(call));
  await pool.close();
  await client.close();

  say(
    `\n${callers} callers at once, ${rounds} rounds of ${seconds} s${"".padEnd(8)}per second      p50 ms      p99 ms`,
  );
  for (const [name, all] of Object.entries(runs)) {
    const of = (figure: (run: Load) => number) => median(all.map(figure));
    say(
      `${name.padEnd(46)}${of(({ perSecond }) => perSecond)
        .toFixed(0)
        .padStart(10)}${of(({ p50 }) => p50)
        .toFixed(2)
        .padStart(12)}${of(({ p99 }) => p99)
        .toFixed(2)
        .padStart(12)}`,
    );
  }
  const ratio = (ours: Load[], theirs: Load[]) =>
    Number(median(ours.map((run, i) => run.perSecond / theirs[i]!.perSecond)).toFixed(2));
  const p99 = (name: keyof typeof runs) => Number(median(runs[name].map((run) => run.p99)).toFixed(2));
  const results = {
    pollVsConstant: ratio(runs.poll, runs.constant),
    kickoffVsApiCreate: ratio(runs.kickOff, runs.create),
    pollsPerSecond: Math.round(median(runs.poll.map((run) => run.perSecond))),
    kickOffsPerSecond: Math.round(median(runs.kickOff.map((run) => run.perSecond))),
    pollP99Ms: p99("poll"),
    kickOffP99Ms: p99("kickOff"),
  };
  say(
    `  pollVsConstant: ${results.pollVsConstant} (bar 0.5)\n  kickoffVsApiCreate: ${results.kickoffVsApiCreate} (bar 0.8)`,
  );
  if (values.json) console.log(JSON.stringify(results));
} finally {
  server?.kill();
  await plane.stop();
  await rm(folder, { recursive: true, force: true });
}
