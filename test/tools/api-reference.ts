/** Writes docs/api.md from crds/*.yaml and the conditions that src/operator makes: `node
 *  test/tools/api-reference.ts`. */
import { readFileSync, writeFileSync } from "node:fs";
import { parse } from "yaml";
import { announcedStates } from "../../src/operator/decide.ts";
import { kinds } from "./generate.ts";
import { conditionsOf, conditionTypes, failureReasons, reasonsOfOperator, states } from "./reasons.ts";

interface Schema {
  type?: string;
  format?: string;
  description?: string;
  required?: string[];
  properties?: Record<string, Schema>;
  items?: Schema;
  additionalProperties?: Schema;
  enum?: string[];
  default?: unknown;
  minimum?: number;
  maximum?: number;
  minLength?: number;
  maxLength?: number;
  minItems?: number;
  maxItems?: number;
  maxProperties?: number;
  pattern?: string;
  "x-kubernetes-validations"?: { rule: string; message: string }[];
  "x-kubernetes-list-type"?: string;
  "x-kubernetes-int-or-string"?: boolean;
  "x-kubernetes-preserve-unknown-fields"?: boolean;
}
interface Column {
  name: string;
  jsonPath: string;
  description?: string;
  priority?: number;
}
interface Crd {
  spec: {
    group: string;
    scope: string;
    names: { kind: string; plural: string; shortNames: string[]; categories: string[] };
    versions: { name: string; schema: { openAPIV3Schema: Schema }; additionalPrinterColumns: Column[] }[];
  };
}

export const referencePath = new URL("../../docs/api.md", import.meta.url);

/** what says of a field that it stays as it is */
const fixed = /^(\w+) cannot be changed; make another FhirExport$/;

const cell = (text: string) => text.replaceAll("|", "\\|").replaceAll("\n", " ");
const code = (text: string) => `\`${text}\``;
const row = (...cells: string[]) => `| ${cells.map(cell).join(" | ")} |`;
const table = (head: string[], rows: string[]) => [row(...head), `|${"---|".repeat(head.length)}`, ...rows, ""];

/** The page. */
export function renderReference(): string {
  const crds: Crd[] = kinds.map((kind) =>
    parse(readFileSync(new URL(`../../crds/${kind}s.yaml`, import.meta.url), "utf8")),
  );
  const { group, versions } = crds[0]!.spec;
  return [
    "# API reference",
    "",
    `<!-- test/tools/api-reference.ts (npm run generate) makes this page from crds/ and src/operator: edit those. -->`,
    "",
    `Group and version: ${code(`${group}/${versions[0]!.name}`)}. All kinds are namespaced. A spec can name objects of its own namespace only.`,
    "`kubectl explain fhirexport.spec --recursive` shows the same in a cluster.",
    "",
    ...crds.map(({ spec: { names } }) => `- [${names.kind}](#${names.kind.toLowerCase()})`),
    "- [Conditions](#conditions)",
    "",
    ...crds.flatMap(renderKind),
    ...renderConditions(),
  ].join("\n");
}

function renderKind({ spec: { names, versions } }: Crd): string[] {
  const { schema, additionalPrinterColumns } = versions[0]!;
  const root = schema.openAPIV3Schema;
  const { spec, status } = root.properties as { spec: Schema; status: Schema };
  return [
    `## ${names.kind}`,
    "",
    root.description ?? "",
    "",
    `${code(`kubectl get ${names.plural}`)}, short ${names.shortNames.map(code).join(", ")}. All kinds together: ${names.categories.map((one) => code(`kubectl get ${one}`)).join(", ")}.`,
    "",
    `### ${names.kind} spec`,
    "",
    spec.description ?? "",
    "",
    ...table(["field", "type", "required, default, limits", "description"], fieldsOf(spec, "spec")),
    ...renderRules(names.kind, root),
    `### ${names.kind} status`,
    "",
    status.description ?? "",
    "",
    ...table(["field", "type", "required, default, limits", "description"], fieldsOf(status, "status")),
    `### ${names.kind} columns`,
    "",
    "`kubectl get` shows these columns; those marked (wide) need `-o wide`.",
    "",
    ...table(
      ["column", "from", "description"],
      additionalPrinterColumns.map(({ name, jsonPath, description = "", priority }) =>
        row(name, code(jsonPath), [description, priority ? "(wide)" : ""].filter(Boolean).join(" ")),
      ),
    ),
  ];
}

/** What holds beyond a field's own limits, in the words of the refusal. */
function renderRules(kind: string, root: Schema): string[] {
  const messages = [...new Set(rulesOf(root))].filter((message) => !fixed.test(message));
  return [
    `### ${kind} rules`,
    "",
    "An object that breaks one of these rules is refused with the text of the rule:",
    "",
    ...messages.map((one) => `- ${one}`),
    "",
  ];
}

const rulesOf = (schema: Schema): string[] => [
  ...(schema["x-kubernetes-validations"] ?? []).map(({ message }) => message),
  ...Object.values(schema.properties ?? {}).flatMap(rulesOf),
  ...(schema.items ? rulesOf(schema.items) : []),
];

