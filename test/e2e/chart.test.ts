import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { parse, parseAllDocuments } from "yaml";
import type { TestNode } from "../tools/node/node.ts";
import { kubectl, needsNode, restrictedNamespace, sharedNode } from "../tools/node/shared.ts";
import { writeSchemas } from "./schemas.ts";
import { refused, variants } from "./variants.ts";

const root = join(import.meta.dirname, "../..");
const chart = join(root, "charts/fhir-export");
const helms = ["helm3", "helm4"] as const;
/** kinds of APIs that the node's API server does not have */
const foreign = ["PodMonitor", "HTTPRoute"];

interface Rendered {
  kind: string;
  metadata: { name: string; namespace?: string };
  spec?: { template?: { spec: PodSpec } } & PodSpec;
  rules?: { apiGroups: string[]; resources: string[]; verbs: string[] }[];
}
interface PodSpec {
  automountServiceAccountToken?: boolean;
  securityContext?: object;
  containers?: { image: string; securityContext: { readOnlyRootFilesystem?: boolean }; env?: { name: string }[] }[];
}

// kube-linter's modules are on no registry that tests may use (golang.stackrox.io), so its tests run only where it is
// installed.
const hasLinter = spawnSync("kube-linter", ["version"]).status === 0;
if (!hasLinter) console.log("!! SKIPPED: kube-linter over the chart, as it is not installed");
const noLinter = { skip: !hasLinter && "kube-linter is not installed" };

const dryRun = ["kubectl", "apply", "--server-side", "--dry-run=server", "--validate=strict"];

