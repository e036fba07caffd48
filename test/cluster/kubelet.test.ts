import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { type KubeObject, pathOf, resources } from "../../src/kube/client.ts";
import { isNotFound } from "../../src/kube/error.ts";
import { type Kubelet, startKubelet } from "../tools/kubelet.ts";
import { kubeconfig, makeClaim, makeNamespace, type Namespace, needsPlane, until } from "../tools/namespace.ts";

interface Job extends KubeObject {
  spec: Record<string, unknown>;
  status?: {
    succeeded?: number;
    active?: number;
    terminating?: number;
    completedIndexes?: string;
    conditions?: { type: string; status: string; reason: string }[];
  };
}
interface Pod extends KubeObject {
  spec: Record<string, unknown>;
  status?: {
    phase: string;
    podIP?: string;
    reason?: string;
    message?: string;
    conditions?: { type: string; status: string }[];
    containerStatuses?: {
      state: {
        running?: object;
        waiting?: { reason: string; message: string };
        terminated?: { exitCode: number; signal?: number; message: string; startedAt: string; finishedAt: string };
      };
    }[];
  };
}

describe("process kubelet", () => {
  let namespace: Namespace;
  let kubelet: Kubelet;
  const folder = mkdtempSync(join(tmpdir(), "fhir-export-test-"));
  before(async () => {
    if (needsPlane.skip) return;
    namespace = await makeNamespace();
    kubelet = await startKubelet({ kubeconfig: kubeconfig(), namespace: namespace.name });
  });
  after(async () => {
    await kubelet?.stop();
    await namespace?.remove();
    rmSync(folder, { recursive: true });
  });

  const at = (resource: { api: string; plural: string }, name?: string) =>
    pathOf(resource, { namespace: namespace.name, ...(name && { name }) });
  const container = (script: string, more: object = {}) => ({
    name: "main",
    image: "node:test",
    args: ["-e", script],
    ...more,
  });
  const podSpec = (script: string, more: object = {}, inContainer: object = {}) => ({
    restartPolicy: "Never",
    automountServiceAccountToken: false,
    containers: [container(script, inContainer)],
    ...more,
  });
  const makePod = (name: string, spec: Record<string, unknown>, annotations = {}) =>
    namespace.client.create<Pod>(at(resources.pods), {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name, annotations },
      spec,
    });
  const makeJob = (name: string, spec: Record<string, unknown>) =>
    namespace.client.create<Job>(at(resources.jobs), { apiVersion: "batch/v1", kind: "Job", metadata: { name }, spec });
  const pod = (name: string) => namespace.client.get<Pod>(at(resources.pods, name));
  const phase = (name: string, wanted: string) =>
    until(`pod ${name} ${wanted}`, async () => {
      const found = await pod(name);
      const { phase, containerStatuses } = found.status ?? {};
      if (phase === wanted) return found;
      if (phase === "Succeeded" || phase === "Failed")
        assert.fail(`${name} ${phase}: ${JSON.stringify(containerStatuses)}\n${kubelet.log(name)}`);
      return undefined;
    });
  const jobEnd = (name: string) =>
    until(`the end of Job ${name}`, async () => {
      const { status } = await namespace.client.get<Job>(at(resources.jobs, name));
      const end = status?.conditions?.find(
        ({ type, status }) => ["Complete", "Failed"].includes(type) && status === "True",
      );
      return end && { ...end, ...status };
    });
  const podsOf = async (job: string) =>
    (await namespace.client.list<Pod>(at(resources.pods), { labelSelector: `job-name=${job}` })).items;
  const isGone = (name: string) =>
    until(`pod ${name} gone`, () =>
      pod(name).then(
        () => false,
        (error) => isNotFound(error),
      ),
    );
  const alive = (pid: number) =>
    existsSync(`/proc/${pid}`) && !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, "latin1"));
  const running = (name: string) =>
    until(`the process of ${name} to speak`, async () =>
      kubelet.log(name).includes("ready") ? kubelet.pidOf(name) : undefined,
    );
  const ready = "console.log('ready'); setInterval(() => {}, 1000);";

  test(
    "an Indexed Job completes: every index ran in its own process, with its own address, and said so",
    needsPlane,
    async () => {
      const script = `require("node:fs").writeFileSync(process.env.END, "index " + process.env.JOB_COMPLETION_INDEX + " at " + process.env.POD_IP)`;
      const env = [
        { name: "POD_IP", valueFrom: { fieldRef: { fieldPath: "status.podIP" } } },
        { name: "END", value: "/dev/termination-log" },
      ];
      await makeJob("indexed", {
        completionMode: "Indexed",
        completions: 5,
        parallelism: 3,
        template: { spec: podSpec(script, {}, { env }) },
      });
      const end = await jobEnd("indexed");
      assert.deepEqual([end.type, end.completedIndexes], ["Complete", "0-4"]);
      const pods = await podsOf("indexed");
      const messages = pods.map(({ status }) => status!.containerStatuses![0]!.state.terminated!.message).sort();
      assert.deepEqual(
        messages,
        pods
          .map(
            ({ metadata, status }) =>
              `index ${metadata.annotations!["batch.kubernetes.io/job-completion-index"]} at ${status!.podIP}`,
          )
          .sort(),
      );
      assert.deepEqual(
        messages.map((message) => message.slice(0, 7)),
        ["index 0", "index 1", "index 2", "index 3", "index 4"],
      );
      assert.equal(new Set(pods.map(({ status }) => status!.podIP)).size, 5);
      // The conditions that the scheduler wrote are kept.
      assert.ok(pods.every(({ status }) => status!.conditions!.some(({ type }) => type === "PodScheduled")));
    },
  );

  test("exit code 64 ends the whole Job by its podFailurePolicy", needsPlane, async () => {
    const rules = [{ action: "FailJob", onExitCodes: { containerName: "main", operator: "In", values: [64] } }];
    const script = "process.exit(process.env.JOB_COMPLETION_INDEX === '1' ? 64 : 0)";
    const spec = {
      completionMode: "Indexed",
      completions: 2,
      parallelism: 2,
      backoffLimitPerIndex: 6,
      podFailurePolicy: { rules },
    };
    await makeJob("terminal", { ...spec, template: { spec: podSpec(script) } });
    const end = await jobEnd("terminal");
    assert.deepEqual([end.type, end.reason], ["Failed", "PodFailurePolicy"]);
    const failed = (await podsOf("terminal")).filter(({ status }) => status!.phase === "Failed");
    assert.deepEqual(
      failed.map(({ status }) => status!.containerStatuses![0]!.state.terminated!.exitCode),
      [64],
    );
  });

  test("suspend ends the processes; resume starts new ones", needsPlane, async () => {
    await makeJob("suspended", { podReplacementPolicy: "Failed", template: { spec: podSpec(ready) } });
    const [first] = await until("a pod", async () => {
      const pods = await podsOf("suspended");
      return pods.length > 0 && pods;
    });
    const pid = await running(first!.metadata.name);
    await namespace.client.patch(at(resources.jobs, "suspended"), { spec: { suspend: true } });
    await isGone(first!.metadata.name);
    assert.equal(alive(pid), false);
    const { status } = await namespace.client.get<Job>(at(resources.jobs, "suspended"));
    assert.equal(status?.active ?? 0, 0);
    await namespace.client.patch(at(resources.jobs, "suspended"), { spec: { suspend: false } });
    const second = await until("another pod", async () => (await podsOf("suspended"))[0]);
    assert.notEqual(await running(second.metadata.name), pid);
    await namespace.client.delete(at(resources.jobs, "suspended"), { propagationPolicy: "Foreground" });
    await isGone(second.metadata.name);
  });

  test(
    "delete sends SIGTERM; who ignores it is killed after the grace time; the end is reported before the pod goes",
    needsPlane,
    async () => {
      const polite = `process.on("SIGTERM", () => { require("node:fs").writeFileSync(process.env.END, "polite"); process.exit(143); }); ${ready}`;
      const env = [{ name: "END", value: "/dev/termination-log" }];
      await makePod("polite", podSpec(polite, {}, { env }));
      await makePod(
        "stubborn",
        podSpec(`process.on("SIGTERM", () => console.log("no")); ${ready}`, { terminationGracePeriodSeconds: 1 }),
      );
      const pids = [await running("polite"), await running("stubborn")];
      const ends = new Map<string, Pod>();
      const stop = new AbortController();
      const { resourceVersion } = await namespace.client.list(at(resources.pods));
      const watching = (async () => {
        for await (const { object } of namespace.client.watch<Pod>(at(resources.pods), {
          resourceVersion,
          timeoutSeconds: 60,
          signal: stop.signal,
        }))
          if ("status" in object) ends.set(object.metadata.name, object as Pod);
      })().catch(() => {});
      const start = Date.now();
      await Promise.all(["polite", "stubborn"].map((name) => namespace.client.delete(at(resources.pods, name))));
      await isGone("polite");
      assert.equal(alive(pids[0]!), false);
      assert.equal(alive(pids[1]!), true);
      await isGone("stubborn");
      assert.equal(alive(pids[1]!), false);
      assert.ok(Date.now() - start >= 1000);
      assert.match(kubelet.log("stubborn"), /no/);
      stop.abort();
      await watching;
      const terminated = (name: string) => ends.get(name)?.status?.containerStatuses?.[0]?.state.terminated;
      assert.deepEqual([terminated("polite")?.exitCode, terminated("polite")?.message], [143, "polite"]);
      assert.deepEqual([terminated("stubborn")?.exitCode, terminated("stubborn")?.signal], [137, 9]);
    },
  );

  test(
    "Secrets, ConfigMaps and claims are folders, and every path to them is the host's, also in a mounted file",
    needsPlane,
    async () => {
      await makeClaim(namespace, "output", folder);
      const { client } = namespace;
      const task = JSON.stringify({ folder: "/output/data", other: "/outputs" });
      const data = { "task.json": Buffer.from(task).toString("base64"), unused: "" };
      const spec = podSpec(
        `const fs = require("node:fs"), [task, ca, marker] = process.argv.slice(1);
       const { folder, other } = JSON.parse(fs.readFileSync(task, "utf8"));
       fs.mkdirSync(folder);
       fs.writeFileSync(folder + "/it", JSON.stringify({ ca: fs.readFileSync(ca, "utf8"), mode: (fs.statSync(task).mode & 0o777).toString(8),
         files: fs.readdirSync(process.env.RUN).sort(), other, marker, env: process.env.EXPANDED }));
       fs.writeFileSync(process.env.TMPDIR + "/x", "")`,
        {
          volumes: [
            {
              name: "run",
              projected: {
                sources: [
                  { secret: { name: "task", items: [{ key: "task.json", path: "task.json" }] } },
                  { configMap: { name: "ca", items: [{ key: "ca.crt", path: "source/ca.crt" }] } },
                ],
              },
            },
            { name: "output", persistentVolumeClaim: { claimName: "output" } },
            { name: "tmp", emptyDir: {} },
          ],
        },
        {
          volumeMounts: [
            { name: "run", mountPath: "/run/it", readOnly: true },
            { name: "output", mountPath: "/output" },
            { name: "tmp", mountPath: "/tmp" },
          ],
          env: [
            { name: "RUN", value: "/run/it" },
            { name: "A", value: "a" },
            { name: "EXPANDED", value: "$(A) $$(A) $(MISSING)" },
          ],
        },
      );
      spec.containers[0]!.args.push("$(RUN)/task.json", "/run/it/source/ca.crt", "http://host/output /output-2");
      await makePod("mounts", spec);
      // The pod is not started before its volumes can be mounted, and it says why.
      const waiting = await until(
        "the missing Secret named",
        async () => (await pod("mounts")).status?.containerStatuses?.[0]?.state.waiting?.message,
        // If the event of the volume comes before that of the claim, the controller binds the claim up to 15 s later.
        120_000,
      );
      assert.match(waiting, /secrets\/task: 404/);
      const made = { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "ca" }, data: { "ca.crt": "CERT" } };
      await client.create<KubeObject>(at(resources.configMaps), made);
      await client.create<KubeObject>(at(resources.secrets), {
        apiVersion: "v1",
        kind: "Secret",
        metadata: { name: "task" },
        data,
      } as KubeObject);
      await phase("mounts", "Succeeded");
      const said = JSON.parse(readFileSync(join(folder, "data", "it"), "utf8"));
      assert.deepEqual(said, {
        ca: "CERT",
        mode: "440",
        files: ["source", "task.json"],
        other: "/outputs",
        marker: "http://host/output /output-2",
        env: "a $(A) $(MISSING)",
      });
      assert.deepEqual(readdirSync(folder), ["data"]);
    },
  );

  test("a field that it does not know fails the pod, and is named", needsPlane, async () => {
    const cases: [string, Record<string, unknown>][] = [
      ["spec.hostNetwork", podSpec("", { hostNetwork: true })],
      ["spec.containers[0].lifecycle", podSpec("", {}, { lifecycle: { preStop: { sleep: { seconds: 1 } } } })],
      [
        "spec.containers[0].volumeMounts[0].subPath",
        podSpec(
          "",
          { volumes: [{ name: "a", emptyDir: {} }] },
          { volumeMounts: [{ name: "a", mountPath: "/a", subPath: "b" }] },
        ),
      ],
      ["spec.volumes[0].hostPath", podSpec("", { volumes: [{ name: "a", hostPath: { path: "/" } }] })],
      ["spec.restartPolicy Always", podSpec("", { restartPolicy: "Always" })],
      ["spec.volumes[0].projected.sources[0].serviceAccountToken", podSpec("", { automountServiceAccountToken: true })],
    ];
    for (const [i, [field, spec]] of cases.entries()) {
      await makePod(`unknown-${i}`, spec);
      const { status } = await phase(`unknown-${i}`, "Failed");
      assert.deepEqual(
        [status!.reason, status!.message],
        ["UnknownField", `the process kubelet does not know ${field}`],
      );
    }
  });

  test("an unknown image, and a command that cannot be started", needsPlane, async () => {
    await makePod("no-image", { ...podSpec(""), containers: [{ name: "main", image: "nowhere/x:1" }] });
    const waiting = await until(
      "why it waits",
      async () => (await pod("no-image")).status?.containerStatuses?.[0]?.state.waiting,
    );
    assert.deepEqual(waiting, { reason: "ErrImageNeverPull", message: "image nowhere/x:1 is not on this node" });
    await namespace.client.delete(at(resources.pods, "no-image"));
    await isGone("no-image");
    await makePod("no-command", {
      ...podSpec(""),
      containers: [{ name: "main", image: "node:test", command: ["/no/such/program"] }],
    });
    const { status } = await phase("no-command", "Failed");
    assert.match(status!.containerStatuses![0]!.state.terminated!.message, /ENOENT/);
  });

  test(
    "kill, freeze and thaw from outside; a process that was killed takes its own children along",
    needsPlane,
    async () => {
      const script = `const child = require("node:child_process").spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"]);
      let n = 0; setInterval(() => console.log("tick " + n++), 20); console.log("child " + child.pid); ${ready}`;
      await makePod("killed", podSpec(script));
      await running("killed");
      const child = Number(/child (\d+)/.exec(kubelet.log("killed"))![1]);
      assert.ok(alive(child));
      kubelet.freeze("killed");
      const state = () => readFileSync(`/proc/${kubelet.pidOf("killed")}/stat`, "latin1").split(") ")[1]![0];
      await until("it stops", async () => state() === "T");
      const frozen = kubelet.log("killed").length;
      kubelet.thaw("killed");
      await until("it goes on", async () => kubelet.log("killed").length > frozen);
      assert.equal(kubelet.kill("killed"), true);
      const { status } = await phase("killed", "Failed");
      assert.deepEqual(
        [status!.containerStatuses![0]!.state.terminated!.exitCode, kubelet.pidOf("killed")],
        [137, undefined],
      );
      await until("its child is gone", async () => !alive(child));
      assert.equal(kubelet.kill("killed"), false);
    },
  );

  test("a lost node reports nothing until it is back", needsPlane, async () => {
    await makePod("lost", podSpec(ready));
    const pid = await running("lost");
    await phase("lost", "Running");
    await kubelet.halt();
    await namespace.client.delete(at(resources.pods, "lost"));
    await makePod("late", podSpec(""));
    await until("the late one is bound", async () => (await pod("late")).spec.nodeName as string);
    assert.deepEqual([(await pod("lost")).status!.phase, alive(pid)], ["Running", true]);
    kubelet.kill("lost");
    await until("it is gone", async () => !alive(pid));
    assert.deepEqual([(await pod("lost")).status!.phase, (await pod("late")).status!.phase], ["Running", "Pending"]);
    await kubelet.resume();
    await isGone("lost");
    await phase("late", "Succeeded");
  });
});
