import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { KubeObject } from "../../../src/kube/client.ts";
import { until } from "../until.ts";
import { attachNode, type TestNode } from "./node.ts";

export { until };

/** Options of a test that needs the shared node, which has the project's image: `describe("...", needsNode, () => …)`.
 *  Where there is no node, the test is skipped, loudly. run.ts starts the node for files that import this one. */
export const needsNode: { skip: string | false } = { skip: whyNot() };

function whyNot(): string | false {
  const node = process.env.FHIR_EXPORT_TEST_NODE;
  if (node === undefined) return "no node: run it by test/tools/run.ts --e2e";
  return node === "1" ? false : `no node: ${node}`;
}

/** The node that all files of the e2e tier share. The files run one after the other. */
export const sharedNode = (): TestNode => attachNode();

/** Runs kubectl and fails unless it succeeds.
 *  @returns its output */
export async function kubectl(node: TestNode, args: string[], input?: string): Promise<string> {
  const { code, stdout, stderr } = await node.run(["kubectl", ...args], input === undefined ? {} : { input });
  if (code !== 0) throw new Error(`kubectl ${args.join(" ")}: ${stderr || stdout}`);
  return stdout;
}

/** Resolves when a process of the node listens at the node's address. */
export async function listens(node: TestNode, port: number): Promise<void> {
  await until(`a listener on port ${port}`, async () => {
    const { code } = await node.run(["bash", "-c", `exec 3<>/dev/tcp/${node.address}/${port}`]);
    return code === 0;
  });
}

/** Applies objects in a namespace; they must not name another one. */
export async function apply(node: TestNode, namespace: string, objects: object[]): Promise<void> {
  const list = { apiVersion: "v1", kind: "List", items: objects };
  await kubectl(node, ["apply", "--namespace", namespace, "--filename", "-"], JSON.stringify(list));
}

/** @param what as kubectl takes it: `pod/name` */
export async function get<Kind = KubeObject>(node: TestNode, namespace: string, what: string): Promise<Kind> {
  return JSON.parse(await kubectl(node, ["get", "--namespace", namespace, what, "--output", "json"])) as Kind;
}

export interface Awaited {
  namespace: string;
  /** as kubectl takes it: `pod/name` */
  what: string;
  /** default: a minute */
  ms?: number;
}

/** Polls an object until it is as awaited. If it never is, the error shows its last status. */
export async function awaitObject<Kind = KubeObject>(
  node: TestNode,
  { namespace, what, ms = 60_000 }: Awaited,
  holds: (object: Kind) => boolean,
): Promise<Kind> {
  let last: Kind | undefined;
  try {
    return await until(
      what,
      async () => {
        last = await get<Kind>(node, namespace, what);
        if (holds(last)) return last;
        // A run of kubectl costs 0.1 s of a core, which the pod needs, too.
        await sleep(150);
        return undefined;
      },
      ms,
    );
  } catch (error) {
    throw new Error(
      `${(error as Error).message}; last seen: ${JSON.stringify((last as { status?: unknown } | undefined)?.status)}`,
    );
  }
}

/** A namespace that enforces Pod Security "restricted". */
export async function restrictedNamespace(node: TestNode): Promise<{ name: string; remove: () => Promise<unknown> }> {
  const name = `test-${randomBytes(4).toString("hex")}`;
  const labels = { "pod-security.kubernetes.io/enforce": "restricted" };
  await kubectl(
    node,
    ["create", "--filename", "-"],
    JSON.stringify({ apiVersion: "v1", kind: "Namespace", metadata: { name, labels } }),
  );
  // The API server refuses pods until the controller has made the default service account.
  await until(`the service account of namespace ${name}`, async () => {
    const { code } = await node.run(["kubectl", "get", "serviceaccount", "default", "--namespace", name]);
    return code === 0;
  });
  return { name, remove: () => kubectl(node, ["delete", "namespace", name, "--wait=false"]) };
}
