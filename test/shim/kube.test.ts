import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { fileURLToPath } from "node:url";
import type { FhirExport } from "../../src/api/fhirexport.gen.ts";
import { pathOf, resources } from "../../src/kube/client.ts";
import { eventually } from "../standalone/eventually.ts";
import { freePort } from "../tools/azurite.ts";
import { kubeconfig, makeNamespace, type Namespace, needsPlane } from "../tools/namespace.ts";

const program = fileURLToPath(new URL("../../src/main.ts", import.meta.url));
const headers = { accept: "application/fhir+json", prefer: "respond-async" };

suite("the shim over a real API server", () => {
  let root: string;
  let namespace: Namespace;
  let replicas: { baseURL: string; child: ChildProcess }[] = [];
  let publicURL: string;

  before(async () => {
    if (needsPlane.skip) return;
    root = await mkdtemp(join(tmpdir(), "fhir-export-shim-"));
    namespace = await makeNamespace();
    const ports = [await freePort(), await freePort()];
    publicURL = `http://127.0.0.1:${ports[0]}`;
    replicas = ports.map((port) => ({ baseURL: `http://127.0.0.1:${port}`, child: startShim(port) }));
    await client().create(at(resources.exportTargets), {
      apiVersion: "fhirexport.dev/v1alpha1",
      kind: "ExportTarget",
      metadata: { name: "research", namespace: namespace.name },
      spec: { volume: { claimName: "c" } },
    } as never);
    for (const { baseURL } of replicas)
      await eventually(
        () =>
          fetch(`${baseURL}/readyz`).then(
            ({ ok }) => ok,
            () => false,
          ),
        (ready) => ready,
      );
  });
  after(async () => {
    if (needsPlane.skip) return;
    for (const { child } of replicas) child.kill("SIGKILL");
    await namespace?.remove();
    await rm(root, { recursive: true, force: true });
  });
  const client = () => namespace.client;
  const at = (resource: Parameters<typeof pathOf>[0], name?: string, subresource?: string) =>
    pathOf(resource, { namespace: namespace.name, ...(name && { name }), ...(subresource && { subresource }) });
  const startShim = (port: number) =>
    spawn(
      process.execPath,
      [
        ...[program, "shim", "--source", "hospital", "--target", "research", "--public-url", publicURL],
        ...[
          "--namespace",
          namespace.name,
          "--host",
          "127.0.0.1",
          "--port",
          String(port),
          "--volume-root",
          root,
          "--kubeconfig",
          kubeconfig(),
        ],
      ],
      { stdio: ["ignore", "inherit", "inherit"] },
    );
  const kickOff = async (query = "") => {
    const answer = await fetch(`${publicURL}/Patient/$export${query}`, { headers });
    assert.equal(answer.status, 202, await answer.text());
    const url = answer.headers.get("content-location")!;
    return { url, name: url.slice(url.lastIndexOf("/") + 1), elsewhere: url.replace(publicURL, replicas[1]!.baseURL) };
  };
  /** Stores an export of one file, and says in its status that it is complete, as the operator does. */
  async function complete(name: string, folder: string, file: { type: string; path: string; bytes: Buffer }) {
    const now = "2026-01-01T00:00:00Z";
    const { type, path, bytes } = file;
    const item = { type, path, url: "file:///x", count: 1, fileSize: bytes.length, sha256: "ab" };
    const lists = { output: [item], deleted: [], error: [] };
    await mkdir(join(root, folder));
    await writeFile(
      join(root, folder, "manifest.json"),
      JSON.stringify({ transactionTime: now, request: "", requiresAccessToken: false, ...lists }),
    );
    await writeFile(join(root, folder, path), bytes);
    const conditions = ["Ready", "Complete"].map((condition) => ({
      type: condition,
      status: "True" as const,
      reason: "Complete",
      message: "",
      lastTransitionTime: now,
    }));
    const object = await read(name);
    const status: FhirExport["status"] = { conditions, output: { prefix: folder } };
    await client().replace(at(resources.fhirExports, name, "status"), { ...object, status });
  }
  const read = (name: string) => client().get<FhirExport>(at(resources.fhirExports, name));

  test("a kick-off makes one FhirExport, which every replica knows at once", needsPlane, async () => {
    const { url, name, elsewhere } = await kickOff("?_type=Patient&_since=2020-01-01T00:00:00Z");
    for (const one of [elsewhere, url]) {
      const answer = await fetch(one);
      assert.equal(answer.status, 202);
      assert.equal(answer.headers.get("x-progress"), "0% waiting");
    }
    const { spec } = await read(name);
    assert.deepEqual(
      [spec.sourceRef.name, spec.targetRef.name, spec.level, spec.types, spec.since],
      ["hospital", "research", "Patient", ["Patient"], "2020-01-01T00:00:00.000Z"],
    );
    assert.equal(spec.origin?.request, `${publicURL}/Patient/$export?_type=Patient&_since=2020-01-01T00:00:00Z`);
  });

  test("a status that the operator writes is seen; a complete one gives manifest and files", needsPlane, async () => {
    const { url, name } = await kickOff();
    const path = "Patient-0001-1.ndjson";
    await complete(name, "f", { type: "Patient", path, bytes: Buffer.from("{}\n") });
    const answer = await eventually(
      () => fetch(url),
      ({ status }) => status === 200,
    );
    const { output } = (await answer.json()) as { output: { url: string }[] };
    assert.equal(output[0]!.url, `${url}/files/${path}`);
    assert.equal(await (await fetch(output[0]!.url)).text(), "{}\n");
  });

  test("DELETE sets cancel: 404 at once here, within a second elsewhere", needsPlane, async () => {
    const { url, name, elsewhere } = await kickOff();
    assert.equal((await fetch(elsewhere)).status, 202);
    assert.equal((await fetch(url, { method: "DELETE" })).status, 202);
    assert.equal((await fetch(url)).status, 404);
    assert.equal((await read(name)).spec.cancel, true);
    await eventually(
      () => fetch(elsewhere),
      ({ status }) => status === 404,
      { timeoutMs: 1000 },
    );
    assert.equal((await fetch(elsewhere, { method: "DELETE" })).status, 404);
  });

  test("an object that was not started by $export is 404, whatever its name", needsPlane, async () => {
    const name = `export-${"a".repeat(26)}`;
    const object = {
      apiVersion: "fhirexport.dev/v1alpha1",
      kind: "FhirExport",
      metadata: { name, namespace: namespace.name },
    };
    await client().create(at(resources.fhirExports), {
      ...object,
      spec: { sourceRef: { name: "hospital" }, targetRef: { name: "research" } },
    } as never);
    assert.equal((await fetch(`${publicURL}/_operations/export/${name}`)).status, 404);
  });

  test(
    "SIGTERM in the middle of a download: the download ends properly, and no new connection is accepted",
    needsPlane,
    async () => {
      const { url, name } = await kickOff();
      const path = "Basic-0001-1.ndjson";
      // more than the buffers of sockets and streams hold
      const content = Buffer.alloc(40 << 20, "{}\n");
      await complete(name, "large", { type: "Basic", path, bytes: content });
      const { baseURL, child } = replicas[1]!;
      const file = `${url.replace(publicURL, baseURL)}/files/${path}`;
      await eventually(
        () => fetch(url.replace(publicURL, baseURL)),
        ({ status }) => status === 200,
      );
      const download = await fetch(file);
      const reader = download.body!.getReader();
      let bytes = (await reader.read()).value!.length;
      child.kill("SIGTERM");
      // the port closes after five seconds
      await eventually(
        () =>
          fetch(`${baseURL}/healthz`).then(
            () => false,
            () => true,
          ),
        (closed) => closed,
        { timeoutMs: 15_000 },
      );
      assert.equal(child.exitCode, null, "it waits for the download");
      for (let part = await reader.read(); !part.done; part = await reader.read()) bytes += part.value.length;
      assert.equal(bytes, content.length);
      await eventually(
        async () => child.exitCode,
        (code) => code !== null,
        { timeoutMs: 15_000 },
      );
      assert.equal(child.exitCode, 0);
      replicas[1] = { baseURL, child: startShim(Number(new URL(baseURL).port)) };
      await eventually(
        () =>
          fetch(`${baseURL}/readyz`).then(
            ({ ok }) => ok,
            () => false,
          ),
        (ready) => ready,
      );
    },
  );

  test("SIGTERM: not ready at once, exit 0", needsPlane, async () => {
    const { baseURL, child } = replicas[1]!;
    const exited = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGTERM");
    await eventually(
      () => fetch(`${baseURL}/readyz`),
      ({ status }) => status === 503,
      { timeoutMs: 3000 },
    );
    assert.equal(await exited, 0);
  });
});
