import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { parseAllDocuments } from "yaml";
import type { TestNode } from "../tools/node/node.ts";
import { apply, kubectl, needsNode, restrictedNamespace, sharedNode, until } from "../tools/node/shared.ts";
import { variants } from "./variants.ts";

const root = join(import.meta.dirname, "../..");

/** What the chart's ValidatingAdmissionPolicies refuse, on the API server and with users of each kind. */
describe("the admission policies of the chart", needsNode, () => {
  let node: TestNode;
  let namespace: string;
  let remove: (() => Promise<unknown>) | undefined;
  let policies: object[] = [];

  before(async () => {
    if (needsNode.skip) return;
    node = sharedNode();
    ({ name: namespace, remove } = await restrictedNamespace(node));
    await kubectl(node, ["apply", "--server-side", "--force-conflicts", "--filename", join(root, "crds")]);
    await kubectl(node, ["wait", "--for=condition=Established", "--timeout=30s", "--filename", join(root, "crds")]);
    const values = join(node.files, "policy-values.json");
    writeFileSync(values, JSON.stringify(variants.usual));
    const { stdout, code, stderr } = await node.run([
      "helm3",
      "template",
      "policies",
      join(root, "charts/fhir-export"),
      "--namespace",
      namespace,
      "--values",
      values,
      "--kube-version",
      "1.34.2",
    ]);
    assert.equal(code, 0, stderr);
    policies = parseAllDocuments(stdout)
      .map((document) => document.toJS() as { kind: string } | null)
      .filter((one) => one?.kind.startsWith("ValidatingAdmissionPolicy"))
      .map((one) => one as object);
    assert.equal(policies.length, 4);
    const role = (name: string, ...rules: object[]) => [
      { apiVersion: "rbac.authorization.k8s.io/v1", kind: "Role", metadata: { name }, rules },
      {
        apiVersion: "rbac.authorization.k8s.io/v1",
        kind: "RoleBinding",
        metadata: { name },
        roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "Role", name },
        subjects: [{ kind: "User", name }],
      },
    ];
    const ours = (resources: string[], verbs: string[], resourceNames?: string[]) => ({
      apiGroups: ["fhirexport.dev"],
      resources,
      verbs,
      ...(resourceNames && { resourceNames }),
    });
    const all = ["get", "create", "update", "patch"];
    await apply(node, namespace, [
      ...policies,
      { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: "identity" } },
      ...role("writer", ours(["fhirsources", "exporttargets", "fhirexports"], all)),
      ...role(
        "owner",
        ours(["fhirsources", "exporttargets", "fhirexports"], all),
        { apiGroups: [""], resources: ["secrets"], resourceNames: ["own"], verbs: ["get"] },
        { apiGroups: [""], resources: ["serviceaccounts"], resourceNames: ["identity"], verbs: ["impersonate"] },
      ),
      ...role("exporter", ours(["fhirexports"], all), ours(["fhirsources", "exporttargets"], ["use"], ["allowed"])),
      ...role(
        "service",
        ours(["fhirexports"], [...all, "originate"]),
        ours(["fhirsources", "exporttargets"], ["use"], ["allowed"]),
      ),
    ]);
    // A policy takes effect a moment after it was made.
    await until(
      "the policies",
      async () => (await attempt("writer", source({ bearer: { secretRef: { name: "any" } } }))) !== undefined,
      30_000,
    );
  });
  after(async () => {
    await remove?.();
    if (policies.length)
      await node.run(["kubectl", "delete", "--filename", "-"], {
        input: JSON.stringify({ apiVersion: "v1", kind: "List", items: policies }),
      });
  });

  const object = (kind: string, spec: object) => ({
    apiVersion: "fhirexport.dev/v1alpha1",
    kind,
    metadata: { name: "tried" },
    spec,
  });
  const source = (auth: object, more: object = {}) =>
    object("FhirSource", { baseURL: "https://fhir.example.org", auth, ...more });
  const target = (auth: object) => object("ExportTarget", { azureBlob: { accountURL: "https://a.example", auth } });
  const run = (name: string, more: object = {}) =>
    object("FhirExport", { sourceRef: { name }, targetRef: { name }, ...more });
  const origin = { origin: { client: "someone", request: "https://fhir.example/$export" } };

  /** @returns the API server's refusal; undefined = it accepts the object */
  async function attempt(user: string, one: object): Promise<string | undefined> {
    const { code, stderr } = await node.run(
      ["kubectl", "create", "--dry-run=server", "--namespace", namespace, "--as", user, "--filename", "-"],
      { input: JSON.stringify(one) },
    );
    return code === 0 ? undefined : stderr;
  }

  const secretRef = { name: "own" };
  const cases: [name: string, user: string, one: () => object, refused?: RegExp][] = [
    ["a source without credentials", "writer", () => source({ none: {} })],
    ...(["basic", "bearer"] as const).map((kind): (typeof cases)[number] => [
      `a Secret that one may not read (${kind})`,
      "writer",
      () => source({ [kind]: { secretRef } }),
      /you must be allowed to get each Secret that you name: own/,
    ]),
    [
      "… (oauth2)",
      "writer",
      () => source({ oauth2: { tokenURL: "https://a.example", clientID: "c", secretRef } }),
      /you must be allowed to get each Secret that you name: own/,
    ],
    [
      "… (smart)",
      "writer",
      () => source({ smart: { clientID: "c", secretRef } }),
      /you must be allowed to get each Secret that you name: own/,
    ],
    [
      "… (a client certificate)",
      "writer",
      () => source({ none: {} }, { tls: { clientCertificateRef: secretRef } }),
      /you must be allowed to get each Secret that you name: own/,
    ],
    [
      "… (a CA in a Secret)",
      "writer",
      () => source({ none: {} }, { tls: { caRef: { kind: "Secret", ...secretRef } } }),
      /you must be allowed to get each Secret that you name: own/,
    ],
    ["a CA in a ConfigMap", "writer", () => source({ none: {} }, { tls: { caRef: secretRef } })],
    [
      "… (SAS)",
      "writer",
      () => target({ sasRef: secretRef }),
      /you must be allowed to get each Secret that you name: own/,
    ],
    [
      "… (connection string)",
      "writer",
      () => target({ connectionStringRef: secretRef }),
      /you must be allowed to get each Secret that you name: own/,
    ],
    [
      "a ServiceAccount that one may not impersonate (source)",
      "writer",
      () => source({ workloadIdentity: { serviceAccountName: "identity", scope: "s" } }),
      /you must be allowed to impersonate each ServiceAccount that you name: identity/,
    ],
    [
      "… (target)",
      "writer",
      () => target({ workloadIdentity: { serviceAccountName: "identity" } }),
      /you must be allowed to impersonate each ServiceAccount that you name: identity/,
    ],
    ["one's own Secret (source)", "owner", () => source({ bearer: { secretRef } })],
    ["one's own Secret (target)", "owner", () => target({ sasRef: secretRef })],
    ["one's own ServiceAccount", "owner", () => target({ workloadIdentity: { serviceAccountName: "identity" } })],
    [
      "another one's Secret",
      "owner",
      () => source({ bearer: { secretRef: { name: "other" } } }),
      /you must be allowed to get each Secret that you name: other/,
    ],
    ["an export from and to what one may use", "exporter", () => run("allowed")],
    [
      "an export from what one may not use",
      "exporter",
      () => run("forbidden"),
      /you may not use the FhirSource forbidden/,
    ],
    [
      "an export to what one may not use",
      "exporter",
      () => object("FhirExport", { sourceRef: { name: "allowed" }, targetRef: { name: "forbidden" } }),
      /you may not use the ExportTarget forbidden/,
    ],
    [
      "who may write sources may not use them for that alone",
      "owner",
      () => run("allowed"),
      /you may not use the FhirSource allowed/,
    ],
    [
      "an export in a client's name",
      "exporter",
      () => run("allowed", origin),
      /only the HTTP service may set spec\.origin/,
    ],
    ["… by the HTTP service", "service", () => run("allowed", origin)],
  ];
  for (const [name, user, one, refused] of cases)
    test(`${name}: ${refused ? "refused" : "accepted"}`, async () => {
      const said = await attempt(user, one());
      if (refused) assert.match(said ?? "taken", refused);
      else assert.equal(said, undefined);
    });

  test("a user who may not read the Secret may change labels, and nothing of the spec", async () => {
    await apply(node, namespace, [{ ...source({ bearer: { secretRef } }), metadata: { name: "there" } }]);
    const patch = (what: object) =>
      node.run([
        "kubectl",
        "patch",
        "fhirsource/there",
        "--namespace",
        namespace,
        "--as",
        "writer",
        "--type",
        "merge",
        "--patch",
        JSON.stringify(what),
      ]);
    assert.equal((await patch({ metadata: { labels: { a: "b" } } })).code, 0);
    const said = await patch({ spec: { baseURL: "https://mine.example" } });
    assert.match(said.stderr, /you must be allowed to get each Secret that you name: own/);
  });
});
