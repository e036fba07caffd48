/** Runs the tests: `node test/tools/run.ts [--hapi|--image|--e2e] [FILE|FOLDER ...]`. Without arguments all of tiers T0 to T2; VERBOSE=1 shows their output. */
import { spawn } from "node:child_process";
import { globSync, readFileSync, statSync } from "node:fs";

const args = process.argv.slice(2);
/** those that need more than npm and Go give, or long */
const apart = ["hapi", "image", "e2e"];
const tier = apart.find((name) => args.includes(`--${name}`));
const named = args.filter((arg) => !arg.startsWith("--"));
const tierOf = (file: string) => apart.find((name) => file.startsWith(`test/${name}/`));

const files = (
  named.length
    ? named.flatMap((path) =>
        statSync(path).isDirectory() ? globSync(`${path.replace(/\/$/, "")}/**/*.test.ts`) : [path],
      )
    : globSync("test/**/*.test.ts")
)
  .filter((file) => named.length || tierOf(file) === tier)
  .sort();

// only those that import it use the shared control plane, or node, whose start takes seconds (setup.ts)
const imported = (name: string) => files.some((file) => readFileSync(file, "utf8").includes(`/tools/${name}`));
const shared = {
  ...(imported("namespace.ts") ? { FHIR_EXPORT_TEST_PLANE: "1" } : {}),
  ...(imported("node/shared.ts") ? { FHIR_EXPORT_TEST_NODE: "1" } : {}),
};

const child = spawn(
  process.execPath,
  [
    "--test",
    "--test-reporter=./test/tools/reporter.ts",
    "--test-global-setup=./test/tools/setup.ts",
    // two cores: more files at once only make time-outs likelier
    `--test-concurrency=${tier ? 1 : 2}`,
    "--test-timeout=300000",
    "--import=./test/tools/watchdog.ts",
    ...files,
  ],
  {
    stdio: ["ignore", "inherit", "inherit"],
    env: { ...process.env, ...(tier ? { FHIR_EXPORT_TEST_TIER: "T0" } : {}), ...shared },
  },
);
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => child.kill(signal));
child.on("exit", (code) => process.exit(code ?? 1));
