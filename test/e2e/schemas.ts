import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TestNode } from "../tools/node/node.ts";
import { kubectl } from "../tools/node/shared.ts";

interface Definition {
  type?: string;
  format?: string;
  properties?: Record<string, object>;
  additionalProperties?: unknown;
  "x-kubernetes-group-version-kind"?: { group: string; version: string; kind: string }[];
  "x-kubernetes-preserve-unknown-fields"?: boolean;
}

/** Writes strict JSON Schemas of all kinds that the API server knows, as kubeconform reads them:
 *  schemas/{kind}-{group}-{version}.json below `folder`. */
export async function writeSchemas(node: TestNode, folder: string): Promise<void> {
  const { definitions } = JSON.parse(await kubectl(node, ["get", "--raw", "/openapi/v2"])) as {
    definitions: Record<string, Definition>;
  };
  const schemas = join(folder, "schemas");
  mkdirSync(schemas, { recursive: true });
  writeFileSync(
    join(schemas, "all.json"),
    JSON.stringify({
      definitions: Object.fromEntries(Object.entries(definitions).map(([name, one]) => [name, strict(name, one)])),
    }),
  );
  for (const [name, { "x-kubernetes-group-version-kind": kinds = [] }] of Object.entries(definitions))
    for (const { group, version, kind } of kinds)
      writeFileSync(
        join(schemas, `${kind.toLowerCase()}-${group || version}-${version}.json`),
        JSON.stringify({ $ref: `all.json#/definitions/${name}` }),
      );
}

/** Adds to a schema what the API server accepts besides, in terms of JSON Schema. */
function strict(name: string, definition: Definition): object {
  const { format, ...rest } = definition;
  if (format === "int-or-string" || name.endsWith(".Quantity")) return { type: ["string", "integer", "number"] };
  const open =
    definition["x-kubernetes-preserve-unknown-fields"] ||
    definition.additionalProperties !== undefined ||
    !definition.properties;
  return { ...rest, ...(open ? {} : { additionalProperties: false }) };
}
