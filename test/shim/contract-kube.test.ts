import { createHash } from "node:crypto";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathOf, resources } from "../../src/kube/client.ts";
import { applyRBAC } from "../cluster/rbac.ts";
import { OperatorProcess } from "../operator/operator.ts";
import { startSource } from "../sources/server.ts";
import { startKubelet } from "../tools/kubelet.ts";
import { kubeconfig, makeClaim, makeNamespace, needsPlane } from "../tools/namespace.ts";
import { until } from "../tools/until.ts";
import { contract } from "./contract.ts";
import { ShimProcess } from "./shim-process.ts";

contract("two replicas over Kubernetes", { ...needsPlane, timeout: 600_000 }, async () => {
  const root = await mkdtemp(join(tmpdir(), "fhir-export-contract-"));
  const [source, ns] = await Promise.all([
    startSource(),
    makeNamespace({ "pod-security.kubernetes.io/enforce": "restricted" }),
  ]);
  const file = join(root, "config.yaml");
  await writeFile(file, "");
  await mkdir(join(root, "volume"));
  await applyRBAC(ns.client);
  await makeClaim(ns, "exports", join(root, "volume"));
  const kubelet = await startKubelet({ kubeconfig: kubeconfig(), namespace: ns.name });
  const api = { apiVersion: "fhirexport.dev/v1alpha1" };
  const make = (resource: Parameters<typeof pathOf>[0], object: object) =>
    ns.client.create(pathOf(resource, { namespace: ns.name }), { ...api, ...object } as never);
  await make(resources.fhirSources, {
    kind: "FhirSource",
    metadata: { name: "hospital" },
    spec: { baseURL: source.baseURL },
  });
  await make(resources.exportTargets, {
    kind: "ExportTarget",
    metadata: { name: "research" },
    spec: { volume: { claimName: "exports", path: "fhir" } },
  });
  const operator = new OperatorProcess([
    ...["--namespace", ns.name, "--image", "fhir-export:test", "--shard-resources", "500", "--inline-resources", "0"],
    ...["--retry-seconds", "5", "--progress-seconds", "1", "--poll-seconds", "1"],
  ]);
  operator.start();
  const args = ["--source", "hospital", "--target", "research", "--namespace", ns.name, "--config", file];
  const shims = await ShimProcess.replicas(2, [...args, "--volume-root", join(root, "volume")]);
  const [first, ...others] = shims.map(({ baseURL }) => baseURL);
  let number = 0;
  return {
    base: first!,
    others,
    source,
    folder: root,
    write: (text) => writeFile(file, text),
    output: () => shims.map(({ output }) => output).join(""),
    configure: async (text) => {
      const content = `# ${++number}\n${text}\n`;
      await writeFile(file, content);
      const digest = createHash("sha256").update(content).digest("hex").slice(0, 12);
      await until("the configuration", async () => shims.every(({ output }) => output.includes(digest)));
    },
    close: async () => {
      await Promise.all(shims.map((shim) => shim.kill()));
      await operator.stop();
      await kubelet.stop();
      await ns.remove();
      await source.close();
      await rm(root, { recursive: true, force: true });
    },
  };
});
