import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { isAlive } from "./alive.ts";
import { until } from "./until.ts";

// a runner inside of a test reports to that test, unless it does not know of it
const { NODE_TEST_CONTEXT: _, ...env } = process.env;
const folder = mkdtempSync(join(tmpdir(), "fhir-export-test-"));
after(() => rmSync(folder, { recursive: true }));

describe("a run that would test something else than was meant is refused", () => {
  const refusals: [args: string[], said: RegExp][] = [
    [["--walk", "test/api/names.test.ts"], /--walk is no flag; use --quick, --walks,/],
    [["-q", "test/api/names.test.ts"], /-q is no flag/],
    [["--walks", "test/api/names.test.ts"], /no test file is left of --walks test\/api\/names\.test\.ts/],
    [["test/api/nams.test.ts"], /there is no file or folder test\/api\/nams\.test\.ts/],
  ];
  for (const [args, said] of refusals)
    test(`run.ts ${args.join(" ")} says ${said.source}`, () => {
      const { status, stderr, stdout } = spawnSync(process.execPath, ["test/tools/run.ts", ...args], {
        env,
        encoding: "utf8",
        timeout: 60_000,
      });
      assert.equal(status, 1, stdout);
      assert.match(stderr, said);
    });
});

/** How a test file starts a program that never ends, as operators and servers do. */
const forever = JSON.stringify("setInterval(() => {}, 1000)");
const starts = {
  "that waits for programs, one in a group of its own which has started another": `
    const own = spawn(process.execPath, ["-e", ${forever}], { stdio: "ignore" });
    const apart = spawn(process.execPath, ["-e", \`
      const { spawn } = require("node:child_process");
      process.on("SIGTERM", () => {});
      console.log(spawn(process.execPath, ["-e", ${forever}], { detached: true, stdio: "ignore" }).pid);
      setInterval(() => {}, 1000);\`], { detached: true, stdio: ["ignore", "pipe", "ignore"] });
    const [line] = await once(apart.stdout, "data");
    tell([process.pid, own.pid, apart.pid, Number(line)]);
    await new Promise(() => {});`,
  "that does nothing until a program ends, which has a group of its own": `
    spawnSync("setsid", ["/bin/sh", "-c", "echo [$PPID, $$] > $0.new && mv $0.new $0 && sleep 1000 && true", pids]);`,
};

describe("a run that is ended by a signal leaves no process behind", () => {
  const ways = [
    { signal: "SIGTERM", to: "the runner", group: false },
    { signal: "SIGINT", to: "the group, as by Ctrl-C", group: true },
  ] as const;
  for (const [what, body] of Object.entries(starts))
    for (const [at, { signal, to, group }] of ways.entries())
      test(`${signal} to ${to}, during a file ${what}`, async () => {
        const name = join(folder, `${Object.keys(starts).indexOf(what)}-${at}`);
        const file = `${name}.test.ts`;
        writeFileSync(
          file,
          `import { spawn, spawnSync } from "node:child_process";
          import { once } from "node:events";
          import { renameSync, writeFileSync } from "node:fs";
          import { test } from "node:test";
          const pids = ${JSON.stringify(`${name}.json`)};
          const tell = (all) => { writeFileSync(pids + ".new", JSON.stringify(all)); renameSync(pids + ".new", pids); };
          test("never ends", async () => {${body}});`,
        );
        const runner = spawn(process.execPath, ["test/tools/run.ts", file], { env, stdio: "ignore", detached: true });
        const exited = once(runner, "exit");
        await until("the processes", async () => existsSync(`${name}.json`));
        const all: number[] = JSON.parse(readFileSync(`${name}.json`, "utf8"));
        try {
          assert.deepEqual(
            all.map(isAlive),
            all.map(() => true),
          );
          process.kill(group ? -runner.pid! : runner.pid!, signal);
          assert.deepEqual(await exited, [1, null]);
          await until("their end", async () => !all.some(isAlive));
        } finally {
          for (const pid of [runner.pid!, ...all].filter(isAlive)) process.kill(pid, "SIGKILL");
        }
      });
});

test("a signal to npm reaches what its scripts start: npm passes it to the shell, which the program has replaced", () => {
  const { scripts } = JSON.parse(readFileSync("package.json", "utf8")) as { scripts: Record<string, string> };
  const starting = Object.entries(scripts).filter(([, script]) => /\/(run|demo|dev|dev-cluster)\.ts/.test(script));
  assert.equal(starting.length, 9);
  for (const [name, script] of starting) assert.match(script, /(^|&& )exec node \S+( --\w+)?$/, name);
});
