/** Runs the tests: `node test/tools/run.ts [--hapi] [FILE|FOLDER ...]`. Without arguments all of tiers T0 to T2; VERBOSE=1 shows their output. */
import { spawn } from "node:child_process";
import { globSync, readFileSync, statSync } from "node:fs";

const args = process.argv.slice(2);
const hapi = args.includes("--hapi");
const named = args.filter((arg) => !arg.startsWith("--"));
const isHapi = (file: string) => file.startsWith("test/hapi/");

const files = (
  named.length
    ? named.flatMap((path) => (statSync(path).isDirectory() ? globSync(`${path.replace(/\/$/, "")}/**/*.test.ts`) : [path]))
    : globSync("test/**/*.test.ts")
)
  .filter((file) => named.length || isHapi(file) === hapi)
  .sort();

// only those that import it use the shared control plane, whose start takes seconds (setup.ts)
const needsPlane = files.some((file) => readFileSync(file, "utf8").includes("/tools/namespace.ts"));

const child = spawn(
  process.execPath,
  [
    "--test",
    "--test-reporter=./test/tools/reporter.ts",
    "--test-global-setup=./test/tools/setup.ts",
    // two cores: more files at once only make time-outs likelier
    `--test-concurrency=${hapi ? 1 : 2}`,
    "--test-timeout=300000",
    ...files,
  ],
  {
    stdio: ["ignore", "inherit", "inherit"],
    env: { ...process.env, ...(hapi ? { FHIR_EXPORT_TEST_TIER: "T0" } : {}), ...(needsPlane ? { FHIR_EXPORT_TEST_PLANE: "1" } : {}) },
  },
);
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => child.kill(signal));
child.on("exit", (code) => process.exit(code ?? 1));
