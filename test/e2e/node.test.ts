import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { imageName } from "../tools/image.ts";
import { nodeName } from "../tools/node/namespaces.ts";
import type { TestNode } from "../tools/node/node.ts";
import {
  apply,
  awaitObject,
  get,
  kubectl,
  listens,
  needsNode,
  restrictedNamespace,
  sharedNode,
  until,
} from "../tools/node/shared.ts";

interface Pod {
  metadata: { uid: string; deletionTimestamp?: string };
  status: {
    phase: string;
    conditions?: { type: string; status: string; reason?: string }[];
    containerStatuses?: {
      ready: boolean;
      restartCount: number;
      containerID: string;
      state: { terminated?: { exitCode: number; reason: string }; running?: object };
    }[];
  };
}

/** The least that a container needs under Pod Security "restricted". */
const container = (more: object) => ({
  name: "main",
  image: imageName,
  securityContext: { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ["ALL"] } },
  resources: { requests: { cpu: "10m", memory: "32Mi" }, limits: { memory: "192Mi" } },
  ...more,
});
const podSpec = (main: object, more: object = {}) => ({
  restartPolicy: "Never",
  automountServiceAccountToken: false,
  securityContext: { runAsNonRoot: true, seccompProfile: { type: "RuntimeDefault" } },
  containers: [container(main)],
  ...more,
});
const pod = (name: string, main: object, more: object = {}) => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name, labels: { app: name } },
  spec: podSpec(main, more),
});
/** A script for node, instead of the image's own program. As process 1 it is ended only by signals that it listens
 *  to. */
const script = (text: string) => ({
  command: ["node", "--eval", `process.on("SIGTERM", () => process.exit(0)); ${text}`],
});
const waits = script("setInterval(() => {}, 1000);");

const isRunning = ({ status }: Pod) => status.containerStatuses?.[0]?.ready === true;
const hasEnded = ({ status }: Pod) => status.phase === "Succeeded" || status.phase === "Failed";
const terminated = ({ status }: Pod) => status.containerStatuses?.[0]?.state.terminated;

