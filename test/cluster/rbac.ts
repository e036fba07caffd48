import { readFileSync } from "node:fs";
import { parseAllDocuments } from "yaml";
import { type KubeClient, type KubeObject, pathOf } from "../../src/kube/client.ts";

const rbac = { api: "/apis/rbac.authorization.k8s.io/v1", plural: "" };

/** What the operator may do (test/cluster/rbac.yaml), given to the user of that name.
 *  @param namespace where it may elect a leader */
export async function applyRBAC(client: KubeClient, namespace = "default"): Promise<void> {
  for (const document of parseAllDocuments(readFileSync("test/cluster/rbac.yaml", "utf8"))) {
    const object: KubeObject = document.toJS();
    const plural = `${object.kind!.toLowerCase()}s`;
    const { name } = object.metadata;
    const at = object.kind!.startsWith("Cluster") ? { name } : { namespace, name };
    await client.apply(pathOf({ ...rbac, plural }, at), object, "test");
  }
}
