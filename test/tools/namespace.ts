import { randomBytes } from "node:crypto";
import { KubeClient, pathOf, resources } from "../../src/kube/client.ts";
import { isNotFound } from "../../src/kube/error.ts";
import type { ControlPlane } from "./control-plane.ts";
import { until } from "./until.ts";

export { until };

/** Options of a test that needs the shared control plane: `test("...", needsPlane, async () => …)`. Without one the
 *  test is skipped, loudly. run.ts starts the control plane for files that import this one. */
export const needsPlane: { skip: string | false } = { skip: whyNot() };

function whyNot(): string | false {
  const plane = process.env.FHIR_EXPORT_TEST_PLANE;
  if (process.env.FHIR_EXPORT_TEST_TIER === "T0") return "FHIR_EXPORT_TEST_TIER=T0: no control plane";
  if (plane === undefined) return "no control plane: run it by test/tools/run.ts";
  return plane === "1" ? false : `no control plane: ${plane}`;
}

/** Kubeconfigs of the shared control plane's users without rights. */
export const planeUsers = (): ControlPlane["users"] => JSON.parse(process.env.FHIR_EXPORT_TEST_USERS!);
export const kubeconfig = (): string => process.env.KUBECONFIG!;
export const kubectl = (): string => process.env.FHIR_EXPORT_TEST_KUBECTL!;

export interface Namespace {
  name: string;
  /** a client with the rights of admin */
  client: KubeClient;
  /** Starts the deletion of the namespace with all its objects (which takes 5 to 10 s) and closes the client. */
  remove(): Promise<void>;
}

/** Makes a namespace for a test on the shared control plane. Its pods wait for a node of the test, too:
 *  `startKubelet({namespace})`. */
export async function makeNamespace(labels: Record<string, string> = {}): Promise<Namespace> {
  const client = KubeClient.load(kubeconfig());
  const name = `test-${randomBytes(4).toString("hex")}`;
  const annotations = { "scheduler.alpha.kubernetes.io/node-selector": `fhir-export-test/namespace=${name}` };
  await client.create(pathOf(resources.namespaces), {
    apiVersion: "v1",
    kind: "Namespace",
    metadata: { name, labels, annotations },
  });
  // The API server refuses pods until the controller has made the default service account.
  await until(`the service account of namespace ${name}`, async () => {
    try {
      return await client.get(
        pathOf({ api: "/api/v1", plural: "serviceaccounts" }, { namespace: name, name: "default" }),
      );
    } catch (error) {
      if (!isNotFound(error)) throw error;
      return undefined;
    }
  });
  return {
    name,
    client,
    remove: async () => {
      await client.delete(pathOf(resources.namespaces, { name }));
      await client.close();
    },
  };
}

/** A claim that the process kubelet mounts, on a folder of this machine. */
export async function makeClaim({ client, name: namespace }: Namespace, name: string, path: string): Promise<void> {
  const volumeName = `${namespace}-${name}`;
  const spec = { accessModes: ["ReadWriteMany"], storageClassName: "" };
  const volume = {
    capacity: { storage: "1Gi" },
    hostPath: { path },
    claimRef: { namespace, name },
    persistentVolumeReclaimPolicy: "Retain",
  };
  const claim = { volumeName, resources: { requests: { storage: "1Gi" } } };
  const at = (plural: string) => ({ api: "/api/v1", plural });
  const made = {
    apiVersion: "v1",
    kind: "PersistentVolume",
    metadata: { name: volumeName },
    spec: { ...spec, ...volume },
  };
  await client.create(pathOf(at("persistentvolumes")), made);
  const asked = {
    apiVersion: "v1",
    kind: "PersistentVolumeClaim",
    metadata: { name, namespace },
    spec: { ...spec, ...claim },
  };
  await client.create(pathOf(at("persistentvolumeclaims"), { namespace }), asked);
}
