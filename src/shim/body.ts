/** The body of a kick-off by POST: a Parameters resource. Pure. */
import type { Issue } from "./outcome.ts";
import type { Parameter } from "./parameters.ts";

type KickOffBody =
  | { kind: "values"; values: [name: string, value: string][] }
  | { kind: "refused"; status: 400 | 415; issue: Issue };

/** Reads the body's parameters as texts, in their order.
 *  @param known parameters of which the type of the value is checked. Others are read in any type, because the
 *    caller refuses or drops them by name */
export function readBody(
  contentType: string | undefined,
  body: Buffer | undefined,
  known: Readonly<Record<string, Parameter>>,
): KickOffBody {
  const mediaTypeFault = checkMediaType(contentType);
  if (mediaTypeFault !== undefined) return refuseBody(415, mediaTypeFault);
  let parsed: unknown;
  try {
    parsed = JSON.parse(body?.toString() ?? "");
  } catch {
    return refuseBody(400, `the body of a kick-off must be a Parameters resource as JSON, for example ${emptyBody}`);
  }
  const { resourceType, parameter = [] } = (parsed ?? {}) as { resourceType?: unknown; parameter?: unknown };
  if (resourceType !== "Parameters" || !Array.isArray(parameter))
    return refuseBody(
      400,
      `the body of a kick-off must be a Parameters resource with a list of parameters, for example ${emptyBody}`,
    );
  const values: [string, string][] = [];
  for (const one of parameter as unknown[]) {
    if (!isJSONObject(one) || typeof one.name !== "string" || one.name === "")
      return refuseBody(400, "each parameter of the Parameters resource must have a name, for example _type");
    const rule = Object.hasOwn(known, one.name) ? known[one.name] : undefined;
    const given = Object.keys(one).filter((key) => key.startsWith("value"));
    const text = given.length === 1 ? valueText(one[given[0]!]) : undefined;
    if (rule && (text === undefined || !rule.posted.includes(given[0]!)))
      return refuseBody(400, `the parameter ${one.name} must have one value, a ${rule.posted[0]}`);
    values.push([one.name, text ?? ""]);
  }
  return { kind: "values", values };
}

const emptyBody = '{"resourceType":"Parameters","parameter":[]}';

const refuseBody = (status: 400 | 415, text: string): KickOffBody => ({
  kind: "refused",
  status,
  issue: { code: status === 415 ? "not-supported" : "invalid", text },
});

/** @returns what is wrong with the header Content-Type, if anything */
function checkMediaType(contentType: string | undefined): string | undefined {
  const [type = "", ...settings] = (contentType ?? "").toLowerCase().split(";");
  if (type.trim() !== "application/fhir+json" && type.trim() !== "application/json")
    return "a kick-off by POST must have the header Content-Type: application/fhir+json";
  const charset = settings.map((one) => one.trim()).find((one) => one.startsWith("charset="));
  return charset === undefined || /^charset="?utf-?8"?$/.test(charset)
    ? undefined
    : "the body of a kick-off must be UTF-8; send the header Content-Type: application/fhir+json without another charset";
}

const isJSONObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** A value as a URL would hold it; undefined for types that no parameter has. */
function valueText(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  if (typeof value === "boolean" || typeof value === "number") return String(value);
  return isJSONObject(value) && typeof value.reference === "string" ? value.reference : undefined;
}
