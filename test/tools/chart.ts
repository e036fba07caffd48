/** Makes the parts of charts/fhir-export that follow from others: `node test/tools/chart.ts`. crds/ from the top
 *  level's, values.schema.json and README.md from values.yaml. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isMap, isScalar, type Pair, parse, parseDocument, type Scalar, type YAMLMap } from "yaml";

const root = join(import.meta.dirname, "../..");
export const chartFolder = join(root, "charts/fhir-export");

type Schema = Record<string, unknown>;

/** The schema of a CRD's field, without what only an API server knows; a Secret's name is left out where the chart
 *  makes the Secret. */
function field(kind: string, path: string): Schema {
  const crd = parse(readFileSync(join(root, `crds/${kind}s.yaml`), "utf8"));
  let found = crd.spec.versions[0].schema.openAPIV3Schema;
  for (const name of path.split(".")) found = found.properties[name];
  const plain = (schema: Schema): Schema => {
    const { properties, items, required, ...rest } = schema as {
      properties?: Record<string, Schema>;
      items?: Schema;
      required?: string[];
    };
    const kept = Object.fromEntries(
      Object.entries(rest).filter(
        ([key]) => !key.startsWith("x-kubernetes-") && !["description", "default", "format"].includes(key),
      ),
    );
    const needed = required?.filter((name) => !["secretRef", "auth", "claimName"].includes(name));
    return {
      ...kept,
      ...(properties && {
        properties: Object.fromEntries(Object.entries(properties).map(([key, value]) => [key, plain(value)])),
        additionalProperties: false,
      }),
      ...(items && { items: plain(items) }),
      ...(needed?.length && { required: needed }),
    };
  };
  const schema = plain(found);
  // absent is {} in values
  return schema.required ? { anyOf: [{ type: "object", maxProperties: 0 }, schema] } : schema;
}

const strings = { type: "array", items: { type: "string" } };
const map = { type: "object", additionalProperties: { type: "string" } };
const keys = (...names: string[]) => ({
  type: "object",
  properties: Object.fromEntries(names.map((name) => [name, { type: "string", minLength: 1 }])),
  additionalProperties: false,
});
const port = { type: "integer", minimum: 1, maximum: 65535 };
const free = { type: "object" };
const objects = { type: "array", items: free };
const name = { type: "string", pattern: "^$|^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$" };

/** What cannot be seen from a default. Paths end with `*` where the rest does not count. */
const special: Record<string, Schema> = {
  commonLabels: map,
  "image.digest": { type: "string", pattern: "^$|^sha256:[a-f0-9]{64}$" },
  "image.pullPolicy": { enum: ["Always", "IfNotPresent", "Never"] },
  imagePullSecrets: {
    type: "array",
    items: {
      anyOf: [
        { type: "string" },
        { type: "object", properties: { name: { type: "string" } }, required: ["name"], additionalProperties: false },
      ],
    },
  },
  "operator.replicas": { type: "integer", minimum: 0, maximum: 10 },
  "operator.workers": { type: "integer", minimum: 1 },
  "operator.shardResources": { type: "integer", minimum: 1 },
  "shim.replicas": { type: "integer", minimum: 0 },
  "shim.publicURL": { type: "string", pattern: "^$|^https?://[^/?#@ ]+(/[^?# ]*)?$" },
  "shim.source": name,
  "shim.target": name,
  // the program itself checks it whole, when it starts
  "shim.config": {
    type: "object",
    properties: {
      compat: { enum: ["ig", "azure"] },
      accept: { enum: ["Required", "Assumed"] },
      prefer: { enum: ["Required", "Assumed"] },
      files: free,
      limits: free,
      allow: free,
      exports: free,
      auth: free,
    },
    additionalProperties: false,
  },
  "shim.service.type": { enum: ["ClusterIP", "NodePort", "LoadBalancer"] },
  "shim.service.port": { anyOf: [{ type: "null" }, port] },
  "shim.ingress.path": { type: "string", pattern: "^/" },
  "shim.httpRoute.path": { type: "string", pattern: "^/" },
  "shim.httpRoute.parentRefs": objects,
  "source.name": name,
  "source.baseURL": { type: "string", pattern: "^$|^https?://[^/?#@ ]+(/[^?# ]*)?$" },
  "source.secret": keys("username", "password", "token", "client-secret", "private-key.jwk"),
  "source.auth": field("fhirsource", "spec.auth"),
  "source.tls": field("fhirsource", "spec.tls"),
  "source.headers": field("fhirsource", "spec.headers"),
  "source.proxy": field("fhirsource", "spec.proxy"),
  "source.links": { enum: ["Auto", "Strict"] },
  "source.paging": field("fhirsource", "spec.paging"),
  "source.limits": field("fhirsource", "spec.limits"),
  "source.history": { enum: ["Auto", "None"] },
  "target.name": name,
  "target.secret": keys("connection-string", "sas-token"),
  "target.azureBlob": field("exporttarget", "spec.azureBlob"),
  "target.volume": field("exporttarget", "spec.volume"),
  "admissionPolicy.enabled": { type: ["boolean", "null"] },
  "networkPolicy.metricsFrom": objects,
  "networkPolicy.clientsFrom": objects,
  "networkPolicy.egress.apiServerPorts": { type: "array", items: port },
  "networkPolicy.egress.ports": { type: "array", items: port },
  extraObjects: { type: "array", items: { type: ["object", "string"] } },
  ...Object.fromEntries(
    ["operator", "shim"].flatMap((part) => [
      [
        `${part}.resources`,
        { type: "object", properties: { requests: free, limits: free, claims: objects }, additionalProperties: false },
      ],
      [`${part}.podLabels`, map],
      [`${part}.podAnnotations`, map],
      [`${part}.nodeSelector`, map],
      [`${part}.tolerations`, objects],
      [`${part}.affinity`, free],
      [`${part}.topologySpreadConstraints`, objects],
    ]),
  ),
  ...Object.fromEntries(
    [
      "operator.serviceAccount",
      "shim.serviceAccount",
      "worker.serviceAccount",
      "shim.service",
      "shim.ingress",
      "shim.httpRoute",
    ].map((part) => [`${part}.annotations`, map]),
  ),
  "operator.podMonitor.labels": map,
};

