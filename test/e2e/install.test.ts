import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { parseAllDocuments } from "yaml";
import pkg from "../../package.json" with { type: "json" };
import { findCondition } from "../../src/api/conditions.ts";
import type { FhirExport } from "../../src/api/fhirexport.gen.ts";
import type { TestNode } from "../tools/node/node.ts";
import { apply, awaitObject, get, kubectl, needsNode, sharedNode, until } from "../tools/node/shared.ts";
import { Exports, makeExport, readyOf } from "./exports.ts";
import { makeSite, makeVolume, root, runScript, type Site, scriptsOf } from "./site.ts";

const quick = scriptsOf("docs/quick-start.md");
const install = scriptsOf("docs/install.md");
const look = scriptsOf("docs/troubleshooting.md");
describe("an installation by Helm on a real node", needsNode, () => {
  let node: TestNode;
  let site: Site;
  let exports: Exports;
  const namespace = "fhir-export";
  const tenant = "tenant";
  const started = performance.now();
  /** Tells people how long each step took. */
  const say = (text: string) => console.log(`!! e2e ${((performance.now() - started) / 1000).toFixed(0)} s: ${text}`);

  before(async () => {
    if (needsNode.skip) return;
    node = sharedNode();
    site = await makeSite(node);
    exports = new Exports(node, site);
    const labels = { "pod-security.kubernetes.io/enforce": "restricted" };
    await kubectl(
      node,
      ["create", "--filename", "-"],
      JSON.stringify({ apiVersion: "v1", kind: "Namespace", metadata: { name: tenant, labels } }),
    );
  });
  after(async () => {
    await site?.stop();
  });

  /** SHA-256 of the files that an export of all patients must have, by their name */
  let patients: Record<string, string>;

  test("the quick start, from the empty cluster to the first file", async () => {
    const transcript: string[] = [];
    const run = async (name: string) => {
      const said = await runScript(node, site, quick.get(name)!);
      transcript.push(...said.trimEnd().split("\n"));
      say(`quick start: ${name}`);
      return said;
    };
    await run("quick-start-install");
    assert.match(await run("quick-start-test"), /deleted; the export works/);
    assert.match(await run("quick-start-kubectl"), /first +Complete +100/);
    await run("quick-start-http");
    for (const line of transcript) console.log(`!! | ${line.slice(0, 300)}`);
    const [line = ""] = readFileSync(join(site.folder, "Patient.ndjson"), "utf8").split("\n");
    assert.equal((JSON.parse(line) as { resourceType: string }).resourceType, "Patient");
    patients = await site.standalone("first", { level: "Patient", types: ["Patient", "Observation"] });
    assert(Object.keys(patients).length >= 4, Object.keys(patients).join());
    assert.deepEqual(await exports.written(namespace, "first"), patients);
    say("the export's files are those of a standalone, byte for byte");
  });

  test("operator and HTTP service have no right to read Secrets", async () => {
    const may = async (verb: string, what: string, who: string) => {
      const options = ["--namespace", tenant, "--as", `system:serviceaccount:${namespace}:${who}`];
      return (await node.run(["kubectl", "auth", "can-i", verb, what, ...options])).stdout.trim();
    };
    assert.deepEqual(
      await Promise.all([
        may("create", "secrets", "fhir-export-operator"),
        may("get", "secrets", "fhir-export-operator"),
        may("list", "secrets", "fhir-export-operator"),
        may("create", "pods", "fhir-export-operator"),
        may("get", "fhirexports.fhirexport.dev", "fhir-export-shim"),
        may("get", "secrets", "fhir-export-shim"),
      ]),
      ["yes", "no", "no", "no", "no", "no"],
    );
  });

  test("the examples, in a tenant's namespace: into Azure and into a volume", async () => {
    const folder = await makeVolume(node, tenant, "exports");
    const objects = readdirSync(join(root, "examples"))
      .filter((name) => /^(source|target-azure-blob|target-volume|export-.*)\.yaml$/.test(name))
      .flatMap((name) =>
        parseAllDocuments(readFileSync(join(root, "examples", name), "utf8").replaceAll("127.0.0.1", node.address)).map(
          (one) => one.toJS() as object,
        ),
      );
    // Without a storage class the claim is bound to the volume that was made for it.
    for (const object of objects as { kind: string; spec: { storageClassName?: string } }[])
      if (object.kind === "PersistentVolumeClaim") object.spec.storageClassName = "";
    await apply(node, tenant, objects);
    const specs = (objects as FhirExport[]).filter(({ kind }) => kind === "FhirExport");
    assert.deepEqual(specs.map(({ metadata }) => metadata.name).sort(), ["cohort", "everything", "patients"]);
    for (const { metadata, spec } of specs) {
      const { sourceRef: _, targetRef, container: __, parallelism: ___, ...rest } = spec;
      const { status } = await exports.finished(tenant, metadata.name);
      assert.equal(findCondition(status?.conditions, "Exact")?.status, "True");
      const wanted = await site.standalone(metadata.name, rest);
      const prefix = status!.output!.prefix!;
      if (targetRef.name === "azurite")
        assert.deepEqual(await site.filesOf(status!.output!.container!, `${prefix}/`), wanted);
      else
        assert.deepEqual(
          readdirSync(join(folder, "fhir", prefix))
            .filter((name) => name.endsWith(".ndjson.gz"))
            .sort(),
          Object.keys(wanted).sort(),
        );
      say(
        `example ${metadata.name}: ${status!.output!.resources} resources in ${status!.output!.files} files, as a standalone's`,
      );
    }
  });

  test("the commands of docs/troubleshooting.md show an export", async () => {
    const said = await runScript(
      node,
      site,
      look.get("look")!.replaceAll(/^kubectl /gm, `kubectl --namespace ${tenant} `),
    );
    assert.match(said, /everything +Complete +100/);
    assert.match(said, /job.batch\/everything-[0-9a-f]{8}-export-1/);
    assert.match(said, /^\[pod\/everything-.*"command":"seal"/m);
  });

  test("this file runs each script of the docs that needs a cluster", () => {
    const names = ["docs", "."].flatMap((folder) =>
      readdirSync(join(root, folder))
        .filter((name) => name.endsWith(".md"))
        .flatMap((name) => [...scriptsOf(join(folder, name)).keys()]),
    );
    assert.deepEqual(names.sort(), [...quick.keys(), ...install.keys(), ...look.keys()].sort());
    assert.deepEqual([...quick.keys(), ...install.keys()].sort(), [
      "install-crds",
      "install-remove",
      "install-upgrade",
      "quick-start-end",
      "quick-start-http",
      "quick-start-install",
      "quick-start-kubectl",
      "quick-start-test",
    ]);
  });

  test("a worker is evicted, the kubelet restarted and the operator's pod deleted in mid-export: the files are the same", async () => {
    const slow = {
      apiVersion: "fhirexport.dev/v1alpha1",
      kind: "FhirSource",
      metadata: { name: "slow" },
      spec: { baseURL: site.slow, paging: { count: 50 } },
    };
    await apply(node, tenant, [
      slow,
      makeExport("disturbed", {
        sourceRef: { name: "slow" },
        level: "Patient",
        types: ["Patient", "Observation"],
        parallelism: 2,
      }),
    ]);
    const exporting = async () =>
      (await exports.workers(tenant, "disturbed")).filter(
        ({ metadata }) => metadata.labels["fhirexport.dev/command"] === "export",
      );
    const [victim] = await until(
      "a worker",
      async () => ((await exporting()).length > 0 ? exporting() : undefined),
      60_000,
    );
    await exports.underWay(tenant, "disturbed");
    const eviction = {
      apiVersion: "policy/v1",
      kind: "Eviction",
      metadata: { name: victim!.metadata.name, namespace: tenant },
    };
    await kubectl(
      node,
      ["create", "--raw", `/api/v1/namespaces/${tenant}/pods/${victim!.metadata.name}/eviction`, "--filename", "-"],
      JSON.stringify(eviction),
    );
    await until(
      "another worker in its place",
      async () => (await exporting()).some(({ metadata }) => metadata.uid !== victim!.metadata.uid),
      60_000,
    );
    await node.restartKubelet();
    const operatorPods = ["--selector", "app.kubernetes.io/component=operator"];
    await kubectl(node, ["delete", "pod", "--namespace", namespace, ...operatorPods]);
    await exports.mustRun(tenant, "disturbed");
    const { status } = await exports.finished(tenant, "disturbed", 240_000);
    assert.equal(status?.attempt, 1);
    assert.deepEqual(await exports.written(tenant, "disturbed"), patients);
    say("evicted worker, restarted kubelet, deleted operator: the same files");
  });

  test("a cancelled export leaves no file", async () => {
    await apply(node, tenant, [makeExport("unwanted", { sourceRef: { name: "slow" }, container: "export-unwanted" })]);
    await exports.underWay(tenant, "unwanted");
    assert(Object.keys(await site.blobs("export-unwanted")).length > 0);
    const patch = ["--type", "merge", "--patch", '{"spec":{"cancel":true}}'];
    await kubectl(node, ["patch", "fhirexport/unwanted", "--namespace", tenant, ...patch]);
    const object = await awaitObject<FhirExport>(
      node,
      { namespace: tenant, what: "fhirexport/unwanted", ms: 120_000 },
      ({ status }) => findCondition(status?.conditions, "Purged")?.status === "True",
    );
    assert.equal(readyOf(object)?.reason, "Cancelled");
    assert.deepEqual(await site.blobs("export-unwanted"), {});
    assert.deepEqual(await exports.workers(tenant, "unwanted"), []);
    say("cancelled and purged");
  });

  const crdVersion = async () =>
    (
      await get<{ metadata: { annotations: Record<string, string> } }>(
        node,
        namespace,
        "crd/fhirexports.fhirexport.dev",
      )
    ).metadata.annotations["fhirexport.dev/version"];
  const removeRelease = () => runScript(node, site, quick.get("quick-start-end")!);

  test("deletionPolicy Delete: the files are removed with the object", async () => {
    const { status } = await exports.get(tenant, "cohort");
    const container = status!.output!.container!;
    assert(Object.keys(await site.blobs(container)).length > 0);
    await kubectl(node, ["delete", "fhirexport/cohort", "--namespace", tenant, "--timeout=90s"]);
    assert.deepEqual(await site.blobs(container), {});
  });

  test("uninstall leaves exports, files and CRDs; a release of another name completes an export that ran", async () => {
    await apply(node, tenant, [
      makeExport("orphaned", { sourceRef: { name: "slow" }, level: "Patient", types: ["Patient", "Observation"] }),
    ]);
    await exports.underWay(tenant, "orphaned");
    const before = await exports.written(tenant, "disturbed");
    await removeRelease();
    await until("all of the release is gone", async () => {
      const kinds =
        "all,roles,rolebindings,configmaps,secrets,serviceaccounts,networkpolicies,clusterroles,clusterrolebindings,validatingadmissionpolicies";
      const selector = "app.kubernetes.io/instance=fhir-export,app.kubernetes.io/component!=test";
      const options = ["--namespace", namespace, "--selector", selector, "--output", "name"];
      const named = await kubectl(node, ["get", kinds, ...options]);
      return named.trim() === "";
    });
    assert.equal(await crdVersion(), pkg.version);
    assert.deepEqual(
      (await get<{ items: FhirExport[] }>(node, tenant, "fhirexports")).items
        .map(({ metadata }) => metadata.name)
        .sort(),
      ["disturbed", "everything", "orphaned", "patients", "unwanted"],
    );
    assert.deepEqual(await exports.written(tenant, "disturbed"), before);
    say("uninstalled");
    await runScript(
      node,
      site,
      quick
        .get("quick-start-install")!
        .replace(/^kubectl .*$/gm, "")
        .replace("helm install fhir-export", "helm install another"),
    );
    const { status } = await exports.finished(tenant, "orphaned", 240_000);
    assert.equal(status?.attempt, 1);
    assert.deepEqual(await exports.written(tenant, "orphaned"), patients);
    await runScript(node, site, "helm uninstall another --namespace fhir-export --wait");
    say("another release has ended what was under way");
  });

  test("an upgrade from chart 0.1.0 while an export runs, and a rollback", async () => {
    await runScript(node, site, install.get("install-remove")!);
    const older = (quick.get("quick-start-install") ?? "")
      .replace(/^kubectl .*$/gm, "")
      .replace("charts/fhir-export ", `${join(root, "test/e2e/fixtures/fhir-export-0.1.0.tgz")} `);
    // The only image here has newer CRDs than 0.1.0, so Helm makes those of the chart.
    await runScript(node, site, older.replace("--wait", "--wait --set crds.upgrade=false"));
    assert.equal(await crdVersion(), "0.1.0");
    const objects = [
      {
        apiVersion: "fhirexport.dev/v1alpha1",
        kind: "FhirSource",
        metadata: { name: "slower" },
        spec: { baseURL: site.slow, paging: { count: 20 }, limits: { maxConcurrentExports: 1, concurrentRequests: 1 } },
      },
      {
        apiVersion: "fhirexport.dev/v1alpha1",
        kind: "ExportTarget",
        metadata: { name: "azurite" },
        spec: {
          azureBlob: {
            accountURL: site.accountURL,
            container: "fhir",
            auth: { connectionStringRef: { name: "azurite" } },
          },
        },
      },
      makeExport("upgraded", { sourceRef: { name: "slower" }, level: "Patient", types: ["Patient", "Observation"] }),
    ];
    await apply(node, tenant, objects);
    await exports.underWay(tenant, "upgraded");
    await runScript(node, site, install.get("install-upgrade")!.replace("--wait", "--wait --set crds.upgrade=true"));
    assert.equal(await crdVersion(), pkg.version);
    await exports.mustRun(tenant, "upgraded");
    say("upgraded from 0.1.0");
    await runScript(node, site, "helm rollback fhir-export 1 --namespace fhir-export --wait");
    assert.equal(await crdVersion(), pkg.version, "a rollback takes no fields away");
    const { status } = await exports.finished(tenant, "upgraded", 240_000);
    assert.equal(status?.attempt, 1);
    assert.deepEqual(await exports.written(tenant, "upgraded"), patients);
    say("rolled back; the export that ran is whole");
    await removeRelease();
  });

  test("two releases side by side by Helm 4, each for its own namespace, without any ClusterRole", async () => {
    const names = ["team-a", "team-b"];
    await runScript(node, site, install.get("install-crds")!);
    for (const name of names)
      await runScript(
        node,
        site,
        `kubectl create namespace ${name}
        kubectl label namespace ${name} pod-security.kubernetes.io/enforce=restricted
        helm install ${name} charts/fhir-export --namespace ${name} --wait --set scope.namespaced=true,operator.replicas=2 \\
          --set source.baseURL="$FHIR_SERVER" --set target.azureBlob.accountURL="$ACCOUNT_URL" --set target.azureBlob.container=${name} \\
          --set-file target.secret.connection-string=connection-string.txt`,
        "helm4",
      );
    const clusterKinds = "clusterroles,clusterrolebindings,validatingadmissionpolicies";
    const cluster = await kubectl(node, ["get", clusterKinds, "--output", "name"]);
    assert.doesNotMatch(cluster, /fhir-export|team-/);
    for (const name of names) {
      assert.match(
        await runScript(node, site, `helm test ${name} --namespace ${name} --logs`, "helm4"),
        /deleted; the export works/,
      );
      await apply(node, name, [
        makeExport("own", {
          sourceRef: { name: `${name}-fhir-export` },
          targetRef: { name: `${name}-fhir-export` },
          level: "Patient",
          types: ["Patient", "Observation"],
        }),
      ]);
      assert.deepEqual(await exports.written(name, "own"), patients);
    }
    // The leader of two replicas is killed without notice, and the other one takes over.
    const { spec } = await get<{ spec: { holderIdentity: string } }>(
      node,
      "team-a",
      "lease/team-a-fhir-export-operator",
    );
    const leader = spec.holderIdentity.replace(/_.*/, "");
    await kubectl(node, ["delete", "pod", leader, "--namespace", "team-a", "--grace-period=0", "--force"]);
    await apply(node, "team-a", [
      makeExport("after", {
        sourceRef: { name: "team-a-fhir-export" },
        targetRef: { name: "team-a-fhir-export" },
        types: ["Patient"],
      }),
    ]);
    await exports.finished("team-a", "after");
    const taken = await get<{ spec: { holderIdentity: string } }>(node, "team-a", "lease/team-a-fhir-export-operator");
    assert.notEqual(taken.spec.holderIdentity, spec.holderIdentity);
    for (const name of names) await runScript(node, site, `helm uninstall ${name} --namespace ${name} --wait`, "helm4");
    say("two releases by Helm 4, side by side");
  });
});
