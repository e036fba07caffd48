import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { gunzipSync } from "node:zlib";
import { parseAllDocuments } from "yaml";
import { findCondition, isTrue } from "../../src/api/conditions.ts";
import type { FhirExport, FhirExportSpec } from "../../src/api/fhirexport.gen.ts";
import { labels } from "../../src/api/names.ts";
import { type ApiCollection, type KubeObject, pathOf, resources } from "../../src/kube/client.ts";
import type { Pod } from "../../src/kube/view.ts";
import type { Manifest } from "../../src/sink/manifest.ts";
import { openStore } from "../../src/sink/open.ts";
import type { Store } from "../../src/sink/store.ts";
import { OperatorProcess } from "../operator/operator.ts";
import { readAll } from "../sink/stores.ts";
import { expected, type Resource } from "../sources/expected.ts";
import { type Source, startSource } from "../sources/server.ts";
import { sorted } from "../standalone/harness.ts";
import { type Azurite, shareAzurite } from "../tools/azurite.ts";
import { type Kubelet, startKubelet } from "../tools/kubelet.ts";
import {
  kubeconfig,
  kubectl,
  makeClaim,
  makeNamespace,
  type Namespace,
  needsPlane,
  until,
} from "../tools/namespace.ts";
import { linesOf } from "../worker/harness.ts";
import { applyRBAC } from "./rbac.ts";

const api = "fhirexport.dev/v1alpha1";
/** types with enough resources for several packages */
const types = ["Patient", "Observation", "Encounter"];
const kinds: Record<string, ApiCollection> = {
  FhirSource: resources.fhirSources,
  ExportTarget: resources.exportTargets,
  FhirExport: resources.fhirExports,
  Secret: resources.secrets,
};