const values = () => parse(readFileSync(join(chartFolder, "values.yaml"), "utf8")) as Record<string, unknown>;

/** values.schema.json: every value there is in values.yaml, and no other. */
export function makeSchema(): string {
  const unused = new Set(Object.keys(special));
  const schemaOf = (value: unknown, path: string): Schema => {
    const known = special[path];
    if (known) {
      unused.delete(path);
      return known;
    }
    if (typeof value === "string") return { type: "string" };
    if (typeof value === "boolean") return { type: "boolean" };
    if (typeof value === "number") return { type: "integer", minimum: 0 };
    if (Array.isArray(value)) return strings;
    if (typeof value !== "object" || value === null || Object.keys(value).length === 0)
      throw new Error(`${path}: its schema must be given`);
    return closed(value as Record<string, unknown>, `${path}.`);
  };
  const closed = (value: Record<string, unknown>, prefix: string): Schema => ({
    type: "object",
    additionalProperties: false,
    properties: Object.fromEntries(Object.entries(value).map(([key, one]) => [key, schemaOf(one, prefix + key)])),
  });
  const { properties, ...rest } = closed(values(), "") as { properties: Record<string, Schema> };
  if (unused.size) throw new Error(`no such values: ${[...unused].join(", ")}`);
  // what Helm itself puts there
  const schema = {
    $schema: "http://json-schema.org/draft-07/schema#",
    title: "Values of fhir-export",
    ...rest,
    properties: { ...properties, global: free },
  };
  return `${JSON.stringify(schema, null, 2)}\n`;
}

interface Value {
  path: string;
  fallback: string;
  text: string;
}

/** Each value with its comment. @throws where one has none */
export function documentedValues(): Value[] {
  const found: Value[] = [];
  const visit = (node: YAMLMap, prefix: string, inherited?: string) => {
    for (const [index, pair] of (node.items as Pair<Scalar<string>>[]).entries()) {
      const path = prefix + pair.key.value;
      const comment = (pair.key.commentBefore ?? (index === 0 ? inherited : undefined))?.split("\n").at(-1)?.trim();
      const told = comment?.startsWith("-- ") ? comment.slice(3) : undefined;
      if (told !== undefined)
        found.push({ path, fallback: JSON.stringify((pair.value as YAMLMap).toJSON()), text: told });
      else if (isMap(pair.value) && pair.value.items.length > 0)
        visit(pair.value, `${path}.`, pair.value.commentBefore ?? undefined);
      else throw new Error(`${path} has no comment`);
    }
  };
  const { contents } = parseDocument(readFileSync(join(chartFolder, "values.yaml"), "utf8"));
  if (!isMap(contents) || isScalar(contents)) throw new Error("values.yaml is no map");
  visit(contents, "", contents.commentBefore ?? undefined);
  return found;
}

/** README.md of the chart. */
export function makeReadme(): string {
  const cell = (text: string) => text.replaceAll("|", "\\|");
  const rows = documentedValues().map(
    ({ path, fallback, text }) => `| \`${path}\` | \`${cell(fallback)}\` | ${cell(text)} |`,
  );
  return readFileSync(join(root, "test/tools/chart-readme.md"), "utf8").replace(
    "{{values}}",
    ["| value | default | |", "|---|---|---|", ...rows].join("\n"),
  );
}

export const topLevelCRDs = () =>
  readdirSync(join(root, "crds")).map((file) => [file, readFileSync(join(root, "crds", file), "utf8")] as const);

if (import.meta.main) {
  mkdirSync(join(chartFolder, "crds"), { recursive: true });
  for (const [file, text] of topLevelCRDs()) writeFileSync(join(chartFolder, "crds", file), text);
  writeFileSync(join(chartFolder, "values.schema.json"), makeSchema());
  writeFileSync(join(chartFolder, "README.md"), makeReadme());
}
