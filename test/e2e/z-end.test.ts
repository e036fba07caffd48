import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { isGuard } from "../tools/guard.ts";
import { leftovers, sysctls } from "../tools/node/leftovers.ts";
import { lives } from "../tools/node/namespaces.ts";
import { startNode } from "../tools/node/node.ts";
import { buildNodePrograms } from "../tools/node/programs.ts";
import { readRecord } from "../tools/node/record.ts";
import { needsNode, sharedNode, until } from "../tools/node/shared.ts";

/** Time to wait for a node: this file gives the shared one up, and another run on this machine may have taken its
 *  place. */
const patienceMs = 200_000;

/** Processes whose command line names the node's folder, and mounts of this machine that do. */
function naming(folder: string): string[] {
  const commands = readdirSync("/proc")
    // The guard lives as long as the process that started the node, and removes the folder.
    .filter((name) => /^\d+$/.test(name) && !isGuard(Number(name)))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "utf8");
      } catch {
        return "";
      }
    });
  return [...commands, ...readFileSync("/proc/self/mountinfo", "utf8").split("\n")].filter((line) =>
    line.includes(folder),
  );
}

// By its name this file runs last in its folder, as it ends the shared node.
describe("the end of a node", needsNode, () => {
  const programs = () => buildNodePrograms(() => {});

  test("there is one node at a time, and a refused start does it no harm", async () => {
    await assert.rejects(startNode(await programs()), /runs a node; there can be one on a machine/);
    assert.equal((await sharedNode().run(["kubectl", "get", "--raw", "/readyz"])).stdout, "ok");
  });

  test("leaves no process, mount, cgroup, file or setting behind", async () => {
    const node = sharedNode();
    const record = readRecord()!;
    const spawned = node.spawn(["sleep", "1000"]);
    // The search for leftovers must find some while the node runs.
    const seen = leftovers(record);
    for (const kind of ["process", "cgroup", "folder"])
      assert(
        seen.some((line) => line.startsWith(kind)),
        kind,
      );
    assert(naming(record.folder).length > 5);
    const start = performance.now();
    await node.stop();
    console.log(`!! node: stopped in ${((performance.now() - start) / 1000).toFixed(1)} s`);
    assert.deepEqual([leftovers(record), naming(record.folder)], [[], []]);
    assert.deepEqual(sysctls(), record.sysctls);
    assert.equal(spawned.lives(), false);
    assert.notEqual(readRecord()?.folder, record.folder);
    await assert.rejects(node.run(["true"]), /the node does not run/);
    await node.stop();
  });

  test("the next start ends what a killed run left", async () => {
    const dev = fileURLToPath(new URL("../tools/node/dev.ts", import.meta.url));
    const child = spawn(process.execPath, [dev, "--bare"], { stdio: ["ignore", "pipe", "inherit"] });
    let said = "";
    child.stdout.on("data", (text) => (said += text));
    await until("a node", async () => /node is Ready/.test(said) || child.exitCode !== null, patienceMs);
    const killed = readRecord()!;
    assert.equal(killed.owner.pid, child.pid);
    // Its guard is killed first, as it would end the node at once.
    const children = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, "utf8")
      .trim()
      .split(" ")
      .map(Number);
    for (const pid of children.filter(isGuard)) process.kill(pid, "SIGKILL");
    child.kill("SIGKILL");
    await once(child, "exit");
    assert(lives(killed.holder!));

    const node = await startNode(await programs(), { patienceMs });
    try {
      assert(!lives(killed.holder!) && !existsSync(killed.folder));
      assert.deepEqual(naming(killed.folder), []);
      assert.equal((await node.run(["kubectl", "get", "--raw", "/readyz"])).stdout, "ok");
    } finally {
      await node.stop();
    }
    assert.deepEqual(leftovers(killed), []);
  });
});