describe("exports on Kubernetes, pods as processes, from the sample source", needsPlane, () => {
  let ns: Namespace;
  let kubelet: Kubelet;
  let operator: OperatorProcess;
  let source: Source;
  let azurite: Azurite;
  let root: string;

  before(async () => {
    root = await mkdtemp(join(tmpdir(), "fhir-export-cluster-"));
    [source, azurite, ns] = await Promise.all([
      startSource(),
      shareAzurite(),
      makeNamespace({ "pod-security.kubernetes.io/enforce": "restricted" }),
    ]);
    await mkdir(join(root, "target"));
    await writeFile(join(root, "target/connection-string"), azurite.connectionString);
    await mkdir(join(root, "volume"));
    await applyRBAC(ns.client);
    await makeClaim(ns, "exports", join(root, "volume"));
    kubelet = await startKubelet({ kubeconfig: kubeconfig(), namespace: ns.name });
    for (const file of ["source", "target-azure-blob", "target-volume"]) await apply(file);
    operator = new OperatorProcess([
      "--namespace",
      ns.name,
      "--image",
      "fhir-export:test",
      "--shard-resources",
      "500",
      "--inline-resources",
      "0",
      "--retry-seconds",
      "5",
      "--progress-seconds",
      "1",
      "--poll-seconds",
      "1",
    ]);
    operator.start();
  });
  after(async () => {
    await operator?.stop();
    await kubelet?.stop();
    await ns?.remove();
    await azurite?.close();
    await source?.close();
    if (root) await rm(root, { recursive: true, force: true });
  });

  /** Applies an example with the addresses of this test's servers. The test makes the claim itself, as nothing
   *  provisions volumes here. */
  async function apply(file: string): Promise<void> {
    const text = readFileSync(`examples/${file}.yaml`, "utf8")
      .replaceAll("http://127.0.0.1:8080/fhir", source.baseURL)
      .replaceAll("http://127.0.0.1:10000/devstoreaccount1", azurite.accountURL);
    for (const document of parseAllDocuments(text)) {
      const object: KubeObject & { stringData?: Record<string, string> } = document.toJS();
      const resource = kinds[object.kind ?? ""];
      if (resource) await ns.client.create(pathOf(resource, { namespace: ns.name }), object);
    }
  }
  const pathTo = (name: string) => pathOf(resources.fhirExports, { namespace: ns.name, name });
  const get = (name: string) => ns.client.get<FhirExport & KubeObject>(pathTo(name));
  const edit = (name: string, spec: Partial<FhirExportSpec>) => ns.client.patch(pathTo(name), { spec });
  const make = (name: string, spec: Partial<FhirExportSpec> = {}) =>
    ns.client.create(pathOf(resources.fhirExports, { namespace: ns.name }), {
      apiVersion: api,
      kind: "FhirExport",
      metadata: { name },
      spec: { sourceRef: { name: "hospital" }, targetRef: { name: "azurite" }, ...spec },
    } as KubeObject);
  async function reach(
    name: string,
    reason: string,
    more: (object: FhirExport) => boolean = () => true,
  ): Promise<FhirExport> {
    let last: FhirExport | undefined;
    try {
      return await until(
        `${name} ${reason}`,
        async () => {
          last = await get(name);
          return findCondition(last.status?.conditions, "Ready")?.reason === reason && more(last) ? last : undefined;
        },
        // A purge of Azure waits 60 s.
        150_000,
      );
    } catch (error) {
      throw new Error(
        `${(error as Error).message}; it is ${JSON.stringify(last?.status, null, 1)}\n${operator.output.slice(-3000)}`,
      );
    }
  }
  function open({ status, spec }: FhirExport): Promise<Store> {
    const { container = "", prefix = "" } = status?.output ?? {};
    if (spec.targetRef.name === "volume")
      return openStore({ folder: prefix, volume: { path: join(root, "volume/fhir") } }, root);
    const azureBlob = {
      accountURL: azurite.accountURL,
      container,
      createContainer: false,
      blockBytes: 1 << 20,
      auth: "connectionString" as const,
    };
    return openStore({ folder: prefix, azureBlob }, root);
  }
  /** Fails unless the export's files are byte for byte what the source holds, and its status says so. */
  async function same(object: FhirExport, want: Map<string, Buffer>): Promise<void> {
    const store = await open(object);
    try {
      const { lines, doubled, manifest } = await linesOf(store);
      assert.deepEqual(doubled, []);
      assert.ok(want.size > 20);
      assert.deepEqual(sorted(lines), sorted(want));
      assert.deepEqual(
        [object.status?.output?.resources, object.status?.output?.files, object.status?.progress?.percent],
        [want.size, manifest.output.length, 100],
      );
      assert.equal(manifest.transactionTime, object.status?.transactionTime);
    } finally {
      await store.close();
    }
  }
  const podsOf = async ({ metadata }: FhirExport, command: string) =>
    (
      await ns.client.list<Pod & KubeObject>(pathOf(resources.pods, { namespace: ns.name }), {
        labelSelector: `${labels.uid}=${metadata.uid},${labels.command}=${command}`,
      })
    ).items;

  test("example: system level into Azure Blob", async () => {
    await apply("export-system");
    const object = await reach("everything", "Complete");
    await same(object, expected(source, { types: object.spec.types ?? [] }));
    assert.ok((object.status?.run?.packages ?? 0) > 3, "several packages ran");
    assert.equal((await podsOf(object, "export")).length, object.status?.run?.packages);
    assert.match(object.status?.output?.prefix ?? "", /^hospital\//);
    // Each type has one line that says how it was proven.
    const args = [`--kubeconfig=${kubeconfig()}`, `--namespace=${ns.name}`, "describe", "fhirexport", "everything"];
    const described = execFileSync(kubectl(), args, { encoding: "utf8" });
    const written = (object.status?.types ?? []).filter(({ exported = 0 }) => exported > 0);
    assert.ok(written.length > 2);
    for (const { type, proof } of written)
      assert.deepEqual(
        described.match(new RegExp(`^ +${type}: .*$`, "gm"))?.map((line) => line.trim()),
        [`${type}: ${proof}`],
      );
    assert.match(described, new RegExp(`${written.length} types proven by the counts of the source`));
  });

  test("example: Patient level into a volume, filtered, compressed", async () => {
    await apply("export-patient");
    const object = await reach("patients", "Complete");
    const store = await open(object);
    try {
      const manifest: Manifest = JSON.parse((await store.read("manifest.json"))!.bytes.toString());
      const lines = new Map<string, string>();
      for (const { path } of manifest.output) {
        assert.match(path, /\.ndjson\.gz$/);
        for (const line of gunzipSync((await readAll(store, path))!)
          .toString()
          .split("\n")
          .slice(0, -1)) {
          const { resourceType, id } = JSON.parse(line);
          lines.set(`${resourceType}/${id}`, line);
        }
      }
      const { types = [], since } = object.spec;
      const isLaboratory = (resource: Resource) =>
        resource.category?.some((one: Resource) => one.coding?.some(({ code }: Resource) => code === "laboratory"));
      const want = expected(source, { level: "Patient", types, since, filters: { Observation: [isLaboratory] } });
      assert.ok(want.size > 100);
      assert.deepEqual(sorted(lines), sorted(want));
    } finally {
      await store.close();
    }
  });

  test("example: Group level, into a container that the export names", async () => {
    await apply("export-group");
    const object = await reach("cohort", "Complete");
    assert.equal(object.status?.output?.container, "export-cohort");
    await same(object, expected(source, { level: "Group", groupId: "ward" }));
  });

  test("everything into a volume", async () => {
    await make("whole", { targetRef: { name: "volume" } });
    await same(await reach("whole", "Complete"), source.dump());
  });

  test("progress is shown; a suspended export frees its pods, and when resumed has the same lines", async () => {
    source.set({ pageDelay: 100, maxCount: 50 });
    await make("paused", { types });
    const running = await reach("paused", "Running", ({ status }) => (status?.progress?.resources ?? 0) > 0);
    assert.ok((running.status?.progress?.percent ?? 100) < 100);
    await edit("paused", { suspend: true });
    await reach("paused", "Suspended");
    await until("no pod is left", async () =>
      (await podsOf(running, "export")).every(
        ({ status }) => status?.phase === "Succeeded" || status?.phase === "Failed",
      ),
    );
    source.set({ pageDelay: 0, maxCount: 1000 });
    await edit("paused", { suspend: false });
    await same(await reach("paused", "Complete"), expected(source, { types }));
  });

  test("kill -9 of a worker and of the operator: the same lines", async () => {
    // No worker ends by itself before one is killed.
    source.set({ pageDelay: 1000, maxCount: 50 });
    await make("killed", { types });
    const running = await reach("killed", "Running", ({ status }) => (status?.progress?.resources ?? 0) > 0);
    const victim = await until("a worker runs", async () =>
      (await podsOf(running, "export")).find(({ status }) => status?.phase === "Running"),
    );
    assert.ok(kubelet.kill(victim.metadata.name), "a worker was killed");
    await operator.kill();
    operator.start();
    source.set({ pageDelay: 0, maxCount: 1000 });
    const object = await reach("killed", "Complete");
    await same(object, expected(source, { types }));
    assert.equal(
      (await podsOf(object, "export")).length,
      (object.status?.run?.packages ?? 0) + 1,
      "one pod more than packages",
    );
  });

  test("a cancelled export leaves nothing", async () => {
    source.set({ pageDelay: 100, maxCount: 50 });
    await make("cancelled");
    await reach("cancelled", "Running", ({ status }) => (status?.progress?.resources ?? 0) > 0);
    await edit("cancelled", { cancel: true });
    const object = await reach("cancelled", "Cancelled", ({ status }) => isTrue(status?.conditions, "Purged"));
    source.set({ pageDelay: 0, maxCount: 1000 });
    const store = await open(object);
    const left: string[] = [];
    for await (const { path } of store.list("")) left.push(path);
    for await (const { path } of store.unfinished("")) left.push(path);
    await store.close();
    assert.deepEqual(left, []);
  });

  test("the error is named: credentials, Group, a source that does not answer", async () => {
    await make("nogroup", { level: "Group", groupId: "nobody" });
    assert.equal(
      findCondition((await reach("nogroup", "Failed")).status?.conditions, "Failed")?.reason,
      "UnknownGroup",
    );
    source.setAuth({ kind: "bearer", token: "secret" });
    await make("denied");
    const denied = await reach("denied", "Failed");
    source.setAuth({ kind: "none" });
    assert.equal(findCondition(denied.status?.conditions, "Failed")?.reason, "SourceUnauthorized");
    const gone = {
      apiVersion: api,
      kind: "FhirSource",
      metadata: { name: "gone" },
      spec: { baseURL: "http://127.0.0.1:1/fhir" },
    };
    await ns.client.create(pathOf(resources.fhirSources, { namespace: ns.name }), gone as KubeObject);
    await make("unreachable", { sourceRef: { name: "gone" } });
    const { status } = await reach("unreachable", "Planning", ({ status }) =>
      /SourceUnreachable/.test(findCondition(status?.conditions, "Ready")?.message ?? ""),
    );
    assert.ok(status?.run?.repeat, "it is tried again");
    await edit("unreachable", { cancel: true });
    await reach("unreachable", "Cancelled");
  });
});
