/** Runs the tests: `node test/tools/run.ts [--quick|--walks|--hapi|--image|--e2e] [FILE|FOLDER ...]`. Without arguments
 *  all of tiers T0 to T2. VERBOSE=1 shows their output, WALK_SEED=N draws the samples of another run again. */
import { existsSync, globSync, mkdirSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { run } from "node:test";
import { sharedVariable } from "./azurite.ts";
import { isQuick, needsOf, weightOf } from "./needs.ts";
import reporter from "./reporter.ts";
import { globalSetup, globalTeardown } from "./setup.ts";
import { endTestProcesses } from "./watchdog.ts";

const args = process.argv.slice(2);
const has = (flag: string) => args.includes(`--${flag}`);
/** These need more than npm and Go provide, or take long. */
const apart = ["hapi", "image", "e2e"];
const flags = ["quick", "walks", ...apart].map((flag) => `--${flag}`);
const unknown = args.find((arg) => arg.startsWith("-") && !flags.includes(arg));
if (unknown !== undefined) refuse(`${unknown} is no flag; use ${flags.join(", ")}, or name files and folders`);
const tier = apart.find(has);
const named = args.filter((arg) => !arg.startsWith("-"));
const absent = named.find((path) => !existsSync(path));
if (absent !== undefined) refuse(`there is no file or folder ${absent}`);
const tierOf = (file: string) => apart.find((name) => file.startsWith(`test/${name}/`));

const files = (
  named.length
    ? named.flatMap((path) =>
        statSync(path).isDirectory() ? globSync(`${path.replace(/\/$/, "")}/**/*.test.ts`) : [path],
      )
    : globSync("test/**/*.test.ts")
)
  .filter((file) => named.length || tierOf(file) === tier)
  .filter((file) => !has("quick") || isQuick(file))
  .filter((file) => !has("walks") || needsOf(file).has("walk"))
  // The longest begin first, so that no core is idle at the end. The tiers apart depend on the order of their names.
  .sort((a, b) => (tier ? 0 : weightOf(b) - weightOf(a)) || (a < b ? -1 : 1));
if (files.length === 0) refuse(`no test file is left of ${args.join(" ")}; name others, or leave a flag out`);

function refuse(why: string): never {
  console.error(`!! ${why}`);
  process.exit(1);
}

const { env } = process;
const minutes = (count: number) => count * 60_000;
env.WALK_SEED ??= String(Math.floor(Math.random() * 1_000_000));
if (has("quick")) env.FHIR_EXPORT_WALKS = "few";
if (has("walks")) {
  env.FHIR_EXPORT_WALKS = "whole";
  env.FHIR_EXPORT_TEST_LIMIT_MS ??= String(minutes(120));
}
if (tier) env.FHIR_EXPORT_TEST_TIER = "T0";
// Only those that import it use the shared control plane, or node, whose start takes seconds (setup.ts).
const needs = new Set(files.flatMap((file) => [...needsOf(file)]));
if (needs.has("plane")) env.FHIR_EXPORT_TEST_PLANE = "1";
if (needs.has("azurite")) env[sharedVariable] = "1";
if (needs.has("node")) env.FHIR_EXPORT_TEST_NODE = "1";
// Types are stripped and code is compiled once, not by each of hundreds of processes: that is three quarters of the
// time a worker takes to start.
env.NODE_COMPILE_CACHE ??= join(process.cwd(), ".cache", "compile");
mkdirSync(env.NODE_COMPILE_CACHE, { recursive: true });

const stop = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const)
  process.on(signal, () => {
    // node ends the test files themselves only
    endTestProcesses();
    stop.abort();
  });

let failed = false;
try {
  await globalSetup();
  const events = run({
    files: files.map((file) => resolve(file)),
    // Most files wait for a part of their time, so two cores have room for three of them.
    concurrency: tier ? 1 : 3,
    timeout: minutes(has("walks") ? 60 : 5),
    execArgv: [
      "--import=./test/tools/watchdog.ts",
      ...(has("quick") ? ["--import=./test/tools/quick.ts"] : []),
      // Each worker in a test process has memory outside of V8's heap, for which V8 collects all of a small heap again
      // and again: a fifth of the time.
      "--initial-heap-size=256",
    ],
    signal: stop.signal,
  });
  events.on("test:fail", () => (failed = true));
  for await (const text of reporter(events)) {
    // all files under way and to come count as failed then
    if (stop.signal.aborted) break;
    process.stdout.write(text);
  }
  if (stop.signal.aborted) console.error("!! stopped by a signal");
} catch (error) {
  console.error("!!", error);
  failed = true;
} finally {
  await globalTeardown().catch(() => (failed = true));
}
process.exit(failed || stop.signal.aborted ? 1 : 0);
