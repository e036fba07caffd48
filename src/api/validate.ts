import { Ajv, type ErrorObject, type ValidateFunction } from "ajv";
import { default as addFormats } from "ajv-formats";
import { exportRules, type Rule, sourceRules, targetRules } from "./rules.ts";

export interface Crd {
  spec: { names: { kind: string }; versions: { name: string; schema: { openAPIV3Schema: Schema } }[] };
}
type Schema = { [key: string]: unknown };

const rules: Record<string, Rule<never>[]> = {
  FhirExport: exportRules as Rule<never>[],
  FhirSource: sourceRules as Rule<never>[],
  ExportTarget: targetRules as Rule<never>[],
};

/** Makes a validator that does what the API server does with an object of these CRDs: it fills in defaults (in the
 *  object itself), refuses unknown fields, and checks the schema and the rules.
 *  @returns takes an object, and the one that it replaces; gives one text for each thing that is wrong, none where it
 *    is valid */
export function createValidator(crds: readonly Crd[]): (object: unknown, old?: unknown) => string[] {
  const ajv = new Ajv({ useDefaults: true, allErrors: true, strict: false });
  (addFormats as unknown as (ajv: Ajv) => void)(ajv);
  const schemas = new Map<string, ValidateFunction>();
  for (const { spec } of crds)
    schemas.set(spec.names.kind, ajv.compile(toAjvSchema(spec.versions[0]!.schema.openAPIV3Schema, true)));
  return (object, old) => {
    const { kind } = object as { kind: string };
    const validate = schemas.get(kind);
    if (!validate) return [`kind ${kind} is unknown`];
    if (!validate(object)) return (validate.errors ?? []).map(errorText);
    return rules[kind]!.filter((rule) => !rule.holds(object as never, old as never)).map(
      (rule) => `${rule.path}: ${rule.message}`,
    );
  };
}

/** Translates Kubernetes' dialect of JSON Schema to what ajv knows. Unknown fields are errors, except in metadata,
 *  which the API server checks itself, and where x-kubernetes-preserve-unknown-fields allows them. */
function toAjvSchema(schema: Schema, root = false): Schema {
  if (schema["x-kubernetes-int-or-string"])
    return { type: ["integer", "string"], ...(schema.pattern ? { pattern: schema.pattern } : {}) };
  const made: Schema = Object.fromEntries(
    Object.entries(schema).filter(([key]) => !key.startsWith("x-kubernetes-") && key !== "description"),
  );
  if (schema["x-kubernetes-list-type"] === "set") made.uniqueItems = true;
  const { properties, items, additionalProperties } = schema;
  if (properties) {
    made.properties = Object.fromEntries(
      Object.entries(properties as Record<string, Schema>).map(([key, value]) => [
        key,
        root && key === "metadata" ? { type: "object" } : toAjvSchema(value),
      ]),
    );
  }
  if (items) made.items = toAjvSchema(items as Schema);
  if (additionalProperties) made.additionalProperties = toAjvSchema(additionalProperties as Schema);
  else if (schema.type === "object" && !schema["x-kubernetes-preserve-unknown-fields"])
    made.additionalProperties = false;
  return made;
}

function errorText({ instancePath, message, params }: ErrorObject): string {
  const path = instancePath.slice(1).replaceAll("/", ".");
  const extra =
    "additionalProperty" in params
      ? `: ${params.additionalProperty}`
      : "allowedValues" in params
        ? `: ${params.allowedValues}`
        : "";
  return `${path || "object"} ${message ?? "is wrong"}${extra}`;
}
