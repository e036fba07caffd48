import { readFileSync } from "node:fs";
import { parseAllDocuments } from "yaml";
import { type KubeClient, type KubeObject, pathOf } from "../../src/kube/client.ts";

const rbac = { api: "/apis/rbac.authorization.k8s.io/v1", plural: "" };

/** Gives the user `operator` the operator's rights (test/cluster/rbac.yaml).
 *  @param namespace where it may take part in a leader election */
export async function applyRBAC(client: KubeClient, namespace = "default"): Promise<void> {
  for (const document of parseAllDocuments(readFileSync("test/cluster/rbac.yaml", "utf8"))) {
    const object: KubeObject = document.toJS();
    const plural = `${object.kind!.toLowerCase()}s`;
    const { name } = object.metadata;
    const at = object.kind!.startsWith("Cluster") ? { name } : { namespace, name };
    await client.apply(pathOf({ ...rbac, plural }, at), object, "test");
  }
}
