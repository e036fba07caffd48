import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { runProcess } from "../../src/standalone/process.ts";
import { isAlive } from "./alive.ts";
import { controlPlane } from "./build.ts";
import { until } from "./until.ts";

const forever = "setInterval(() => {}, 1000)";
const env = { PATH: process.env.PATH ?? "" };
const start = (script: string, more: object = {}) =>
  runProcess({ command: process.execPath, args: ["-e", script], env, ...more });

test("after a kill the guarded processes, even those that ignore SIGTERM, and folders are gone; what was taken back stays", async () => {
  const folder = mkdtempSync(join(tmpdir(), "fhir-export-test-"));
  const file = (name: string) => JSON.stringify(new URL(name, import.meta.url).href);
  const script = `
    import { spawn } from "node:child_process";
    import { startGuard } from ${file("./guard.ts")};
    const guard = startGuard([${JSON.stringify(folder)}]);
    const run = () => spawn(process.execPath, ["-e", "process.on('SIGTERM', () => {});" + ${JSON.stringify(forever)}], { detached: true, stdio: "ignore" });
    const pids = [run(), run(), run()].map(({ pid }) => pid);
    for (const pid of pids) guard.add(pid);
    guard.remove(pids[1]);
    console.log(JSON.stringify(pids));
    ${forever};`;
  const parent = spawn(process.execPath, ["--input-type=module", "-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [line] = await once(parent.stdout, "data");
  const pids: number[] = JSON.parse(String(line));
  try {
    assert.deepEqual(pids.map(isAlive), [true, true, true]);
    parent.kill("SIGKILL");
    await until("the guarded ones gone", async () => !isAlive(pids[0]!) && !isAlive(pids[2]!));
    await until("the folder gone", async () => !existsSync(folder));
    assert.equal(isAlive(pids[1]!), true);
  } finally {
    process.kill(pids[1]!, "SIGKILL");
  }
});

test("a process reports its code, its signal, or that it could not be started", async () => {
  assert.deepEqual(await start("process.exit(7)").exited, { code: 7, signal: null });
  const killed = start(forever);
  assert.equal(killed.kill("SIGKILL"), true);
  assert.deepEqual(await killed.exited, { code: null, signal: "SIGKILL" });
  assert.equal(killed.kill("SIGKILL"), false);
  const none = runProcess({ command: "/no/such/program", args: [], env: {} });
  assert.equal(((await none.exited).error as NodeJS.ErrnoException).code, "ENOENT");
  assert.deepEqual([none.pid, none.kill("SIGTERM")], [undefined, false]);
});

test("stop sends SIGTERM, and SIGKILL only after the grace time", async () => {
  const started = async (script: string) => {
    let said: (() => void) | undefined;
    const ready = new Promise<void>((resolve) => (said = resolve));
    const made = start(`${script} process.send("up"); ${forever}`, { ipc: true, onMessage: () => said?.() });
    await ready;
    return made;
  };
  const polite = await started(`process.on("SIGTERM", () => process.exit(143));`);
  assert.deepEqual(await polite.stop(60_000), { code: 143, signal: null });
  const stubborn = await started(`process.on("SIGTERM", () => {});`);
  const begin = performance.now();
  assert.deepEqual(await stubborn.stop(200), { code: null, signal: "SIGKILL" });
  assert.ok(performance.now() - begin >= 190);
});

test("a process gets the environment that it was given, and nothing else", async () => {
  const said: unknown[] = [];
  const child = start("process.send(Object.keys(process.env).sort(), () => process.disconnect())", {
    ipc: true,
    env: { A: "1" },
    onMessage: (message: unknown) => said.push(message),
  });
  await child.exited;
  assert.deepEqual(said, [["A"]]);
});

test("a group ends with its process", async () => {
  let grandchild: number | undefined;
  const script = `process.send(require("node:child_process").spawn(process.execPath, ["-e", "${forever}"], { stdio: "ignore" }).pid); ${forever}`;
  const child = start(script, { ipc: true, group: true, onMessage: (pid: unknown) => (grandchild = pid as number) });
  await until("the grandchild", async () => grandchild !== undefined && isAlive(grandchild));
  process.kill(child.pid!, "SIGKILL");
  await child.exited;
  await until("its end", async () => !isAlive(grandchild!));
});

test("KUBEBUILDER_ASSETS is used when it has the programs, and named in the error when it has not", () => {
  const folder = mkdtempSync(join(tmpdir(), "fhir-export-test-"));
  const before = process.env.KUBEBUILDER_ASSETS;
  try {
    process.env.KUBEBUILDER_ASSETS = folder;
    assert.deepEqual(controlPlane(), {
      missing: `KUBEBUILDER_ASSETS is ${folder}, which lacks etcd, kube-apiserver or kubectl`,
    });
    mkdirSync(folder, { recursive: true });
    for (const name of ["etcd", "kube-apiserver", "kubectl"]) {
      writeFileSync(join(folder, name), "");
      chmodSync(join(folder, name), 0o755);
    }
    assert.deepEqual(controlPlane(), {
      etcd: join(folder, "etcd"),
      apiserver: join(folder, "kube-apiserver"),
      kubectl: join(folder, "kubectl"),
    });
  } finally {
    if (before === undefined) delete process.env.KUBEBUILDER_ASSETS;
    else process.env.KUBEBUILDER_ASSETS = before;
    rmSync(folder, { recursive: true });
  }
});
