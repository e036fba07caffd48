import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import { findCondition } from "../../src/api/conditions.ts";
import type { FhirExport } from "../../src/api/fhirexport.gen.ts";
import { type ApiCollection, KubeClient, type KubeObject, pathOf, resources } from "../../src/kube/client.ts";
import type { LeaseSpec } from "../../src/kube/election.ts";
import { KubeError } from "../../src/kube/error.ts";
import { Informer } from "../../src/kube/informer.ts";
import type { Job } from "../../src/kube/view.ts";
import { ScriptedNode } from "../operator/node.ts";
import { OperatorProcess } from "../operator/operator.ts";
import { type APIProxy, startAPIProxy } from "../tools/api-proxy.ts";
import { type Guard, startGuard } from "../tools/guard.ts";
import { makeNamespace, type Namespace, needsPlane, planeUsers, until } from "../tools/namespace.ts";
import { applyRBAC } from "./rbac.ts";

interface Lease extends KubeObject {
  spec: LeaseSpec;
}
const api = "fhirexport.dev/v1alpha1";
const lease = "fhir-export-operator";

describe("of two operators one works", needsPlane, () => {
  let ns: Namespace;
  let node: ScriptedNode;
  let proxy: APIProxy;
  let guard: Guard;
  const operators = new Map<OperatorProcess, number>();
  /** names of all Jobs that were ever made, by uid */
  const jobsMade = new Map<string, string>();
  let deleted = 0;
  let jobs: Informer<Job>;
  const stopJobs = new AbortController();

  before(async () => {
    ns = await makeNamespace({ "pod-security.kubernetes.io/enforce": "restricted" });
    await applyRBAC(ns.client, ns.name);
    guard = startGuard();
    proxy = await startAPIProxy(planeUsers().operator);
    node = new ScriptedNode(ns.client, ns.name);
    await node.start();
    jobs = new Informer<Job>(ns.client, {
      path: pathOf(resources.jobs, { namespace: ns.name }),
      onKey: (key) => {
        const job = jobs.get(key);
        if (job) jobsMade.set(job.metadata.uid!, job.metadata.name);
        else deleted += 1;
      },
    });
    void jobs.run(stopJobs.signal);
    await jobs.whenSynced();
    const make = (resource: ApiCollection, kind: string, name: string, spec: object) =>
      ns.client.create(pathOf(resource, { namespace: ns.name }), {
        apiVersion: api,
        kind,
        metadata: { name },
        spec,
      } as KubeObject);
    await make(resources.fhirSources, "FhirSource", "s", { baseURL: "https://fhir.example.org/r4" });
    await make(resources.exportTargets, "ExportTarget", "t", {
      azureBlob: { accountURL: "https://a.example", container: "fhir", auth: { sasRef: { name: "sas" } } },
    });
  });
  afterEach(async () => {
    node.fate = () => undefined;
    proxy.fault = () => undefined;
    for (const [one, pid] of operators) {
      await one.kill();
      guard.remove(pid);
    }
    operators.clear();
  });
  after(async () => {
    stopJobs.abort();
    await node?.stop();
    await proxy?.close();
    guard?.close();
    await ns?.remove();
  });

  /** An operator in the environment of a pod of this name. */
  function start(
    pod: string,
    path?: string,
    env = {},
    [leaseSeconds, renewSeconds, retrySeconds] = [6, 4, 1],
  ): OperatorProcess {
    const times = [
      `--lease-seconds=${leaseSeconds}`,
      `--renew-seconds=${renewSeconds}`,
      `--retry-period-seconds=${retrySeconds}`,
    ];
    const one = new OperatorProcess(
      ["--namespace", ns.name, "--image", "image:1", "--lease-namespace", ns.name, ...times],
      {
        env: { HOSTNAME: pod, FHIR_EXPORT_LEADER_ELECT: "true", ...env },
        ...(path ? { kubeconfig: path } : {}),
      },
    );
    one.start();
    // A frozen operator would stay when this process is killed.
    guard.add(one.pid);
    operators.set(one, one.pid);
    return one;
  }
  const says = (one: OperatorProcess, message: string) =>
    until(`the operator says "${message}"`, async () => one.lines.find(({ msg }) => msg === message)).catch((error) => {
      throw new Error(`${error.message}\n${one.output.slice(-3000)}`);
    });
  const get = (path: string) => ns.client.get<Lease>(path);
  const leader = async () => {
    const { spec } = await get(pathOf(resources.leases, { namespace: ns.name, name: lease }));
    return { pod: spec.holderIdentity!.split("_")[0], transitions: spec.leaseTransitions! };
  };
  const asked = async (one: OperatorProcess, path: string) => {
    const { port } = await says(one, "started");
    const answer = await fetch(`http://127.0.0.1:${port}${path}`);
    return `${answer.status} ${await answer.text()}`;
  };
  const leading = async (one: OperatorProcess) =>
    /^leader_election_master_status\{name="fhir-export-operator"\} (\d)$/m.exec(await asked(one, "/metrics"))?.[1];

  async function make(name: string): Promise<void> {
    const spec = { sourceRef: { name: "s" }, targetRef: { name: "t" } };
    const object = { apiVersion: api, kind: "FhirExport", metadata: { name }, spec };
    await ns.client.create(pathOf(resources.fhirExports, { namespace: ns.name }), object as KubeObject);
  }
  const completed = (name: string) =>
    until(
      `${name} is complete`,
      async () => {
        const object = await ns.client.get<FhirExport & KubeObject>(
          pathOf(resources.fhirExports, { namespace: ns.name, name }),
        );
        return findCondition(object.status?.conditions, "Ready")?.reason === "Complete" && object;
      },
      60_000,
    ).catch((error) => {
      throw new Error(
        `${error.message}\n${[...operators.keys()].map(({ output }) => output.slice(-3000)).join("\n\n")}`,
      );
    });
  const jobsOf = ({ metadata }: FhirExport) =>
    [...jobsMade.values()]
      .filter((name) => name.includes(metadata.uid!.slice(0, 8)))
      .map((name) => name.split("-").slice(-2).join("-"))
      .sort();
  /** Names and versions of all objects that an operator writes, read when nothing changes any more: Jobs get their time
   *  to live only after the end. */
  async function settled(): Promise<string[]> {
    const versions = async () => {
      const kinds = [
        resources.fhirExports,
        resources.fhirSources,
        resources.exportTargets,
        resources.jobs,
        resources.events,
      ] as const;
      const lists = await Promise.all(kinds.map((kind) => ns.client.list<Job>(pathOf(kind, { namespace: ns.name }))));
      if (lists[3]!.items.some(({ spec }) => spec.ttlSecondsAfterFinished === undefined)) return [];
      const secrets = await ns.client.list(pathOf(resources.secrets, { namespace: ns.name }));
      return [...lists.flatMap(({ items }) => items), ...secrets.items]
        .map(({ metadata: { name, uid, resourceVersion } }) => `${name} ${uid} ${resourceVersion}`)
        .sort();
    };
    let last: string[] = [];
    let same = 0;
    return until("all is at rest", async () => {
      const now = await versions();
      same = now.length > 0 && now.join() === last.join() ? same + 1 : 0;
      last = now;
      return same >= 40 && now;
    });
  }
  const normal = ["export-1", "plan-1", "seal-1"];

  test("the first leads, the second is ready and does nothing; after SIGTERM to the first the second leads", async () => {
    const one = start("one");
    await says(one, "took the lease: this process leads");
    const two = start("two", proxy.kubeconfig);
    await says(two, "another process leads");
    assert.deepEqual([await leading(one), await leading(two)], ["1", "0"]);
    for (const operator of [one, two]) assert.equal(await asked(operator, "/readyz"), "200 ok\n");
    proxy.calls.length = 0;
    await make("undisturbed");
    assert.deepEqual(jobsOf(await completed("undisturbed")), normal);
    assert.ok(proxy.calls.length > 0);
    assert.deepEqual(
      proxy.calls.filter(({ method }) => method !== "GET"),
      [],
      "a standby writes nothing",
    );
    assert.ok(!two.lines.some(({ msg }) => msg === "reconciled"), "nor does it reconcile");
    const { transitions } = await leader();
    assert.equal(await one.stop(), 0);
    assert.ok(one.lines.some(({ msg }) => msg === "gave the lease back"));
    await says(two, "took the lease: this process leads");
    assert.deepEqual(await leader(), { pod: "two", transitions: transitions + 1 });
    await make("afterwards");
    assert.deepEqual(jobsOf(await completed("afterwards")), normal);
    assert.equal(await leading(two), "1");
    assert.equal(await two.stop(), 0);
  });

  test("the leader is killed in mid-export: the other operator completes the export with the same Jobs", async () => {
    const one = start("one");
    await says(one, "took the lease: this process leads");
    const two = start("two");
    await says(two, "another process leads");
    const before = deleted;
    // The export cannot end before the leader is dead.
    const dead = Promise.withResolvers<void>();
    node.fate = ({ command }) => (command === "export" ? { until: dead.promise } : undefined);
    node.log.length = 0;
    await make("killed");
    await until("its workers run", async () => [0, 1, 2].every((index) => node.log.includes(`start export ${index}`)));
    await one.kill();
    dead.resolve();
    await until("they end", async () => node.log.includes("end export 2"));
    await says(two, "took the lease: this process leads");
    assert.deepEqual(jobsOf(await completed("killed")), normal);
    assert.equal(deleted, before, "no Job was deleted");
    assert.equal((await leader()).pod, "two");
  });

  test("the leader is frozen and continues much later: its process ends, and none of its writes arrives", async () => {
    const one = start("one", proxy.kubeconfig);
    await says(one, "took the lease: this process leads");
    const two = start("two");
    await says(two, "another process leads");
    const before = deleted;
    // The process is frozen while its request for the last Job is on its way.
    const arrives = Promise.withResolvers<undefined>();
    let waiting = false;
    proxy.fault = ({ method, url }) => {
      if (method !== "POST" || !url.includes("/jobs") || !node.log.includes("end export 2")) return undefined;
      waiting = true;
      return arrives.promise;
    };
    node.log.length = 0;
    await make("frozen");
    await until("the leader asks for the seal Job", async () => waiting);
    one.freeze();
    await says(two, "took the lease: this process leads");
    assert.deepEqual(jobsOf(await completed("frozen")), normal);
    // The first operator would handle this export, too, if it still could.
    await make("meanwhile");
    assert.deepEqual(jobsOf(await completed("meanwhile")), normal);
    const { transitions } = await leader();
    const whole = await settled();
    arrives.resolve(undefined);
    assert.deepEqual(await settled(), whole, "what comes late is refused: the name is taken");

    const calls = proxy.calls.length;
    one.thaw();
    const code = await one.ended();
    assert.equal(code, 75);
    const writes = proxy.calls.slice(calls).filter(({ method }) => method !== "GET");
    assert.deepEqual(writes, [], "nothing was sent after it went on");
    assert.deepEqual(await settled(), whole);
    assert.deepEqual(await leader(), { pod: "two", transitions });
    assert.equal(deleted, before, "no Job was deleted");
    assert.ok(
      one.lines.some(({ msg, level }) => level === "error" && String(msg).startsWith("leader election lost: ")),
      one.output.slice(-2000),
    );
    assert.match(one.output, /^fhir-export: leader election lost: the lease was not renewed in time$/m);

    // The test starts it again, as the kubelet would. It is a candidate again.
    const again = start("one");
    await says(again, "another process leads");
    assert.equal(await leading(again), "0");
    assert.equal(await again.stop(), 0);
    assert.deepEqual(await leader(), { pod: "two", transitions }, "a standby that ends changes nothing");
  });

  test("the Role gives rights to this Lease only", async () => {
    const operator = KubeClient.load(planeUsers().operator);
    try {
      await operator.get(pathOf(resources.leases, { namespace: ns.name, name: lease }));
      for (const refused of [
        () => operator.get(pathOf(resources.leases, { namespace: ns.name, name: "another" })),
        () => operator.list(pathOf(resources.leases, { namespace: ns.name })),
        () => operator.delete(pathOf(resources.leases, { namespace: ns.name, name: lease })),
      ])
        await assert.rejects(refused, (error) => error instanceof KubeError && error.status === 403);
    } finally {
      await operator.close();
    }
  });

  test("the lease expires unseen in the middle of a reconciliation: its next write is not sent", async () => {
    // This is long before a timer of the election fires.
    const jump = `const now = performance.now.bind(performance); let passed = 0; performance.now = () => now() + passed;
      process.on("SIGUSR2", () => { passed = 3600000; console.log("an hour passed"); });`;
    const env = { NODE_OPTIONS: `--import data:text/javascript,${encodeURIComponent(jump)}` };
    // The holders before were killed.
    await ns.client.delete(pathOf(resources.leases, { namespace: ns.name, name: lease }));
    const one = start("one", proxy.kubeconfig, env, [120, 90, 60]);
    await says(one, "took the lease: this process leads");
    const arrives = Promise.withResolvers<undefined>();
    let waiting = false;
    proxy.fault = ({ method, url }) => {
      if (method !== "POST" || !url.includes("/jobs")) return undefined;
      waiting = true;
      return arrives.promise;
    };
    await make("late");
    await until("the leader makes a Job", async () => waiting);
    process.kill(one.pid, "SIGUSR2");
    await until("an hour passed", async () => one.output.includes("an hour passed"));
    const calls = proxy.calls.length;
    arrives.resolve(undefined);
    assert.equal(await one.ended(), 75, one.output.slice(-2000));
    assert.deepEqual(
      proxy.calls.slice(calls).filter(({ method }) => method !== "GET"),
      [],
    );
    const { status } = await ns.client.get<FhirExport & KubeObject>(
      pathOf(resources.fhirExports, { namespace: ns.name, name: "late" }),
    );
    assert.notEqual(findCondition(status?.conditions, "Ready")?.reason, "Complete");
  });
});
