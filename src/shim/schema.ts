/** JSON Schemas of the service's settings, and their errors in words. Pure. */
import type { ErrorObject } from "ajv";

/** An object with these members and no others. */
export const closedObject = (properties: Record<string, unknown>, required: string[] = []) => ({
  type: "object",
  additionalProperties: false,
  required,
  properties,
});

/** One error of ajv, beginning with the field that is wrong, for example `auth.tokens.seconds must be <= 300`.
 *  @param parent the field that holds what was validated; undefined: the settings as a whole */
export function describeSchemaError({ instancePath, message, params }: ErrorObject, parent?: string): string {
  const field = [parent, ...instancePath.split("/").slice(1)].filter((part) => part !== undefined).join(".");
  const detail =
    "additionalProperty" in params
      ? ` (${params.additionalProperty})`
      : "allowedValues" in params
        ? `: ${params.allowedValues}`
        : "";
  return `${field || "the settings"} ${message}${detail}`;
}
