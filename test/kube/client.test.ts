import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { inspect } from "node:util";
import { KubeConfig } from "@kubernetes/client-node";
import { terminal } from "../../src/failure.ts";
import { KubeClient, type KubeObject, pathOf, resources } from "../../src/kube/client.ts";
import { isAlreadyExists, isConflict, isNotFound, KubeError, toKubeFailure } from "../../src/kube/error.ts";
import { makeNamespace, type Namespace, needsPlane, planeUsers } from "../tools/namespace.ts";

interface ConfigMap extends KubeObject {
  data?: Record<string, string | null>;
}
const configMap = (name: string, data: Record<string, string> = {}): ConfigMap => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: { name },
  data,
});

test("paths of collections, objects and subresources", () => {
  assert.equal(pathOf(resources.nodes), "/api/v1/nodes");
  assert.equal(pathOf(resources.jobs, { namespace: "a" }), "/apis/batch/v1/namespaces/a/jobs");
  assert.equal(
    pathOf(resources.fhirExports, { namespace: "a", name: "b", subresource: "status" }),
    "/apis/fhirexport.dev/v1alpha1/namespaces/a/fhirexports/b/status",
  );
  assert.equal(pathOf(resources.pods, { name: "a/../b?c" }), "/api/v1/pods/a%2F..%2Fb%3Fc");
});

test("every error answer has one class of failure", () => {
  const classOf = (status: number, reason = "X") => toKubeFailure(new KubeError("GET /x", status, { reason })).class;
  for (const status of [0, 404, 408, 409, 410, 429, 500, 502, 503, 504])
    assert.equal(classOf(status), "transient", String(status));
  for (const status of [401, 403]) assert.equal(classOf(status), "waiting", String(status));
  for (const status of [400, 405, 413, 415, 422]) assert.equal(classOf(status), "terminal", String(status));
  assert.equal(toKubeFailure(new TypeError("x")).class, "transient");
  const ours = terminal("InvalidContainer", "mend it");
  assert.equal(toKubeFailure(ours), ours);
});

test("values that the server quotes are not in the message that is shown", () => {
  const status = {
    reason: "Invalid",
    message: 'spec.patients[0]: Invalid value: "pat-123"',
    details: { causes: [{ field: "spec.patients[0]", message: 'Invalid value: "pat-123"' }] },
  };
  const error = new KubeError("POST /x", 422, status);
  assert.equal(error.message, "POST /x: 422 Invalid (spec.patients[0])");
  assert.match(error.detail, /pat-123/);
  for (const shown of [
    inspect(error),
    JSON.stringify(error),
    String(error),
    inspect(toKubeFailure(error), { depth: 9 }),
  ])
    assert.doesNotMatch(shown, /pat-123/);
});

test("without any configuration the error says so, and localhost:8080 is not tried", () => {
  const config = new KubeConfig();
  config.loadFromClusterAndUser(
    { name: "cluster", server: "http://localhost:8080", skipTLSVerify: false },
    { name: "user" },
  );
  assert.throws(() => new KubeClient(config), {
    class: "terminal",
    message: /^no cluster is configured: KUBECONFIG is not set/,
  });
});

