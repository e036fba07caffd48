import { readFileSync } from "node:fs";
import { parseAllDocuments } from "yaml";
import { type KubeClient, type KubeObject, pathOf } from "../../src/kube/client.ts";

const rbac = { api: "/apis/rbac.authorization.k8s.io/v1", plural: "" };

/** What the operator may do (test/cluster/rbac.yaml), given to the user of that name. */
export async function applyRBAC(client: KubeClient): Promise<void> {
  for (const document of parseAllDocuments(readFileSync("test/cluster/rbac.yaml", "utf8"))) {
    const object: KubeObject = document.toJS();
    const plural = `${object.kind!.toLowerCase()}s`;
    await client.apply(pathOf({ ...rbac, plural }, { name: object.metadata.name }), object, "test");
  }
}
