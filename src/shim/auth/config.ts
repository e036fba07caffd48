import { Ajv, type ErrorObject } from "ajv";
import type { JSONWebKeySet } from "jose";
import { terminal } from "../../failure.ts";

/** Who may use the service. `tokens`: it gives out access tokens itself, to the clients registered here (SMART Backend Services); `issuer`: it takes those of an
 *  authorization server. One of them. */
export interface AuthConfig {
  tokens?: {
    /** files with one JSON Web Key each (kty oct of at least 32 bytes, or a private EC key), the same in all replicas; the first signs, all are taken */
    signingKeyFiles: string[];
    /** life of an access token (IG: at most 300) */
    seconds: number;
  };
  issuer?: {
    /** the `iss` of its tokens */
    url: string;
    /** default: from its discovery document */
    jwksURL?: string;
    /** the `aud` that its tokens for this service have */
    audience: string;
    /** the claim that names the client */
    clientClaim: string;
  };
  /** with `tokens` all that may come; with `issuer`, where given, too */
  clients?: ClientConfig[];
  /** whether the export of a Group needs a scope that reads Groups (IG: it SHOULD; many clients ask for the scopes of the types that they want, and no more) */
  groupScope: "Required" | "Assumed";
}

export interface ClientConfig {
  id: string;
  jwksURL?: string;
  jwks?: JSONWebKeySet;
  /** registered: what its tokens can hold at most */
  scopes: string;
  /** ids of Groups, or patterns with `*` */
  groups?: string[];
  types?: string[];
  disabled?: boolean;
}

const url = {
  type: "string",
  pattern: "^(https://[^/?#@ ]+|http://(localhost|127\\.0\\.0\\.1|\\[::1\\])(:\\d+)?)(/[^# ]*)?$",
};
const name = { type: "string", minLength: 1, maxLength: 256 };
const object = (required: string[], properties: Record<string, unknown>) => ({
  type: "object",
  additionalProperties: false,
  required,
  properties,
});
const list = (items: unknown) => ({ type: "array", minItems: 1, items });

const schema = {
  ...object([], {
    tokens: object(["signingKeyFiles"], {
      signingKeyFiles: { ...list({ type: "string", minLength: 1 }), maxItems: 2 },
      seconds: { type: "integer", minimum: 10, maximum: 300 },
    }),
    issuer: object(["url", "audience"], { url, jwksURL: url, audience: name, clientClaim: name }),
    clients: list({
      ...object(["id", "scopes"], {
        id: name,
        jwksURL: url,
        jwks: { type: "object", required: ["keys"], properties: { keys: list({ type: "object", required: ["kty"] }) } },
        scopes: { type: "string", minLength: 1 },
        groups: list({ type: "string", pattern: "^[A-Za-z0-9.*-]{1,64}$" }),
        types: list({ type: "string", pattern: "^[A-Z][A-Za-z]{0,63}$" }),
        disabled: { type: "boolean" },
      }),
    }),
    groupScope: { enum: ["Required", "Assumed"] },
  }),
  oneOf: [{ required: ["tokens", "clients"] }, { required: ["issuer"] }],
};

const validate = new Ajv({ allErrors: true }).compile(schema);

/** The `auth` of the service's configuration.
 *  @throws terminal UnsupportedParameter, naming the fields that are wrong */
export function parseAuthConfig(given: unknown): AuthConfig {
  const faults = validate(given) ? [] : validate.errors!.map(show);
  if (faults.length === 0) {
    const { tokens, issuer, clients = [] } = given as AuthConfig;
    for (const [index, { id, jwks, jwksURL }] of clients.entries()) {
      const field = `auth.clients.${index}`;
      if (clients.findIndex((other) => other.id === id) !== index) faults.push(`${field}.id is there twice`);
      if (tokens && (jwks === undefined) === (jwksURL === undefined))
        faults.push(`${field} must have one of jwks and jwksURL`);
      if (jwks?.keys.some((key) => "d" in key || key.kty === "oct"))
        faults.push(`${field}.jwks holds a private key; register the public one`);
      if (issuer && (jwks ?? jwksURL)) faults.push(`${field} has keys, which only auth.tokens uses`);
    }
  }
  if (faults.length > 0) throw terminal("UnsupportedParameter", `the configuration is not valid: ${faults.join("; ")}`);
  const { tokens, issuer, clients, groupScope = "Assumed" } = given as AuthConfig;
  return {
    groupScope,
    ...(tokens && { tokens: { ...tokens, seconds: tokens.seconds ?? 300 } }),
    ...(issuer && { issuer: { ...issuer, clientClaim: issuer.clientClaim ?? "client_id" } }),
    ...(clients && { clients }),
  };
}

function show({ instancePath, keyword, message, params }: ErrorObject): string {
  if (keyword === "oneOf") return "auth must have either tokens and clients, or issuer";
  const extra =
    "additionalProperty" in params
      ? ` (${params.additionalProperty})`
      : "allowedValues" in params
        ? `: ${params.allowedValues}`
        : "";
  return `auth${instancePath.replaceAll("/", ".")} ${message}${extra}`;
}
