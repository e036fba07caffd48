/** Writes src/api/*.gen.ts from crds/*.yaml: `node test/tools/generate.ts`. */
import { readFileSync, writeFileSync } from "node:fs";
import { compile } from "json-schema-to-typescript";
import { parse } from "yaml";

interface Schema {
  type?: string;
  title?: string;
  description?: string;
  tsType?: string;
  required?: string[];
  properties?: Record<string, Schema>;
  items?: Schema;
  additionalProperties?: Schema | boolean;
  [key: string]: unknown;
}
interface Crd {
  spec: { names: { kind: string }; versions: { schema: { openAPIV3Schema: Schema } }[] };
}

export const kinds = ["fhirexport", "fhirsource", "exporttarget"] as const;
export const generatedPath = (kind: (typeof kinds)[number]) => new URL(`../../src/api/${kind}.gen.ts`, import.meta.url);

/** The TypeScript of one CRD's schema. */
export async function generate(kind: (typeof kinds)[number]): Promise<string> {
  const crd: Crd = parse(readFileSync(new URL(`../../crds/${kind}s.yaml`, import.meta.url), "utf8"));
  const { kind: name } = crd.spec.names;
  const root = prepare(crd.spec.versions[0]!.schema.openAPIV3Schema);
  const { apiVersion, kind: kindField, metadata, spec, status } = root.properties!;
  apiVersion!.tsType = '"fhirexport.dev/v1alpha1"';
  kindField!.tsType = `"${name}"`;
  metadata!.tsType = "ObjectMeta";
  spec!.title = `${name}Spec`;
  status!.title = `${name}Status`;
  status!.properties!.conditions!.items = { tsType: "Condition" };
  const run = status!.properties!.run;
  if (run) {
    run.title = `${name}Run`;
    run.properties!.worker!.tsType = 'NonNullable<FhirExportSpec["worker"]>';
  }
  root.required = ["metadata", "spec"];
  return compile(root as Parameters<typeof compile>[0], name, {
    bannerComment: `// Made from crds/${kind}s.yaml by test/tools/generate.ts: edit that.\nimport type { Condition, ObjectMeta } from "./meta.ts";`,
    additionalProperties: false,
    ignoreMinAndMaxItems: true,
    style: { printWidth: 140 },
  });
}

/** A schema in Kubernetes' dialect as plain JSON Schema. */
function prepare(schema: Schema): Schema {
  if (schema["x-kubernetes-int-or-string"]) return { tsType: "string | number" };
  if (schema["x-kubernetes-preserve-unknown-fields"])
    return { ...(schema.description ? { description: schema.description } : {}), tsType: "Record<string, unknown>" };
  const made = Object.fromEntries(
    Object.entries(schema).filter(([key]) => !key.startsWith("x-kubernetes-") && key !== "default"),
  ) as Schema;
  if (schema.properties)
    made.properties = Object.fromEntries(
      Object.entries(schema.properties).map(([key, value]) => [key, prepare(value)]),
    );
  if (schema.items) made.items = prepare(schema.items);
  if (typeof schema.additionalProperties === "object") made.additionalProperties = prepare(schema.additionalProperties);
  return made;
}

if (import.meta.main) for (const kind of kinds) writeFileSync(generatedPath(kind), await generate(kind));
