import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import { findCondition, isTrue } from "../../src/api/conditions.ts";
import type { FhirExport, FhirExportSpec } from "../../src/api/fhirexport.gen.ts";
import { labels } from "../../src/api/names.ts";
import { type KubeObject, pathOf, resources } from "../../src/kube/client.ts";
import { isNotFound } from "../../src/kube/error.ts";
import { Informer } from "../../src/kube/informer.ts";
import type { Job } from "../../src/kube/view.ts";
import { report } from "../operator/fake.ts";
import { ScriptedNode } from "../operator/node.ts";
import { OperatorProcess } from "../operator/operator.ts";
import { makeNamespace, type Namespace, needsPlane, until } from "../tools/namespace.ts";
import { applyRBAC } from "./rbac.ts";

interface Thing extends KubeObject {
  [field: string]: unknown;
}
const api = "fhirexport.dev/v1alpha1";

describe("the operator, with the real scheduler and Job controller", needsPlane, () => {
  let ns: Namespace;
  let node: ScriptedNode;
  let operator: OperatorProcess;
  /** names of all Jobs that were ever made, by uid */
  const jobsSeen = new Map<string, string>();
  let jobs: Informer<Job>;
  const stopJobs = new AbortController();

  before(async () => {
    ns = await makeNamespace({ "pod-security.kubernetes.io/enforce": "restricted" });
    await applyRBAC(ns.client);
    node = new ScriptedNode(ns.client, ns.name);
    await node.start();
    jobs = new Informer<Job>(ns.client, {
      path: pathOf(resources.jobs, { namespace: ns.name }),
      onKey: (key) => {
        const job = jobs.get(key);
        if (job) jobsSeen.set(job.metadata.uid!, job.metadata.name);
      },
    });
    void jobs.run(stopJobs.signal);
    await jobs.whenSynced();
    const source = {
      apiVersion: api,
      kind: "FhirSource",
      metadata: { name: "s" },
      spec: { baseURL: "https://fhir.example.org/r4", limits: { maxConcurrentExports: 20, concurrentRequests: 200 } },
    };
    const target = {
      apiVersion: api,
      kind: "ExportTarget",
      metadata: { name: "t" },
      spec: { azureBlob: { accountURL: "https://a.example", container: "fhir", auth: { sasRef: { name: "sas" } } } },
    };
    await ns.client.create(pathOf(resources.fhirSources, { namespace: ns.name }), source);
    await ns.client.create(pathOf(resources.exportTargets, { namespace: ns.name }), target);
    operator = new OperatorProcess(["--namespace", ns.name, "--image", "image:1"]);
    operator.start();
  });
  afterEach(() => {
    node.fate = () => undefined;
    node.log.length = 0;
  });
  after(async () => {
    const code = await operator?.stop();
    stopJobs.abort();
    await node?.stop();
    await ns?.remove();
    assert.equal(code, 0, "SIGTERM ends it in order");
  });

  const pathTo = (name: string) => pathOf(resources.fhirExports, { namespace: ns.name, name });
  const get = (name: string) => ns.client.get<FhirExport & KubeObject>(pathTo(name));
  const edit = (name: string, spec: Partial<FhirExportSpec>) => ns.client.patch(pathTo(name), { spec });
  async function make(name: string, spec: Partial<FhirExportSpec> = {}): Promise<void> {
    const object = {
      apiVersion: api,
      kind: "FhirExport",
      metadata: { name },
      spec: { sourceRef: { name: "s" }, targetRef: { name: "t" }, ...spec },
    };
    await ns.client.create(pathOf(resources.fhirExports, { namespace: ns.name }), object as KubeObject);
  }
  /** Polls until Ready has this reason and `more` holds. @returns the object */
  async function reach(
    name: string,
    reason: string,
    more: (object: FhirExport) => boolean = () => true,
  ): Promise<FhirExport> {
    let last: FhirExport | undefined;
    try {
      return await until(`${name} ${reason}`, async () => {
        last = await get(name);
        const ready = findCondition(last.status?.conditions, "Ready");
        return ready?.reason === reason && more(last) ? last : undefined;
      });
    } catch (error) {
      throw new Error(
        `${(error as Error).message}; it is ${JSON.stringify(last?.status?.conditions, null, 1)}\n${node.log.join("\n")}\n${operator.output.slice(-3000)}`,
      );
    }
  }
  const gone = (name: string) => until(`${name} is gone`, () => get(name).then(() => undefined, isNotFound));
  const seen = (uid = "") =>
    [...jobsSeen.values()]
      .filter((name) => name.includes(uid.slice(0, 8)))
      .map((name) => name.split("-").slice(-2).join("-"))
      .sort();
  const eventsOf = async (name: string) =>
    (await ns.client.list<Thing>(pathOf(resources.events, { namespace: ns.name }))).items
      .filter(
        ({ regarding }) =>
          (regarding as { kind: string; name: string })?.kind === "FhirExport" &&
          (regarding as { name: string }).name === name,
      )
      .map(({ reason }) => reason as string)
      .sort();

  test("plan, export, seal: Complete, with the seal's totals; Jobs and Secret belong to it", async () => {
    await make("complete");
    const { metadata, status } = await reach("complete", "Complete");
    assert.deepEqual(status?.output, {
      container: "fhir",
      prefix: status?.output?.prefix,
      manifest: `https://a.example/fhir/${status?.output?.prefix}/manifest.json`,
      manifestSHA256: "ab",
      files: 2,
      resources: 10,
      bytes: 1000,
      errors: 0,
    });
    assert.match(status?.output?.prefix ?? "", new RegExp(`^\\d{8}T\\d{6}-complete-${metadata.uid!.slice(0, 8)}$`));
    assert.equal(status?.transactionTime, "2026-03-04T05:06:06.999Z");
    assert.deepEqual([status?.attempt, status?.run?.packages, status?.progress?.percent], [1, 3, 100]);
    assert.deepEqual(
      ["Ready", "Complete", "Exact", "Accepted"].map((type) => isTrue(status?.conditions, type as "Ready")),
      [true, true, true, true],
    );
    assert.equal(metadata.annotations?.["fhirexport.dev/outcome"], "Complete");
    assert.deepEqual(seen(metadata.uid), ["export-1", "plan-1", "seal-1"]);
    assert.deepEqual(node.log.filter((line) => line.startsWith("start")).sort(), [
      "start export 0",
      "start export 1",
      "start export 2",
      "start plan 0",
      "start seal 0",
    ]);
    await until("its Jobs go by themselves", async () => {
      const own = [...jobs.list()].filter((job) => job.metadata.labels?.[labels.uid] === metadata.uid);
      return own.length === 3 && own.every((job) => job.spec.ttlSecondsAfterFinished === 86400);
    });
    await until("it was told", async () => (await eventsOf("complete")).includes("Complete"));
    for (const reason of await eventsOf("complete"))
      assert.ok(["Planning", "Running", "Complete"].includes(reason), reason);
  });

  test("suspend frees the pods and keeps the Job; resume continues with the same Job", async () => {
    node.fate = ({ command, nth }) => (command === "export" && nth === 1 ? { hang: true } : undefined);
    await make("paused");
    const running = await reach("paused", "Running", () => node.log.includes("start export 0"));
    await edit("paused", { suspend: true });
    await reach("paused", "Suspended");
    await until(
      "its pods are gone",
      async () => node.log.filter((line) => line.startsWith("gone export")).length === 3,
    );
    await edit("paused", { suspend: false });
    const { metadata, status } = await reach("paused", "Complete");
    assert.equal(findCondition(status?.conditions, "Suspended"), undefined);
    assert.deepEqual(seen(metadata.uid), ["export-1", "plan-1", "seal-1"], "no Job was made twice");
    assert.equal(running.metadata.uid, metadata.uid);
  });

  test("cancel: the purge starts only when the last writer is gone", async () => {
    node.fate = ({ command, index }) => (command === "export" ? { hang: true, graceMs: index * 400 } : undefined);
    await make("cancelled");
    await reach("cancelled", "Running", () =>
      ["start export 0", "start export 1", "start export 2"].every((line) => node.log.includes(line)),
    );
    await edit("cancelled", { cancel: true });
    const { metadata, status } = await reach("cancelled", "Cancelled", ({ status }) =>
      isTrue(status?.conditions, "Purged"),
    );
    assert.ok(
      node.log.indexOf("start purge 0") >
        Math.max(...[0, 1, 2].map((index) => node.log.indexOf(`gone export ${index}`))),
      node.log.join(", "),
    );
    assert.deepEqual(
      [
        isTrue(status?.conditions, "Cancelled"),
        isTrue(status?.conditions, "Stalled"),
        findCondition(status?.conditions, "Reconciling"),
      ],
      [true, true, undefined],
    );
    assert.equal(metadata.annotations?.["fhirexport.dev/outcome"], "Cancelled");
    assert.deepEqual(seen(metadata.uid), ["export-1", "plan-1", "purge-1"]);
  });

  test("a refused export makes nothing, and says what to mend", async () => {
    await make("refused", { container: "private" });
    const { metadata, status } = await reach("refused", "Refused");
    assert.match(
      findCondition(status?.conditions, "Ready")?.message ?? "",
      /spec.container: the target allows only these containers: fhir, export-\*/,
    );
    assert.deepEqual(
      ["Failed", "Stalled"].map((type) => isTrue(status?.conditions, type as "Ready")),
      [true, true],
    );
    assert.deepEqual(seen(metadata.uid), []);
  });

  test("a terminal error ends an export at once, and retry completes it", async () => {
    const denied = {
      exit: 64,
      report: report("export", {
        error: { class: "terminal", reason: "SourceUnauthorized", message: "401 from https://fhir.example.org/r4" },
      }),
    };
    node.fate = ({ command, attempt, index }) =>
      command === "export" && attempt === 1
        ? index === 1
          ? { ...denied, report: { error: denied.report.error! } }
          : { hang: true }
        : undefined;
    await make("failed");
    const first = await reach("failed", "Failed");
    assert.equal(findCondition(first.status?.conditions, "Failed")?.reason, "SourceUnauthorized");
    assert.equal(findCondition(first.status?.conditions, "Ready")?.message, "401 from https://fhir.example.org/r4");
    assert.equal(first.metadata.annotations?.["fhirexport.dev/outcome"], "Failed/1");
    await edit("failed", { retry: 1 });
    const { metadata, status } = await reach("failed", "Complete");
    assert.deepEqual([status?.attempt, findCondition(status?.conditions, "Failed")], [2, undefined]);
    assert.deepEqual(seen(metadata.uid), ["export-1", "export-2", "plan-1", "plan-2", "seal-2"]);
  });

  test("after a lost termination message the command is run again", async () => {
    node.fate = ({ command, nth }) => (command === "seal" && nth === 1 ? { mute: true } : undefined);
    await make("lost");
    const { metadata } = await reach("lost", "Complete");
    assert.deepEqual(seen(metadata.uid), ["export-1", "plan-1", "seal-1", "seal-1"]);
  });

  test("an export waits for a source that is made later, and names it", async () => {
    await make("early", { sourceRef: { name: "later" } });
    const { status } = await reach("early", "Waiting");
    assert.equal(
      findCondition(status?.conditions, "Ready")?.message,
      "waiting: FhirSource later does not exist; create it",
    );
    assert.equal(findCondition(status?.conditions, "Accepted")?.status, "Unknown");
    await ns.client.create(pathOf(resources.fhirSources, { namespace: ns.name }), {
      apiVersion: api,
      kind: "FhirSource",
      metadata: { name: "later" },
      spec: { baseURL: "https://fhir.example.org/r4" },
    } as KubeObject);
    await reach("early", "Complete");
  });

  test("a source's limit: the second waits for the first", async () => {
    const limited = {
      apiVersion: api,
      kind: "FhirSource",
      metadata: { name: "one" },
      spec: { baseURL: "https://fhir.example.org/r4", limits: { maxConcurrentExports: 1 } },
    };
    await ns.client.create(pathOf(resources.fhirSources, { namespace: ns.name }), limited);
    let let_go = false;
    node.fate = ({ command }) => (command === "export" && !let_go ? { hang: true } : undefined);
    await make("first", { sourceRef: { name: "one" } });
    await reach("first", "Running", () => node.log.includes("start export 0"));
    await make("second", { sourceRef: { name: "one" } });
    const { status } = await reach("second", "Queued");
    assert.equal(status?.queuePosition, 1);
    let_go = true;
    await edit("first", { cancel: true });
    const second = await reach("second", "Complete");
    assert.equal(second.status?.queuePosition, undefined);
  });

  test("a pod that cannot start is explained", async () => {
    node.fate = ({ command }) =>
      command === "plan"
        ? { stuck: { reason: "ImagePullBackOff", message: 'Back-off pulling image "image:1"' } }
        : undefined;
    await make("stuck");
    const { status } = await reach("stuck", "Planning", ({ status }) =>
      /ImagePullBackOff/.test(findCondition(status?.conditions, "Ready")?.message ?? ""),
    );
    assert.ok(isTrue(status?.conditions, "Reconciling"));
    await edit("stuck", { cancel: true });
    await reach("stuck", "Cancelled");
  });

  test("deletionPolicy Delete: the files are removed before the export", async () => {
    await make("deleted", { deletionPolicy: "Delete" });
    const { metadata } = await reach("deleted", "Complete");
    assert.deepEqual(metadata.finalizers, ["fhirexport.dev/output"]);
    await ns.client.delete(pathTo("deleted"));
    await gone("deleted");
    assert.ok(node.log.includes("end purge 0"), node.log.join(", "));
    await until(
      "what it owned is collected",
      async () => ![...jobs.list()].some((job) => job.metadata.labels?.[labels.uid] === metadata.uid),
    );
  });

  test("deletionPolicy Retain: the export is removed at once, with its Jobs and pods", async () => {
    node.fate = ({ command }) => (command === "export" ? { hang: true } : undefined);
    await make("retained");
    const { metadata } = await reach("retained", "Running", () => node.log.includes("start export 0"));
    await ns.client.delete(pathTo("retained"));
    await gone("retained");
    await until(
      "what it owned is collected",
      async () => ![...jobs.list()].some((job) => job.metadata.labels?.[labels.uid] === metadata.uid),
    );
    // The node's log may hold a purge of the test before, so it is not read here.
    assert.deepEqual(seen(metadata.uid), ["export-1", "plan-1"]);
  });

  test("the operator is killed at every stage: the same Jobs, the same end", async () => {
    for (const [stage, at] of ["start plan 0", "end plan 0", "end export 2", "end seal 0"].entries()) {
      node.log.length = 0;
      await make(`killed-${stage}`);
      await until(at, async () => node.log.includes(at));
      await operator.kill();
      operator.start();
      const { metadata } = await reach(`killed-${stage}`, "Complete");
      assert.deepEqual(seen(metadata.uid), ["export-1", "plan-1", "seal-1"], at);
    }
  });

  test("its log names no patient, filter or group, and every reconcile has an id", async () => {
    await make("quiet", {
      level: "Group",
      groupId: "GROUP7",
      patients: ["PATIENT7"],
      types: ["Patient"],
      typeFilters: ["Patient?name=FILTER7"],
      origin: { client: "CLIENT7", request: "https://h.example/URL7" },
    });
    const { metadata, status } = await reach("quiet", "Complete");
    const events = (await ns.client.list<Thing>(pathOf(resources.events, { namespace: ns.name }))).items;
    const owned = [...jobs.list()].filter((job) => job.metadata.labels?.[labels.uid] === metadata.uid);
    assert.equal(owned.length, 3);
    for (const text of [operator.output, JSON.stringify(status), JSON.stringify(events), JSON.stringify(owned)])
      assert.doesNotMatch(text, /GROUP7|PATIENT7|FILTER7|CLIENT7|URL7/);
    const reconciled = operator.lines.filter(({ msg }) => msg === "reconciled");
    assert.ok(reconciled.length > 10);
    assert.ok(reconciled.every(({ reconcileID }) => typeof reconcileID === "string" && reconcileID.length === 36));
  });
});