describe("the chart", needsNode, () => {
  let node: TestNode;
  let folder: string;
  let namespace: string;
  let remove: (() => Promise<unknown>) | undefined;
  before(async () => {
    if (needsNode.skip) return;
    node = sharedNode();
    folder = join(node.files, "chart");
    mkdirSync(folder, { recursive: true });
    ({ name: namespace, remove } = await restrictedNamespace(node));
    await kubectl(node, ["apply", "--server-side", "--force-conflicts", "--filename", join(root, "crds")]);
    await kubectl(node, ["wait", "--for=condition=Established", "--timeout=30s", "--filename", join(root, "crds")]);
    await writeSchemas(node, folder);
  });
  after(() => remove?.());

  const valuesFile = (values: object) => {
    const file = join(folder, "values.json");
    writeFileSync(file, JSON.stringify(values));
    return file;
  };
  const helm = (program: string, ...args: string[]) => node.run([program, ...args]);
  async function render(values: object, program: string = helms[0]): Promise<string> {
    const { stdout, stderr, code } = await helm(
      program,
      "template",
      "release",
      chart,
      "--namespace",
      namespace,
      "--values",
      valuesFile(values),
      "--kube-version",
      "1.34.2",
      "--include-crds=false",
    );
    assert.equal(code, 0, stderr);
    return stdout;
  }
  const objectsOf = (text: string) =>
    parseAllDocuments(text)
      .map((document) => document.toJS() as Rendered | null)
      .filter((one) => one !== null);

  for (const [name, values] of Object.entries(variants)) {
    test(`${name}: lint, strictly`, async () => {
      for (const program of helms) {
        const { stdout, stderr, code } = await helm(
          program,
          "lint",
          "--strict",
          chart,
          "--namespace",
          namespace,
          "--values",
          valuesFile(values),
          "--kube-version",
          "1.34.2",
        );
        assert.equal(code, 0, stdout + stderr);
      }
    });

    test(`${name}: every object conforms to the API server's schemas, and the API server accepts it`, async () => {
      const text = await render(values);
      // Helm 3 and Helm 4 render the same objects, but for generated keys and the order.
      assert.deepEqual(
        objectsOf(await render(values, helms[1]))
          .map(({ kind, metadata }) => `${kind} ${metadata.name}`)
          .sort(),
        objectsOf(text)
          .map(({ kind, metadata }) => `${kind} ${metadata.name}`)
          .sort(),
      );
      const check = [
        "kubeconform",
        "-strict",
        "-summary",
        "-schema-location",
        `${folder}/schemas/{{.ResourceKind}}-{{.Group}}-{{.ResourceAPIVersion}}.json`,
        "-skip",
        foreign.join(","),
      ];
      const conform = await node.run(check, { input: text });
      assert.equal(conform.code, 0, conform.stdout + conform.stderr);
      const known = objectsOf(text).filter(({ kind }) => !foreign.includes(kind));
      // The values name namespaces, which must exist.
      for (const one of known) if (one.metadata.namespace) one.metadata.namespace = namespace;
      const unique = [...new Map(known.map((one) => [`${one.kind}/${one.metadata.name}`, one])).values()];
      const list = { apiVersion: "v1", kind: "List", items: unique };
      const dry = await node.run([...dryRun, "--namespace", namespace, "--filename", "-"], {
        input: JSON.stringify(list),
      });
      assert.equal(dry.code, 0, dry.stderr);
      // Pod Security refuses only pods. For Deployments and Jobs the API server warns.
      assert.doesNotMatch(dry.stderr, /would violate PodSecurity/);
    });

    test(`${name}: kube-score finds nothing critical that is not explained`, async () => {
      const text = objectsOf(await render(values)).filter(({ kind }) => !foreign.includes(kind));
      const ids = [...Object.keys(scoreExceptions), ...(name === "bare" ? ["pod-networkpolicy"] : [])];
      // There is no CPU limit, as it would throttle exports without need. Memory is limited.
      const ignored = ["--ignore-container-cpu-limit", ...ids.flatMap((id) => ["--ignore-test", id])];
      const { stdout, stderr, code } = await node.run(
        ["kube-score", "score", "--output-format", "ci", "--kubernetes-version", "v1.34", ...ignored, "-"],
        {
          input: text.map((one) => JSON.stringify(one)).join("\n---\n"),
        },
      );
      assert.equal(code, 0, stdout + stderr);
    });

    test(`${name}: kube-linter finds nothing that is not explained`, noLinter, async () => {
      const excluded = (linterExceptions[name] ?? []).flatMap(({ check }) => ["--exclude", check]);
      const { stdout, stderr, status } = spawnSync("kube-linter", ["lint", ...excluded, "-"], {
        input: await render(values),
        encoding: "utf8",
      });
      assert.equal(status, 0, stdout + stderr);
    });
  }

  for (const [name, values, says] of refused)
    test(`${name} is refused`, async () => {
      for (const program of helms) {
        const { stderr, code } = await helm(
          program,
          "template",
          "release",
          chart,
          "--values",
          valuesFile(values),
          "--kube-version",
          "1.34.2",
        );
        assert.notEqual(code, 0);
        assert.match(stderr, says);
      }
    });

  test("namespaced: the chart has no cluster-wide object", async () => {
    const kinds = new Set(objectsOf(await render(variants.namespaced!)).map(({ kind }) => kind));
    for (const kind of kinds) assert.doesNotMatch(kind, /^(Cluster|Validating|CustomResource|Namespace)/);
  });

  test("pods: hardened, no secret in the environment, no token where none is needed", async () => {
    for (const { kind, metadata, spec } of objectsOf(await render(variants["with everything"]!))) {
      const pod = kind === "Pod" ? spec! : spec?.template?.spec;
      if (!pod?.containers) continue;
      assert.equal(typeof pod.automountServiceAccountToken, "boolean", metadata.name);
      for (const { securityContext, env = [] } of pod.containers) {
        assert.equal(securityContext.readOnlyRootFilesystem, true);
        assert.deepEqual(
          env.filter(({ name }) => /SECRET|TOKEN|PASSWORD|KEY/.test(name)),
          [],
        );
      }
    }
  });

  test("rights: none to read Secrets or make pods, and none with wildcards", async () => {
    for (const { kind, metadata, rules = [] } of objectsOf(await render(variants["with everything"]!)))
      for (const { apiGroups, resources, verbs } of rules) {
        const at = `${kind} ${metadata.name}`;
        assert(![...apiGroups, ...resources, ...verbs].includes("*"), at);
        if (resources.includes("secrets")) assert.deepEqual(verbs, ["create", "delete"], at);
        if (resources.includes("pods")) assert.deepEqual(verbs, ["get", "list", "watch"], at);
      }
  });

  test("a signing key is made once, and kept over an upgrade", async () => {
    const { source, target } = variants.usual as { source: object; target: object };
    const values = valuesFile({
      source,
      target,
      shim: { replicas: 0, config: (variants["existing objects"] as { shim: { config: object } }).shim.config },
      operator: { replicas: 0 },
      crds: { upgrade: false },
    });
    const key = () =>
      kubectl(node, [
        "get",
        "secret",
        "keys-fhir-export-signing",
        "--namespace",
        namespace,
        "--output",
        "jsonpath={.data.signing\\.jwk}",
      ]);
    const install = await helm("helm3", "install", "keys", chart, "--namespace", namespace, "--values", values);
    assert.equal(install.code, 0, install.stderr);
    const before = await key();
    const { kty, k } = JSON.parse(Buffer.from(before, "base64").toString()) as { kty: string; k: string };
    assert.deepEqual([kty, Buffer.from(k, "base64url").length], ["oct", 32]);
    const upgrade = await helm("helm3", "upgrade", "keys", chart, "--namespace", namespace, "--values", values);
    assert.equal(upgrade.code, 0, upgrade.stderr);
    assert.equal(await key(), before);
    await helm("helm3", "uninstall", "keys", "--namespace", namespace);
  });

  for (const name of readdirSync(join(root, "examples")))
    test(`examples/${name} is accepted`, async () => {
      const file = join(root, "examples", name);
      const { stderr, code } = await node.run([...dryRun, "--namespace", namespace, "--filename", file]);
      assert.equal(code, 0, stderr);
    });

  test("kubectl explains every field", async () => {
    interface Schema {
      type?: string;
      properties?: Record<string, Schema>;
      items?: Schema;
    }
    const paths: string[] = [];
    const visit = (schema: Schema, path: string) => {
      for (const [key, value] of Object.entries(schema.properties ?? {})) {
        const own = `${path}.${key}`;
        paths.push(own);
        visit(value.items ?? value, own);
      }
    };
    for (const name of readdirSync(join(root, "crds"))) {
      const crd = parse(readFileSync(join(root, "crds", name), "utf8")) as {
        spec: { names: { singular: string }; versions: { schema: { openAPIV3Schema: Schema } }[] };
      };
      const { spec, status } = crd.spec.versions[0]!.schema.openAPIV3Schema.properties!;
      visit({ properties: { spec: spec!, status: status! } }, crd.spec.names.singular);
    }
    assert(paths.length > 150, `${paths.length}`);
    const script = paths.map((path) => `echo "@ ${path}"; kubectl explain ${path}`).join("\n");
    const { stdout, code, stderr } = await node.run(["bash", "-ec", script], { timeoutMs: 280_000 });
    assert.equal(code, 0, stderr);
    const empty = stdout
      .split(/^@ /m)
      .slice(1)
      .filter((text) => /<empty>/.test(text) || !/DESCRIPTION:\s+\S/.test(text))
      .map((text) => text.split("\n", 1)[0]);
    assert.deepEqual(empty, []);
    console.log(`!! kubectl explain: ${paths.length} fields`);
  });
});

/** Checks of kube-linter that do not apply to a variant, and why. */
const linterExceptions: Record<string, { check: string; why: string }[]> = {
  "with everything": [{ check: "no-anti-affinity", why: "the user's own affinity stands in place of the chart's" }],
  "existing objects": [{ check: "non-existent-service-account", why: "it is the user's, and exists already" }],
};

/** Checks of kube-score that do not apply, and why. */
const scoreExceptions = {
  "container-image-pull-policy":
    "released tags and digests do not change; Always would need the registry for every worker",
  "networkpolicy-targets-pod": "pods of workers are made by the operator, not by the chart",
};