/** @param always the field that they are in cannot be changed */
function fieldsOf(schema: Schema, path: string, always = false): string[] {
  const immutable = new Set(
    (schema["x-kubernetes-validations"] ?? []).flatMap(({ message }) => fixed.exec(message)?.[1] ?? []),
  );
  return Object.entries(schema.properties ?? {}).flatMap(([name, field]) => {
    const own = `${path}.${name}`;
    const stays = always || immutable.has(name);
    const limits = limitsOf(field, schema.required?.includes(name) ?? false, stays);
    const description =
      name === "conditions" ? `${field.description} See [Conditions](#conditions).` : (field.description ?? "");
    const line = row(code(own), typeOf(field), limits, description);
    if (name === "conditions") return [line];
    const inner = field.items?.properties ? fieldsOf(field.items, `${own}[]`, stays) : fieldsOf(field, own, stays);
    return [line, ...inner];
  });
}

function typeOf({ type = "", format, items, additionalProperties, ...schema }: Schema): string {
  if (items) return `list of ${typeOf(items)}s`;
  if (additionalProperties)
    return additionalProperties["x-kubernetes-int-or-string"]
      ? "map of quantities"
      : `map of ${typeOf(additionalProperties)}s`;
  if (schema["x-kubernetes-preserve-unknown-fields"]) return "object, as in Kubernetes";
  return format === "date-time" ? "date-time" : type;
}

function limitsOf(field: Schema, required: boolean, immutable: boolean): string {
  const { minimum, maximum, minItems, maxItems, maxLength, pattern } = {
    ...field,
    ...(field.items && { ...field.items, ...field }),
  };
  const values = field.enum ?? field.items?.enum;
  const range =
    minimum !== undefined && maximum !== undefined
      ? `${minimum} to ${maximum}`
      : minimum !== undefined && minimum > 0
        ? `at least ${minimum}`
        : "";
  const items =
    maxItems === undefined ? "" : minItems ? `${minItems} to ${maxItems} items` : `at most ${maxItems} items`;
  return [
    required ? "required" : "",
    field.default === undefined
      ? ""
      : `default ${code(typeof field.default === "string" ? field.default : JSON.stringify(field.default))}`,
    values ? values.map(code).join(", ") : "",
    range,
    items,
    field["x-kubernetes-list-type"] === "set" ? "each once" : "",
    maxLength === undefined ? "" : `${field.items ? "each " : ""}at most ${maxLength} characters`,
    pattern ? code(pattern) : "",
    field.maxProperties === undefined ? "" : `at most ${field.maxProperties} entries`,
    immutable ? "immutable" : "",
  ]
    .filter(Boolean)
    .join("; ");
}

const link = (reason: string) => `[${reason}](troubleshooting.md#${reason.toLowerCase()})`;
const links = (reasons: readonly string[]) => reasons.map(link).join(", ");

function renderConditions(): string[] {
  const { end, refused, purge, event, cause, validity, own } = reasonsOfOperator();
  const others = conditionTypes.filter((type) => !["Ready", "Accepted"].includes(type));
  const kept = own.filter(({ type, status }) => type === "Purged" && status === "False").map(({ reason }) => reason);
  const stateRows = states.map((state) => {
    const found = conditionsOf(state);
    const statusOf = (type: string) => found.find((one) => one.type === type)?.status ?? "";
    const also = others.filter((type) => statusOf(type) === "True");
    return row(link(state), statusOf("Ready"), statusOf("Accepted") || "as before", also.join(", "));
  });
  const rows: [string, string, string][] = [
    ["Accepted", "False", links(refused)],
    ["Failed and Stalled", "True", links(end)],
    ["Reconciling", "True", `${links(cause)}, or what it waits for to pass: one of the reasons of Failed`],
    ...groupOwn(own),
    [
      "Purged",
      "False",
      `${links([...kept, ...purge.filter((reason) => !failureReasons.includes(reason))])}, or the cause if the deletion failed: one of the reasons of Failed`,
    ],
  ];
  return [
    "## Conditions",
    "",
    "### Conditions of a FhirExport",
    "",
    "`Ready` is the summary: its reason says what the export is doing. `Reconciling` and `Stalled` mean what they mean in kstatus; they are absent when all is well.",
    "",
    ...table(["Ready, reason", "Ready, status", "Accepted", "also True"], stateRows),
    "The other conditions have the reason of Ready, or one of these:",
    "",
    ...table(
      ["condition", "status", "reasons"],
      rows.map((cells) => row(...cells)),
    ),
    "### Conditions of a FhirSource or ExportTarget",
    "",
    ...table(
      ["condition", "status", "reason"],
      validity.map(({ reason, status }) => row("Ready", status, link(reason))),
    ),
    "### Events of a FhirExport",
    "",
    `An event is written when the reason of Ready changes to ${listed(announcedStates)}. The event of a refused or failed export has the reason of its condition Failed. Further events: ${links(event)}.`,
    "",
  ];
}

const listed = (names: Iterable<string>) => [...names].join(", ").replace(/, (\w+)$/, " or $1");

/** Conditions that are set by themselves; Purged=False has the reasons of a purge, too. */
function groupOwn(own: ReturnType<typeof reasonsOfOperator>["own"]): [string, string, string][] {
  const shown = own.filter(({ type, status }) => type !== "Purged" || status !== "False");
  return [...Map.groupBy(shown, ({ type, status }) => `${type} ${status}`)].map(([key, found]) => {
    const [type = "", status = ""] = key.split(" ");
    return [type, status, links([...new Set(found.map(({ reason }) => reason))])];
  });
}

if (import.meta.main) writeFileSync(referencePath, renderReference());