describe("against a server that misbehaves", () => {
  let server: Server;
  let answer: (request: IncomingMessage, response: ServerResponse) => void;
  let sockets = 0;
  let config: KubeConfig;

  before(async () => {
    server = createServer((request, response) => answer(request, response));
    server.on("connection", () => (sockets += 1));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    config = new KubeConfig();
    const { port } = server.address() as AddressInfo;
    // client-node allows plain HTTP only where TLS is not verified.
    config.loadFromClusterAndUser(
      { name: "test", server: `http://127.0.0.1:${port}`, skipTLSVerify: true },
      { name: "user", token: "t1" },
    );
  });
  after(() => {
    server.closeAllConnections();
    server.close();
  });

  const withClient = async (work: (client: KubeClient) => Promise<void>) => {
    const client = new KubeClient(config);
    try {
      await work(client);
    } finally {
      await client.close();
    }
  };
  const refused = async (status: number, headers: Record<string, string>, body: string): Promise<KubeError> => {
    answer = (_, response) => response.writeHead(status, headers).end(body);
    let caught: unknown;
    await withClient((client) =>
      client.get("/api/v1/nodes/a?token=secret").then(
        () => undefined,
        (error) => void (caught = error),
      ),
    );
    assert.ok(caught instanceof KubeError);
    return caught;
  };

  test("Retry-After is read from the header or the body", async () => {
    const header = await refused(429, { "retry-after": "7" }, "");
    assert.deepEqual([header.status, header.retryAfterSeconds], [429, 7]);
    const body = await refused(
      429,
      {},
      JSON.stringify({ reason: "TooManyRequests", details: { retryAfterSeconds: 3 } }),
    );
    assert.deepEqual([body.reason, body.retryAfterSeconds], ["TooManyRequests", 3]);
  });

  test("HTML from a proxy is an error as any other, and the query is never shown", async () => {
    const error = await refused(502, { "content-type": "text/html" }, "<html>no</html>");
    assert.equal(error.message, "GET /api/v1/nodes/a: 502 HTTP502");
    assert.equal(toKubeFailure(error).class, "transient");
  });

  test("an answer that never comes, and a body that stops in the middle, end at the deadline", async () => {
    answer = () => {};
    await withClient((client) =>
      assert.rejects(client.get("/a", { deadlineMs: 100 }), { name: "KubeError", status: 0, reason: "Timeout" }),
    );
    answer = (_, response) => response.writeHead(200).write('{"kind":');
    await withClient((client) =>
      assert.rejects(client.get("/a", { deadlineMs: 100 }), { name: "KubeError", status: 0, reason: "Timeout" }),
    );
  });

  test("a cut connection is Unreachable; an abort by the caller is rethrown as it is", async () => {
    answer = (_, response) => response.destroy();
    await withClient((client) =>
      assert.rejects(client.get("/a"), { name: "KubeError", status: 0, reason: "Unreachable" }),
    );
    answer = () => {};
    const stop = new AbortController();
    await withClient(async (client) => {
      const call = client.get("/a", { signal: stop.signal });
      stop.abort(new Error("SIGTERM"));
      await assert.rejects(call, { name: "Error", message: "SIGTERM" });
    });
  });

  test("200 calls and 20 watches, one after the other, share connections", async () => {
    answer = (request, response) =>
      response
        .writeHead(200)
        .end(request.url!.includes("watch=1") ? "" : JSON.stringify({ items: [], metadata: { resourceVersion: "1" } }));
    sockets = 0;
    await withClient(async (client) => {
      for (let i = 0; i < 200; i++) await client.list("/a");
      for (let i = 0; i < 20; i++)
        for await (const _ of client.watch("/a", { resourceVersion: "1", timeoutSeconds: 1 }));
    });
    assert.ok(sockets >= 1 && sockets <= 2, `${sockets} connections`);
  });

  test("a watch closes its connection when its reader stops reading", async () => {
    let closed = false;
    answer = (_, response) => {
      response.on("close", () => (closed = true));
      response
        .writeHead(200)
        .write(`${JSON.stringify({ type: "BOOKMARK", object: { metadata: { resourceVersion: "5" } } })}\n`);
    };
    await withClient(async (client) => {
      for await (const event of client.watch("/a", { resourceVersion: "1", timeoutSeconds: 60 })) {
        assert.equal(event.type, "BOOKMARK");
        break;
      }
      for (const deadline = Date.now() + 5000; !closed && Date.now() < deadline; )
        await new Promise((resolve) => setTimeout(resolve, 5));
      assert.ok(closed);
    });
  });

  test("an event is joined from pieces that cut a character in two", async () => {
    const line = Buffer.from(`${JSON.stringify({ type: "ADDED", object: { metadata: { name: "ü€" } } })}\n`);
    answer = async (_, response) => {
      response.writeHead(200);
      for (const byte of line) {
        response.write(Buffer.of(byte));
        await new Promise((resolve) => setImmediate(resolve));
      }
      response.end();
    };
    await withClient(async (client) => {
      const names: string[] = [];
      for await (const { object } of client.watch("/a", { resourceVersion: "1", timeoutSeconds: 60 }))
        names.push(object.metadata.name);
      assert.deepEqual(names, ["ü€"]);
    });
  });

  test("a refused token is read anew for the next call", async () => {
    const folder = mkdtempSync(join(tmpdir(), "fhir-export-test-"));
    try {
      const tokenFile = join(folder, "token");
      writeFileSync(tokenFile, "old");
      let seen = "";
      sockets = 0;
      answer = (request, response) => {
        seen = request.headers.authorization ?? "";
        response.writeHead(seen === "Bearer new" ? 200 : 401).end("{}");
      };
      const own = new KubeConfig();
      own.loadFromClusterAndUser(config.getCurrentCluster()!, { name: "user" });
      // client-node's own reader of token files keeps a token for a minute.
      own.addAuthenticator({
        isAuthProvider: () => true,
        applyAuthentication: async (_, options) => {
          options.headers = { ...options.headers, Authorization: `Bearer ${readFileSync(tokenFile, "utf8")}` };
        },
      });
      const client = new KubeClient(own);
      for (let i = 0; i < 5; i++) await assert.rejects(client.get("/a"), { status: 401 });
      assert.equal(seen, "Bearer old");
      writeFileSync(tokenFile, "new");
      await client.get("/a");
      // The connections do not depend on the token.
      assert.ok(sockets <= 2, `${sockets} connections`);
      await client.close();
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe("against the API server", () => {
  let namespace: Namespace;
  let path: string;
  before(async () => {
    if (needsPlane.skip) return;
    namespace = await makeNamespace();
    path = pathOf(resources.configMaps, { namespace: namespace.name });
  });
  after(() => namespace?.remove());

  test("create, get, replace, patch, apply, delete", needsPlane, async () => {
    const { client } = namespace;
    const made = await client.create<ConfigMap>(path, configMap("a", { x: "1", y: "1" }));
    // Times are strings and not Dates, so that an object that was read can be written back.
    assert.match(made.metadata.creationTimestamp ?? "", /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
    const replaced = await client.replace<ConfigMap>(`${path}/a`, { ...made, data: { x: "2", y: "1" } });
    await assert.rejects(client.replace(`${path}/a`, made), (error) => isConflict(error) && !isAlreadyExists(error));
    await client.patch(`${path}/a`, { data: { y: null, z: undefined } });
    assert.deepEqual((await client.get<ConfigMap>(`${path}/a`)).data, { x: "2" });
    const stale = { metadata: { resourceVersion: replaced.metadata.resourceVersion }, data: { x: "3" } };
    await assert.rejects(client.patch(`${path}/a`, stale), isConflict);
    await client.apply<ConfigMap>(`${path}/b`, configMap("b", { x: "1", y: "1" }), "test");
    await client.apply<ConfigMap>(`${path}/b`, configMap("b", { x: "1" }), "test");
    assert.deepEqual((await client.get<ConfigMap>(`${path}/b`)).data, { x: "1" });
    await assert.rejects(client.create(path, configMap("a")), (error) => isAlreadyExists(error) && !isConflict(error));
    await assert.rejects(client.delete(`${path}/a`, { uid: "another" }), isConflict);
    await client.delete(`${path}/a`, { uid: made.metadata.uid! });
    await assert.rejects(client.get(`${path}/a`), isNotFound);
  });

  test("a field that the server does not know is an error", needsPlane, async () => {
    const wrong = { ...configMap("wrong"), dat: {} };
    await assert.rejects(
      namespace.client.create(path, wrong),
      (error: KubeError) => error.status === 400 && /unknown field "dat"/.test(error.detail),
    );
  });

  test("a list of several pages is complete", needsPlane, async () => {
    const { client } = namespace;
    const names = Array.from({ length: 7 }, (_, i) => `page-${i}`);
    for (const name of names)
      await client.create(path, { ...configMap(name), metadata: { name, labels: { of: "pages" } } });
    const { items, resourceVersion } = await client.list<ConfigMap>(path, { labelSelector: "of=pages", limit: 2 });
    assert.deepEqual(
      items.map(({ metadata }) => metadata.name),
      names,
    );
    assert.match(resourceVersion, /^\d+$/);
  });

  test("the calls of a user without rights are a waiting failure", needsPlane, async () => {
    const client = KubeClient.load(planeUsers().plain);
    try {
      await assert.rejects(
        client.list(path),
        (error: KubeError) => error.status === 403 && toKubeFailure(error).class === "waiting",
      );
    } finally {
      await client.close();
    }
  });
});
