import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { parse } from "yaml";
import { exportRules, sourceRules, targetRules } from "../../src/api/rules.ts";
import { type Crd, createValidator } from "../../src/api/validate.ts";
import { cases, statusCases, values } from "./objects.ts";

const crds: Crd[] = ["fhirexport", "fhirsource", "exporttarget"].map((kind) =>
  parse(readFileSync(`crds/${kind}s.yaml`, "utf8")),
);
const validate = createValidator(crds);
const object = (kind: string, spec: unknown, name = "x", status?: unknown) =>
  structuredClone({
    apiVersion: "fhirexport.dev/v1alpha1",
    kind,
    metadata: { name },
    spec,
    ...(status ? { status } : {}),
  });

function check(problems: string[], refused: RegExp | undefined) {
  if (refused) assert.match(problems.join("\n") || "accepted", refused);
  else assert.deepEqual(problems, []);
}

for (const { case: what, kind, spec, old, name, refused } of cases)
  test(`${kind}: ${what} is ${refused ? "refused" : "accepted"}`, () => {
    const before = old && object(kind, old, name);
    if (before) assert.deepEqual(validate(before), [], "the object before");
    check(validate(object(kind, spec, name), before), refused);
  });

const least = { sourceRef: { name: "s" }, targetRef: { name: "t" } };
for (const { case: what, old, status, refused } of statusCases)
  test(`status: ${what} is ${refused ? "refused" : "accepted"}`, () => {
    const [before, after] = [object("FhirExport", least, "x", old), object("FhirExport", least, "x", status)];
    if (!status) delete after.status;
    check(
      exportRules.filter((rule) => !rule.holds(after as never, before as never)).map(({ message }) => message),
      refused,
    );
  });

test("every field of spec has values to be added, removed and changed", () => {
  const { spec } = crds[0]!.spec.versions[0]!.schema.openAPIV3Schema.properties as { spec: { properties: object } };
  assert.deepEqual(Object.keys(values).sort(), Object.keys(spec.properties).sort());
});

test("rules.ts and the CEL rules say the same", () => {
  for (const [crd, rules] of [
    [crds[0]!, exportRules],
    [crds[1]!, sourceRules],
    [crds[2]!, targetRules],
  ] as const)
    assert.deepEqual(
      [...new Set(rules.map(({ message }) => message))].sort(),
      [...new Set(messages(crd.spec.versions[0]!.schema.openAPIV3Schema))].sort(),
    );
});

test("every field is described and bounded", () => {
  const missing: string[] = [];
  const walk = (schema: Record<string, unknown>, path: string) => {
    const { type, description, properties, items } = schema as {
      type?: string;
      description?: string;
      properties?: object;
      items?: object;
    };
    if (!/(\[\]|\.metadata.*)$/.test(path) && !description) missing.push(`${path}: no description`);
    if (type === "array" && !schema.maxItems) missing.push(`${path}: no maxItems`);
    if (
      type === "string" &&
      !schema.maxLength &&
      !schema.enum &&
      schema.format !== "date-time" &&
      !/^\.(apiVersion|kind)$/.test(path)
    )
      missing.push(`${path}: no maxLength`);
    for (const [key, value] of Object.entries(properties ?? {})) walk(value, `${path}.${key}`);
    if (items) walk(items as Record<string, unknown>, `${path}[]`);
  };
  for (const crd of crds) walk(crd.spec.versions[0]!.schema.openAPIV3Schema, "");
  assert.deepEqual(missing, []);
});

test("defaults are filled in", () => {
  const made = object("FhirExport", least);
  assert.deepEqual(validate(made), []);
  assert.deepEqual(made.spec, {
    ...least,
    level: "System",
    outputFormat: "application/fhir+ndjson",
    output: { compression: "None", maxFileSize: "1Gi" },
    onResourceError: "Record",
    parallelism: 4,
    priority: 0,
    deletionPolicy: "Retain",
    onCancel: "Delete",
  });
  assert.deepEqual(validate({ kind: "Pod" }), ["kind Pod is unknown"]);
});

function messages(schema: object): string[] {
  return Object.entries(schema).flatMap(([key, value]) =>
    key === "x-kubernetes-validations"
      ? (value as { message: string }[]).map(({ message }) => message)
      : typeof value === "object" && value !== null
        ? messages(value)
        : [],
  );
}
