import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { KubeClient, pathOf, resources } from "../../../src/kube/client.ts";
import { KubeReplay } from "../../../src/kube/replay.ts";
import { openDatabase } from "../../../src/standalone/database.ts";
import { LocalReplay } from "../../../src/standalone/replay.ts";
import { applyRBAC } from "../../cluster/rbac.ts";
import { makeNamespace, type Namespace, needsPlane, planeUsers } from "../../tools/namespace.ts";

const later = () => new Date(Date.now() + 300_000);

suite("assertions that a standalone has accepted", () => {
  test("are known after a restart, and forgotten when they have expired", async () => {
    const folder = await mkdtemp(join(tmpdir(), "fhir-export-replay-"));
    try {
      let database = openDatabase(folder);
      assert.equal(await new LocalReplay(database).first("a", "1", later()), true);
      assert.equal(await new LocalReplay(database).first("b", "1", later()), true, "another client's");
      assert.equal(await new LocalReplay(database).first("a", "2", new Date(Date.now() - 1)), true);
      database.close();
      database = openDatabase(folder);
      const replay = new LocalReplay(database);
      assert.equal(await replay.first("a", "1", later()), false);
      assert.deepEqual(
        database.prepare("SELECT jti FROM assertions ORDER BY issuer").all(),
        [{ jti: "1" }, { jti: "1" }].map((row) => Object.assign(Object.create(null), row)),
      );
      database.close();
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
});

suite("assertions that a replica has accepted", needsPlane, () => {
  let ns: Namespace;
  let clients: KubeClient[];
  before(async () => {
    if (needsPlane.skip) return;
    ns = await makeNamespace();
    await applyRBAC(ns.client);
    clients = [KubeClient.load(planeUsers().shim), KubeClient.load(planeUsers().shim)];
  });
  after(async () => {
    await Promise.all((clients ?? []).map((client) => client.close()));
    await ns?.remove();
  });

  test("are accepted by no other replica, although all are asked at once", async () => {
    const replicas = clients.map((client) => new KubeReplay(client, ns.name));
    const answers = await Promise.all(
      [...replicas, ...replicas].map((replay) => replay.first("research", "jti-1", later())),
    );
    assert.deepEqual(answers.sort(), [false, false, false, true]);
    assert.equal(await replicas[1]!.first("research", "jti-2", later()), true);
  });

  test("are forgotten when they have expired, and only then", async () => {
    const replay = new KubeReplay(clients[0]!, ns.name);
    await replay.first("research", "short", new Date(Date.now() + 1000));
    const count = async () => (await ns.client.list(pathOf(resources.leases, { namespace: ns.name }))).items.length;
    const before = await count();
    await replay.sweep(new Date(Date.now() + 2000));
    assert.equal(await count(), before - 1);
    assert.equal(await replay.first("research", "jti-1", later()), false);
  });

  test("are refused while the API server does not answer", async () => {
    const { client } = ns;
    await assert.rejects(new KubeReplay(client, "no-such-namespace").first("research", "jti-9", later()));
  });
});
