import { Ajv } from "ajv";
import { parse as parseYAML } from "yaml";
import type { FhirExportSpec } from "../api/fhirexport.gen.ts";
import { terminal } from "../failure.ts";
import { type AuthConfig, parseAuthConfig } from "./auth/config.ts";
import { closedObject, describeSchemaError } from "./schema.ts";

/** What an administrator decides about the HTTP service. The file that `--config` names holds these settings; all of
 *  them are optional there. */
export interface ShimSettings {
  /** ig: as the Bulk Data IG says, liberal where it leaves a choice. azure: accepts and refuses what Azure API for
   *  FHIR did. */
  compat: "ig" | "azure";
  /** Whether a kick-off without the header is refused (Required), or treated as if it had it (Assumed). */
  accept: "Required" | "Assumed";
  prefer: "Required" | "Assumed";
  files: {
    /** Stream: files pass through this service. Redirect: clients get a signed URL of the storage account, where one
     *  can be made. */
    delivery: "Stream" | "Redirect";
    /** Life of a signed URL. */
    redirectSeconds: number;
  };
  limits: {
    /** Unfinished exports that one client may have; 0: no limit. Without auth all clients count as one. */
    exportsPerClient: number;
    /** Polls of one export's status URL in the long run; 0: no limit. */
    pollsPerMinute: number;
  };
  /** What may be exported at all, by ids of Groups or patterns with `*`, and by types; absent: everything. */
  allow: { groups?: string[]; types?: string[] };
  /** Fields of every FhirExport that this service makes. */
  exports: Pick<
    FhirExportSpec,
    | "ttlSecondsAfterFinished"
    | "deletionPolicy"
    | "onCancel"
    | "onResourceError"
    | "output"
    | "priority"
    | "queueName"
    | "activeDeadlineSeconds"
  >;
  /** Absent: everybody may use the service, as the client "anonymous". */
  auth?: AuthConfig;
}

const oneOf = (...values: string[]) => ({ enum: values });
const integerFrom = (minimum: number, maximum: number) => ({ type: "integer", minimum, maximum });
const namesLike = (pattern: string) => ({ type: "array", uniqueItems: true, items: { type: "string", pattern } });

const settingsSchema = closedObject({
  compat: oneOf("ig", "azure"),
  accept: oneOf("Required", "Assumed"),
  prefer: oneOf("Required", "Assumed"),
  files: closedObject({ delivery: oneOf("Stream", "Redirect"), redirectSeconds: integerFrom(10, 3600) }),
  limits: closedObject({ exportsPerClient: integerFrom(0, 10_000), pollsPerMinute: integerFrom(0, 100_000) }),
  allow: closedObject({ groups: namesLike("^[A-Za-z0-9.*-]{1,64}$"), types: namesLike("^[A-Z][A-Za-z]{0,63}$") }),
  // the API server checks these values when an export is made
  exports: closedObject({
    ttlSecondsAfterFinished: integerFrom(0, 315_360_000),
    deletionPolicy: oneOf("Retain", "Delete"),
    onCancel: oneOf("Delete", "Keep"),
    onResourceError: oneOf("Record", "Fail"),
    output: closedObject({ compression: oneOf("None", "Gzip"), maxFileSize: { type: ["string", "integer"] } }),
    priority: { type: "integer" },
    queueName: { type: "string", maxLength: 253 },
    activeDeadlineSeconds: integerFrom(1, 315_360_000),
  }),
  auth: { type: "object" },
});

const validateSettings = new Ajv({ allErrors: true, allowUnionTypes: true }).compile(settingsSchema);

/** Reads the settings, with the defaults for what is absent.
 *  @param text YAML; empty: all defaults
 *  @throws terminal UnsupportedParameter, naming the fields that are wrong */
export function parseSettings(text: string): ShimSettings {
  let given: unknown;
  try {
    given = parseYAML(text) ?? {};
  } catch {
    throw terminal("UnsupportedParameter", "the configuration is not YAML; mend its syntax");
  }
  if (!validateSettings(given))
    throw terminal(
      "UnsupportedParameter",
      `the configuration is not valid: ${validateSettings.errors!.map((error) => describeSchemaError(error)).join("; ")}`,
    );
  const { files, limits, allow, exports, auth, ...rest } = given as Partial<ShimSettings>;
  return {
    compat: "ig",
    accept: "Required",
    prefer: "Required",
    ...rest,
    files: { delivery: "Stream", redirectSeconds: 300, ...files },
    limits: { exportsPerClient: 10, pollsPerMinute: 1200, ...limits },
    allow: { ...allow },
    exports: { ...exports },
    ...(auth !== undefined && { auth: parseAuthConfig(auth) }),
  };
}
