import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { after, afterEach, before, describe, test } from "node:test";
import { KubeConfig } from "@kubernetes/client-node";
import { KubeClient, type KubeObject, pathOf, resources } from "../../src/kube/client.ts";
import { isGone } from "../../src/kube/error.ts";
import { Informer, type InformerOptions } from "../../src/kube/informer.ts";
import { controlPlane } from "../tools/build.ts";
import { type ControlPlane, startControlPlane } from "../tools/control-plane.ts";
import { needsPlane, until } from "../tools/namespace.ts";
import { startTCPProxy, type TCPProxy } from "../tools/tcp-proxy.ts";

interface ConfigMap extends KubeObject {
  data?: Record<string, string>;
}

// Informers are stopped after a failed test, too: one that still runs would keep the process alive.
const stops = new Set<() => Promise<void>>();
afterEach(async () => {
  for (const stop of stops) await stop();
  stops.clear();
});

/** A running informer, with the keys and errors that it reported. */
function run(client: KubeClient, options: Omit<InformerOptions, "onKey" | "onError">) {
  const keys: string[] = [];
  const errors: unknown[] = [];
  const stop = new AbortController();
  const informer = new Informer<ConfigMap>(client, {
    ...options,
    onKey: (key) => keys.push(key),
    onError: (error) => errors.push(error),
  });
  const ended = informer.run(stop.signal);
  stops.add(async () => {
    stop.abort(new Error("stopped"));
    await ended;
  });
  return { informer, keys, errors };
}

