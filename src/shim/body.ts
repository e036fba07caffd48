/** The body of a kick-off by POST: a Parameters resource. Pure. */
import type { Issue } from "./outcome.ts";
import type { Parameter } from "./parameters.ts";

export type Body = { values: [name: string, value: string][] } | { status: number; issue: Issue };

const fault = (status: number, code: Issue["code"], text: string): Body => ({ status, issue: { code, text } });

/** @param known how the parameters come that are known; others are taken in any way, to be refused or dropped by name */
export function readBody(
  contentType: string | undefined,
  body: Buffer | undefined,
  known: Readonly<Record<string, Parameter>>,
): Body {
  const [type = "", ...settings] = (contentType ?? "").toLowerCase().split(";");
  if (type.trim() !== "application/fhir+json" && type.trim() !== "application/json")
    return fault(415, "not-supported", "the body of a kick-off must be application/fhir+json");
  const charset = settings.map((one) => one.trim()).find((one) => one.startsWith("charset="));
  if (charset !== undefined && !/^charset="?utf-?8"?$/.test(charset))
    return fault(415, "not-supported", "the body of a kick-off must be UTF-8");
  let parsed: unknown;
  try {
    parsed = JSON.parse(body?.toString() ?? "");
  } catch {
    return fault(400, "invalid", "the body of a kick-off must be a Parameters resource as JSON");
  }
  const { resourceType, parameter = [] } = (parsed ?? {}) as { resourceType?: unknown; parameter?: unknown };
  if (resourceType !== "Parameters" || !Array.isArray(parameter))
    return fault(400, "invalid", "the body of a kick-off must be a Parameters resource, whose parameter is a list");
  const values: [string, string][] = [];
  for (const one of parameter as unknown[]) {
    if (!isObject(one) || typeof one.name !== "string" || one.name === "")
      return fault(400, "invalid", "each parameter of the Parameters resource must have a name");
    const rule = Object.hasOwn(known, one.name) ? known[one.name] : undefined;
    const given = Object.keys(one).filter((key) => key.startsWith("value"));
    const text = given.length === 1 ? textOf(one[given[0]!]) : undefined;
    if (rule && (text === undefined || !rule.posted.includes(given[0]!)))
      return fault(400, "invalid", `the parameter ${one.name} must have one value, a ${rule.posted[0]}`);
    values.push([one.name, text ?? ""]);
  }
  return { values };
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

function textOf(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  if (typeof value === "boolean" || typeof value === "number") return String(value);
  return isObject(value) && typeof value.reference === "string" ? value.reference : undefined;
}