describe("the node", needsNode, () => {
  let node: TestNode;
  let namespace: string;
  let remove: (() => Promise<unknown>) | undefined;
  before(async () => {
    if (needsNode.skip) return;
    node = sharedNode();
    ({ name: namespace, remove } = await restrictedNamespace(node));
  });
  after(() => remove?.());
  const logs = (name: string) => kubectl(node, ["logs", "--namespace", namespace, name]);

  test("is Ready, has our version of Kubernetes, and cannot reach the internet", async () => {
    const { status } = await get<{
      status: { conditions: Pod["status"]["conditions"]; nodeInfo: { kubeletVersion: string } };
    }>(node, "default", `node/${nodeName}`);
    assert.equal(status.conditions!.find(({ type }) => type === "Ready")!.status, "True");
    assert.equal(status.nodeInfo.kubeletVersion, "v1.34.2");
    assert.equal((await node.run(["ip", "route", "show", "default"])).stdout, "");
  });

  test("runs programs with input, environment and exit code, and has Helm", async () => {
    assert.deepEqual(
      await node.run(["sh", "-c", "cat; echo $GREETING >&2; exit 3"], { input: "in", env: { GREETING: "hello" } }),
      {
        stdout: "in",
        stderr: "hello\n",
        code: 3,
      },
    );
    assert.match((await node.run(["helm3", "version", "--short"])).stdout, /^v3\./);
    assert.match((await node.run(["helm4", "version", "--short"])).stdout, /^v4\./);
    assert.match((await node.run(["kubeconform", "-v"])).stdout, /\w/);
    await assert.rejects(node.run(["sleep", "100"], { timeoutMs: 300 }), /sleep 100 did not end within 0.3 s/);
    assert(!(await node.run(["sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"])).stdout.includes("sleep 100"));
  });

  test("refuses what Pod Security does not allow", async () => {
    const root = pod("root", {}, { securityContext: { runAsUser: 0 } });
    await assert.rejects(apply(node, namespace, [root]), /violates PodSecurity "restricted/);
  });

  test("runs the image to its end", async () => {
    await apply(node, namespace, [pod("help", { args: ["--help"] })]);
    const ended = await awaitObject<Pod>(node, { namespace, what: "pod/help" }, hasEnded);
    assert.deepEqual([ended.status.phase, terminated(ended)?.exitCode], ["Succeeded", 0]);
    assert.match(await logs("help"), /operator/);
  });

  test("an Indexed Job", async () => {
    const job = {
      apiVersion: "batch/v1",
      kind: "Job",
      metadata: { name: "indexed" },
      spec: {
        completionMode: "Indexed",
        completions: 3,
        parallelism: 3,
        backoffLimitPerIndex: 0,
        podReplacementPolicy: "Failed",
        podFailurePolicy: { rules: [{ action: "FailIndex", onExitCodes: { operator: "In", values: [42] } }] },
        template: { spec: podSpec(script("process.exit(process.env.JOB_COMPLETION_INDEX === '1' ? 42 : 0);")) },
      },
    };
    await apply(node, namespace, [job]);
    const ended = await awaitObject<{
      status: { conditions?: { type: string; status: string }[]; completedIndexes?: string; failedIndexes?: string };
    }>(
      node,
      { namespace, what: "job/indexed" },
      ({ status }) => status.conditions?.some(({ type, status }) => type === "Failed" && status === "True") ?? false,
    );
    assert.deepEqual([ended.status.completedIndexes, ended.status.failedIndexes], ["0,2", "1"]);
  });

  test("pods reach Services, each other and processes of the node, by name", async () => {
    const serve = (what: string, host: string) =>
      `require("node:http").createServer((_, answer) => answer.end("${what}")).listen(8080, "${host}");`;
    const onNode = node.spawn(["node", "--eval", serve("node", node.address)]);
    await listens(node, 8080);
    const service = { selector: { app: "web" }, ports: [{ port: 80, targetPort: 8080 }] };
    const probe = { httpGet: { path: "/", port: 8080 }, periodSeconds: 1 };
    await apply(node, namespace, [
      pod("web", { ...script(serve("web", "0.0.0.0")), readinessProbe: probe }),
      { apiVersion: "v1", kind: "Service", metadata: { name: "web" }, spec: service },
    ]);
    await awaitObject<Pod>(node, { namespace, what: "pod/web" }, isRunning);
    const urls = [
      `http://web.${namespace}.svc.cluster.local`,
      "http://web",
      `http://${node.address}:8080`,
      `http://${node.hostName}:8080`,
    ];
    const ask = `
      const { lookup } = require("node:dns").promises;
      // The rules for a new Service take effect after a moment.
      const get = async (url) => {
        for (let tries = 0; ; tries++)
          try { return await (await fetch(url)).text(); }
          catch (error) { if (tries === 20) return String(error.cause); await new Promise((resolve) => setTimeout(resolve, 250)); }
      };
      (async () => {
        const answers = [];
        for (const url of ${JSON.stringify(urls)}) answers.push(await get(url));
        console.log(JSON.stringify([(await lookup("kubernetes.default.svc")).address, ...answers]));
      })();`;
    await apply(node, namespace, [pod("asks", script(ask))]);
    await awaitObject<Pod>(node, { namespace, what: "pod/asks" }, hasEnded);
    assert.deepEqual(JSON.parse(await logs("asks")), ["198.18.1.1", "web", "web", "node", "node"]);
    const { stdout } = await node.run([
      "node",
      "--eval",
      `fetch("${urls[0]}").then((answer) => answer.text()).then(console.log)`,
    ]);
    assert.equal(stdout, "web\n");
    await onNode.stop();
    assert.equal(onNode.lives(), false);
  });

  test("a mounted Secret shows the changes of its object", async () => {
    const secret = (value: string) => ({
      apiVersion: "v1",
      kind: "Secret",
      metadata: { name: "token" },
      stringData: { token: value },
    });
    const main = {
      ...script(`
        const read = () => require("node:fs").readFileSync("/secret/token", "utf8");
        const first = read();
        setInterval(() => read() !== first && (console.log(first, read()), process.exit(0)), 100);`),
      volumeMounts: [{ name: "token", mountPath: "/secret", readOnly: true }],
    };
    await apply(node, namespace, [
      secret("one"),
      pod("reads", main, { volumes: [{ name: "token", secret: { secretName: "token" } }] }),
    ]);
    await awaitObject<Pod>(node, { namespace, what: "pod/reads" }, isRunning);
    await apply(node, namespace, [secret("two")]);
    await awaitObject<Pod>(node, { namespace, what: "pod/reads" }, hasEnded);
    assert.equal(await logs("reads"), "one two\n");
  });

  test("a running pod is evicted", async () => {
    await apply(node, namespace, [pod("evicted", waits)]);
    const { metadata } = await awaitObject<Pod>(node, { namespace, what: "pod/evicted" }, isRunning);
    const eviction = { apiVersion: "policy/v1", kind: "Eviction", metadata: { name: "evicted", namespace } };
    // Only a watch shows how the pod ended, as the kubelet then deletes the pod.
    const watch = node.spawn([
      "kubectl",
      "get",
      "pod",
      "evicted",
      "--namespace",
      namespace,
      "--watch",
      "--output",
      "json",
    ]);
    const seen = () => readFileSync(watch.log, "utf8");
    await until("the watch", async () => seen().includes(metadata.uid));
    const path = `/api/v1/namespaces/${namespace}/pods/evicted/eviction`;
    await kubectl(node, ["create", "--raw", path, "--filename", "-"], JSON.stringify(eviction));
    await until("the pod's eviction", async () => /"reason": "EvictionByEvictionAPI"/.test(seen()));
    await until(
      "the pod is gone",
      async () => !(await kubectl(node, ["get", "pods", "--namespace", namespace])).includes("evicted"),
    );
    await watch.stop();
  });

  test("pods keep running while the kubelet is restarted", async () => {
    await apply(node, namespace, [pod("stays", waits)]);
    const before = await awaitObject<Pod>(node, { namespace, what: "pod/stays" }, isRunning);
    await node.restartKubelet();
    // When the new kubelet has started another pod, it has seen all pods.
    await apply(node, namespace, [pod("later", { args: ["--version"] })]);
    await awaitObject<Pod>(node, { namespace, what: "pod/later" }, hasEnded);
    const now = await get<Pod>(node, namespace, "pod/stays");
    const of = ({ metadata, status }: Pod) => [
      metadata.uid,
      status.containerStatuses![0]!.containerID,
      status.containerStatuses![0]!.restartCount,
    ];
    assert.deepEqual(of(now), of(before));
    assert(isRunning(now));
  });
});
