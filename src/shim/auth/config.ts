import { Ajv, type ErrorObject } from "ajv";
import type { JSONWebKeySet } from "jose";
import { terminal } from "../../failure.ts";
import { closedObject, describeSchemaError } from "../schema.ts";

/** Who may use the service. With `tokens` it gives out access tokens itself, to the clients registered here (SMART
 *  Backend Services). With `issuer` it accepts the tokens of an authorization server. Exactly one of the two is set. */
export interface AuthConfig {
  tokens?: {
    /** Files with one JSON Web Key each (kty oct of at least 32 bytes, or a private EC key), the same in all
     *  replicas. The first key signs; tokens of all are accepted. */
    signingKeyFiles: string[];
    /** Life of an access token; the IG allows 300 at most. */
    seconds: number;
  };
  issuer?: {
    /** The `iss` of its tokens. */
    url: string;
    /** Where its keys are. Default: the `jwks_uri` of its discovery document. */
    jwksURL?: string;
    /** The `aud` of its tokens for this service. */
    audience: string;
    /** The claim that names the client. */
    clientClaim: string;
  };
  /** With `tokens`: all clients that may use the service. With `issuer`: the same, but absent means every client
   *  that has a token. */
  clients?: ClientConfig[];
  /** Whether the export of a Group needs a scope that reads Groups. The IG says it SHOULD, but many clients ask only
   *  for the scopes of the types they want. */
  groupScope: "Required" | "Assumed";
}

export interface ClientConfig {
  id: string;
  jwksURL?: string;
  jwks?: JSONWebKeySet;
  /** The registered scopes: a token of this client can hold no others. */
  scopes: string;
  /** Ids of Groups, or patterns with `*`; absent: any Group. */
  groups?: string[];
  /** Absent: any type. */
  types?: string[];
  disabled?: boolean;
}

const httpsURL = {
  type: "string",
  pattern: "^(https://[^/?#@ ]+|http://(localhost|127\\.0\\.0\\.1|\\[::1\\])(:\\d+)?)(/[^# ]*)?$",
};
const shortText = { type: "string", minLength: 1, maxLength: 256 };
const nonEmptyList = (items: unknown) => ({ type: "array", minItems: 1, items });

const authSchema = {
  ...closedObject({
    tokens: closedObject(
      {
        signingKeyFiles: { ...nonEmptyList({ type: "string", minLength: 1 }), maxItems: 2 },
        seconds: { type: "integer", minimum: 10, maximum: 300 },
      },
      ["signingKeyFiles"],
    ),
    issuer: closedObject({ url: httpsURL, jwksURL: httpsURL, audience: shortText, clientClaim: shortText }, [
      "url",
      "audience",
    ]),
    clients: nonEmptyList(
      closedObject(
        {
          id: shortText,
          jwksURL: httpsURL,
          jwks: {
            type: "object",
            required: ["keys"],
            properties: { keys: nonEmptyList({ type: "object", required: ["kty"] }) },
          },
          scopes: { type: "string", minLength: 1 },
          groups: nonEmptyList({ type: "string", pattern: "^[A-Za-z0-9.*-]{1,64}$" }),
          types: nonEmptyList({ type: "string", pattern: "^[A-Z][A-Za-z]{0,63}$" }),
          disabled: { type: "boolean" },
        },
        ["id", "scopes"],
      ),
    ),
    groupScope: { enum: ["Required", "Assumed"] },
  }),
  oneOf: [{ required: ["tokens", "clients"] }, { required: ["issuer"] }],
};

const validateAuth = new Ajv({ allErrors: true }).compile(authSchema);

/** Reads the `auth` of the service's settings, with the defaults for what is absent.
 *  @throws terminal UnsupportedParameter, naming every field that is wrong */
export function parseAuthConfig(given: unknown): AuthConfig {
  const isValid: boolean = validateAuth(given);
  const faults = isValid ? clientFaults(given as AuthConfig) : validateAuth.errors!.map(describeAuthError);
  if (faults.length > 0) throw terminal("UnsupportedParameter", `the configuration is not valid: ${faults.join("; ")}`);
  const { tokens, issuer, clients, groupScope = "Assumed" } = given as AuthConfig;
  return {
    groupScope,
    ...(tokens && { tokens: { ...tokens, seconds: tokens.seconds ?? 300 } }),
    ...(issuer && { issuer: { ...issuer, clientClaim: issuer.clientClaim ?? "client_id" } }),
    ...(clients && { clients }),
  };
}

/** What the schema cannot say about clients. */
function clientFaults({ tokens, issuer, clients = [] }: AuthConfig): string[] {
  const faults: string[] = [];
  for (const [index, { id, jwks, jwksURL }] of clients.entries()) {
    const field = `auth.clients.${index}`;
    if (clients.findIndex((other) => other.id === id) !== index)
      faults.push(`${field}.id is the id of an earlier client; give each client its own`);
    if (tokens && (jwks === undefined) === (jwksURL === undefined))
      faults.push(`${field} must have exactly one of jwks and jwksURL`);
    if (jwks?.keys.some((key) => "d" in key || key.kty === "oct"))
      faults.push(`${field}.jwks holds a private key; register the public key instead`);
    if (issuer && (jwks ?? jwksURL))
      faults.push(`${field} has jwks or jwksURL, which only auth.tokens uses; remove it`);
  }
  return faults;
}

const describeAuthError = (error: ErrorObject): string =>
  error.keyword === "oneOf"
    ? "auth must have either tokens and clients, or issuer"
    : describeSchemaError(error, "auth");