describe("against a scripted server", () => {
  let server: Server;
  let client: KubeClient;
  let lists: (query: URLSearchParams) => { names: string[]; version: string; next?: string };
  let watches: (response: ServerResponse, query: URLSearchParams) => void;
  let seen: string[] = [];
  const event = (type: string, object: object) => `${JSON.stringify({ type, object })}\n`;
  const object = (name: string, version = "1") => ({
    metadata: { name, namespace: "n", uid: name, resourceVersion: version, managedFields: [{}] },
  });

  before(async () => {
    server = createServer((request, response) => {
      const query = new URL(request.url!, "http://x").searchParams;
      seen.push(
        query.has("watch") ? `watch ${query.get("resourceVersion")}` : `list ${query.get("continue") ?? ""}`.trim(),
      );
      response.writeHead(200);
      if (query.has("watch")) return watches(response, query);
      const { names, version, next } = lists(query);
      response.end(
        JSON.stringify({
          items: names.map((name) => object(name)),
          metadata: { resourceVersion: version, continue: next },
        }),
      );
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const config = new KubeConfig();
    const { port } = server.address() as AddressInfo;
    config.loadFromClusterAndUser(
      { name: "test", server: `http://127.0.0.1:${port}`, skipTLSVerify: true },
      { name: "user" },
    );
    client = new KubeClient(config);
  });
  after(async () => {
    await client.close();
    server.closeAllConnections();
    server.close();
  });
  /** options without waits between tries */
  const start = (options: Partial<InformerOptions> = {}) => {
    seen = [];
    return run(client, { path: "/a", random: () => 0, ...options });
  };

  test("all pages are listed; the informer is synced only after the last one", async () => {
    let synced: boolean | undefined;
    lists = (query) => {
      if (query.has("continue")) synced = running.informer.synced();
      return query.has("continue") ? { names: ["b"], version: "7" } : { names: ["a"], version: "7", next: "more" };
    };
    watches = (response) => response.flushHeaders();
    const running = start();
    await running.informer.whenSynced();
    assert.equal(synced, false);
    assert.deepEqual(running.keys, ["n/a", "n/b"]);
    assert.equal((running.informer.get("n/a")!.metadata as { managedFields?: unknown }).managedFields, undefined);
    await until("the watch", async () => seen.includes("watch 7"));
    assert.deepEqual(seen, ["list", "list more", "watch 7"]);
  });

  test("asks for bookmarks and for 240 to 360 seconds, and continues from a bookmark's version", async () => {
    const queries: URLSearchParams[] = [];
    lists = () => ({ names: [], version: "7" });
    watches = (response, query) => {
      queries.push(query);
      response.flushHeaders();
      if (queries.length < 2) response.end(event("BOOKMARK", { metadata: { resourceVersion: "9" } }));
    };
    const running = start({ labelSelector: "x=y", random: () => 0.01 });
    await until("a second watch", async () => queries.length === 2);
    assert.deepEqual(seen, ["list", "watch 7", "watch 9"]);
    assert.equal(queries[0]!.get("allowWatchBookmarks"), "true");
    assert.equal(queries[0]!.get("timeoutSeconds"), "241");
    assert.equal(queries[0]!.get("labelSelector"), "x=y");
    assert.deepEqual(
      [running.informer.counters.watches, running.informer.counters.events, running.errors.length],
      [2, 0, 0],
    );
  });

  test("after an event that says that the version has expired everything is listed again, and deletions meanwhile are reported", async () => {
    let listed = 0;
    lists = () => (++listed === 1 ? { names: ["a", "b"], version: "7" } : { names: ["b", "c"], version: "20" });
    watches = (response, query) => {
      response.flushHeaders();
      if (query.get("resourceVersion") === "7") response.end(event("ERROR", { code: 410, reason: "Expired" }));
    };
    const running = start();
    await until("a watch from the new list", async () => seen.includes("watch 20"));
    assert.deepEqual(seen, ["list", "watch 7", "list", "watch 20"]);
    assert.deepEqual(running.keys, ["n/a", "n/b", "n/c", "n/a"]);
    assert.deepEqual(
      [...running.informer.list()].map(({ metadata }) => metadata.name),
      ["b", "c"],
    );
    assert.equal(running.informer.get("n/a"), undefined);
    assert.ok(isGone(running.errors[0]));
    assert.equal(running.informer.counters.missed, 0);
  });

  test("after 3 bad ends in a row the version is no longer trusted, and everything is listed again", async () => {
    let listed = 0;
    lists = () => ({ names: [], version: ++listed === 1 ? "1000000" : "5" });
    watches = (response, query) =>
      query.get("resourceVersion") === "5" ? response.flushHeaders() : response.destroy();
    start();
    await until("a watch from the new list", async () => seen.includes("watch 5"));
    assert.deepEqual(seen, ["list", "watch 1000000", "watch 1000000", "watch 1000000", "list", "watch 5"]);
  });

  test("a full list after relistMs counts the changes that the watch did not show", async () => {
    let listed = 0;
    let ms = 0;
    lists = () => (++listed === 1 ? { names: ["a"], version: "7" } : { names: ["a", "b"], version: "8" });
    watches = (response, query) => {
      response.flushHeaders();
      ms += 400;
      if (query.get("resourceVersion") === "7") response.end(event("BOOKMARK", { metadata: { resourceVersion: "7" } }));
    };
    const running = start({ relistMs: 600, now: () => ms });
    await until("a watch from the new list", async () => seen.includes("watch 8"));
    assert.deepEqual(seen, ["list", "watch 7", "watch 7", "list", "watch 8"]);
    assert.deepEqual([running.informer.counters.lists, running.informer.counters.missed], [2, 1]);
    assert.deepEqual(running.keys, ["n/a", "n/b"]);
  });

  test("a silent watch is replaced by a new one from the same version", async () => {
    lists = () => ({ names: [], version: "7" });
    watches = (response) => response.flushHeaders();
    const running = start({ silenceMs: 50 });
    await until("two more watches", async () => seen.length >= 3);
    assert.deepEqual(seen.slice(0, 3), ["list", "watch 7", "watch 7"]);
    assert.equal((running.errors[0] as Error).message, "WATCH /a: no answer Silent");
  });

  test("the random wait grows from try to try, and starts anew after a healthy minute", async () => {
    let ms = 0;
    let asked = 0;
    lists = () => ({ names: [], version: "7" });
    watches = (response) => {
      // The third watch holds.
      if (++asked === 3) ms += 60_000;
      response.destroy();
    };
    const waits: number[] = [];
    const sleep = async (wait: number) => void waits.push(wait);
    start({ now: () => ms, random: () => 0.5, sleep });
    await until("ten tries", async () => waits.length >= 10);
    // Half of 1 s and 2 s; after the third one half of 0.5 s; then half of 1 s, 2 s and so on, up to half of 30 s.
    assert.deepEqual(waits.slice(0, 10), [500, 1000, 250, 500, 1000, 2000, 4000, 8000, 15_000, 15_000]);
  });

  test("a run that is stopped before the first list rejects whenSynced()", async () => {
    lists = () => ({ names: [], version: "7" });
    const stop = new AbortController();
    stop.abort(new Error("stopped"));
    const informer = new Informer<ConfigMap>(client, { path: "/a", onKey: () => {} });
    await informer.run(stop.signal);
    await assert.rejects(informer.whenSynced(), { message: "stopped" });
    assert.equal(informer.synced(), false);
  });
});

describe("against the API server", () => {
  let plane: ControlPlane;
  let proxy: TCPProxy;
  /** one client straight to the server, and one through the proxy */
  let direct: KubeClient;
  let proxied: KubeClient;
  const path = pathOf(resources.configMaps, { namespace: "default" });
  const write = (name: string, data: Record<string, string>) =>
    direct.apply<ConfigMap>(
      `${path}/${name}`,
      { apiVersion: "v1", kind: "ConfigMap", metadata: { name, labels: { of: "test" } }, data },
      "test",
    );

  before(async () => {
    if (needsPlane.skip) return;
    // This test has a control plane of its own, as it kills the API server.
    const programs = controlPlane();
    if ("missing" in programs) throw new Error(programs.missing);
    plane = await startControlPlane(programs, { controllers: false });
    proxy = await startTCPProxy(Number(new URL(plane.server).port));
    const through = join(plane.folder, "through.kubeconfig");
    writeFileSync(
      through,
      readFileSync(plane.kubeconfig, "utf8").replace(plane.server, `https://127.0.0.1:${proxy.port}`),
    );
    direct = KubeClient.load(plane.kubeconfig);
    proxied = KubeClient.load(through);
  });
  after(async () => {
    await Promise.all([direct?.close(), proxied?.close()]);
    await proxy?.close();
    await plane?.stop();
  });
  const start = () => run(proxied, { path, labelSelector: "of=test" });
  const agree = (informer: Informer<ConfigMap>) =>
    until("the cache equals the server", async () => {
      const { items } = await direct.list<ConfigMap>(path, { labelSelector: "of=test" });
      const text = (objects: Iterable<ConfigMap>) =>
        [...objects]
          .map(({ metadata, data }) => `${metadata.name}@${metadata.resourceVersion}=${data?.x}`)
          .sort()
          .join();
      return text(items) === text(informer.list());
    });

  test("sees the objects with its label that others make, change and delete", needsPlane, async () => {
    await write("old", { x: "0" });
    const { informer, keys } = start();
    await informer.whenSynced();
    assert.deepEqual(keys, ["default/old"]);
    await direct.create<ConfigMap>(path, { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "unlabelled" } });
    await write("new", { x: "1" });
    await until("the new one", async () => informer.get("default/new")?.data?.x === "1");
    await write("new", { x: "2" });
    await until("its change", async () => informer.get("default/new")?.data?.x === "2");
    await direct.delete(`${path}/new`);
    await until("its end", async () => informer.get("default/new") === undefined);
    assert.deepEqual(keys, ["default/old", "default/new", "default/new", "default/new"]);
    assert.deepEqual(informer.counters, { lists: 1, watches: 1, events: 3, errors: 0, missed: 0 });
  });

  test("200 calls over TLS beside a watch share connections", needsPlane, async () => {
    const { informer } = start();
    await informer.whenSynced();
    const before = proxy.connections;
    for (let i = 0; i < 200; i++) await proxied.list(path, { limit: 1 });
    const more = proxy.connections - before;
    // There is one connection for the watch, and one or two for the calls.
    assert.ok(more <= 3 && proxy.open <= 3, `${more} new connections, ${proxy.open} open`);
  });

  test("after a connection is reset, a new one is opened and no change is lost", needsPlane, async () => {
    const { informer, errors } = start();
    await informer.whenSynced();
    for (const x of ["a", "b", "c"]) {
      await until("an open watch", async () => proxy.open > 0);
      proxy.cut();
      await write("cut", { x });
      await until(`change ${x}`, async () => informer.get("default/cut")?.data?.x === x);
    }
    await agree(informer);
    assert.ok(errors.length >= 1);
  });

  test("the API server is killed and started again, after changes that no watch can replay", needsPlane, async () => {
    const { informer, errors } = start();
    await write("before", { x: "1" });
    await until("the first", async () => informer.get("default/before"));
    const version = [...informer.list()][0]!.metadata.resourceVersion!;
    // The informer does not hear of these changes. Afterwards they are in etcd only, as the memory of the new server
    // starts after them.
    proxy.stall(true);
    await write("before", { x: "2" });
    await direct.delete(`${path}/old`);
    await write("unseen", { x: "1" });
    await plane.kill("apiserver");
    proxy.cut();
    proxy.stall(false);
    await plane.restart("apiserver");
    await until("the old version is refused", async () => {
      const watch = direct.watch(path, { resourceVersion: version, timeoutSeconds: 1 });
      return watch.next().then(
        () => false,
        (error) => isGone(error),
      );
    });
    await until("the change", async () => informer.get("default/before")?.data?.x === "2", 60_000);
    await agree(informer);
    assert.equal(informer.get("default/old"), undefined);
    assert.ok(informer.get("default/unseen"));
    assert.ok(errors.length >= 1);
    // The watch works again.
    await write("after", { x: "1" });
    await until("a change after it", async () => informer.get("default/after"));
  });
});
