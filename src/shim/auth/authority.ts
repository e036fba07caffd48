import { randomUUID } from "node:crypto";
import { decodeJwt, type JWTPayload, jwtVerify } from "jose";
import { FailureError, waiting } from "../../failure.ts";
import { withoutTrailingSlash } from "../../url.ts";
import { errorAnswer, type HttpAnswer } from "../outcome.ts";
import { Assertions } from "./assertion.ts";
import type { AuthConfig, ClientConfig } from "./config.ts";
import { fetchJSON, RemoteKeys } from "./keys.ts";
import type { Replay } from "./replay.ts";
import { type Access, grant, readableBy } from "./scopes.ts";
import { Signing } from "./signing.ts";

export type { Access } from "./scopes.ts";
export { anonymous } from "./scopes.ts";

/** `client`: who got a token */
export type TokenAnswer = HttpAnswer & { client?: string };

/** Who is let in, and how one gets a token. */
export interface Authority {
  /** Of a request's Authorization header: who it is, or the 401 to answer.
   *  @throws waiting when that cannot be told now */
  authenticate(authorization: string | undefined): Promise<Access | HttpAnswer>;
  /** The token endpoint (RFC 6749 section 4.4, SMART Backend Services).
   *  @throws waiting */
  token(body: Buffer, contentType: string | undefined): Promise<TokenAnswer>;
  /** `/.well-known/smart-configuration` */
  smartConfiguration(): object;
}

export interface AuthorityOptions {
  /** the FHIR base as clients see it */
  base: string;
  replay: Replay;
  /** milliseconds */
  now: () => number;
}

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/** of an external issuer; never a symmetric one, whose key would be public */
const issuerAlgorithms = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"];

export function makeAuthority(config: AuthConfig, options: AuthorityOptions): Authority {
  const clients = config.clients && new Map(config.clients.map((client) => [client.id, client]));
  const identify = config.tokens ? ownTokens(config.tokens, options) : issuedTokens(config.issuer!, options);
  return {
    authenticate: async (authorization) => {
      const token = /^Bearer +(\S+) *$/i.exec(authorization ?? "")?.[1];
      // RFC 6750 section 3.1: no error code where there were no credentials
      if (token === undefined) return unauthorized();
      const found = await identify(token);
      if (!found) return unauthorized("invalid_token");
      const client = clients?.get(found.client);
      if (clients && (!client || client.disabled)) return unauthorized("invalid_token");
      return accessOf(found, client, config.groupScope === "Required");
    },
    token: config.tokens
      ? tokenEndpoint(config, options)
      : async () => errorAnswer(404, { code: "not-found", text: "tokens come from another server" }),
    smartConfiguration: () => smartConfiguration(config, options.base),
  };
}

interface VerifiedToken {
  client: string;
  scope: string;
}

function accessOf({ client, scope }: VerifiedToken, limits: ClientConfig | undefined, groupScope: boolean): Access {
  // what is registered now counts, not what was when the token was made
  const readable = readableBy(limits ? (grant(scope, limits.scopes) ?? "") : scope);
  return {
    client,
    readable,
    groupScope,
    ...(limits?.groups && { groups: limits.groups }),
    ...(limits?.types && { types: limits.types }),
  };
}

const unauthorized = (error?: "invalid_token"): HttpAnswer => {
  const text = error
    ? "the access token is not valid, or has expired"
    : "an access token is needed: Authorization: Bearer …";
  const answer = errorAnswer(401, { code: "login", text });
  const challenge = `Bearer realm="fhir-export"${error ? `, error="${error}"` : ""}`;
  return { ...answer, headers: { ...answer.headers, "www-authenticate": challenge } };
};

const tokenEndpointURL = (base: string) => `${base}/auth/token`;
const signing = ({ signingKeyFiles }: NonNullable<AuthConfig["tokens"]>, { base, now }: AuthorityOptions) =>
  new Signing(signingKeyFiles, base, now);

function ownTokens(tokens: NonNullable<AuthConfig["tokens"]>, options: AuthorityOptions) {
  const own = signing(tokens, options);
  return async (token: string): Promise<VerifiedToken | undefined> => {
    const claims = await own.verify(token);
    return claims && { client: claims.sub!, scope: String(claims.scope ?? "") };
  };
}

function issuedTokens(
  { url, jwksURL, audience, clientClaim }: NonNullable<AuthConfig["issuer"]>,
  { now }: AuthorityOptions,
) {
  const keys = new RemoteKeys(async () => jwksURL ?? (await discover(url)), now);
  return async (token: string): Promise<VerifiedToken | undefined> => {
    try {
      // before a key is asked for: junk costs no request
      if (decodeJwt(token).iss !== url) return undefined;
      const { payload } = await jwtVerify(token, keys.get, {
        algorithms: issuerAlgorithms,
        issuer: url,
        audience,
        requiredClaims: ["exp", clientClaim],
        clockTolerance: 60,
        currentDate: new Date(now()),
      });
      const client = payload[clientClaim];
      return typeof client === "string" && client !== "" && client.length <= 256
        ? { client, scope: scopesOf(payload) }
        : undefined;
    } catch (error) {
      if (error instanceof FailureError) throw error;
      return undefined;
    }
  };
}

/** `scope` (RFC 9068) or `scp` (Entra ID, Okta), a string or a list; Entra ID gives an application, which acts for no user, its `roles` instead */
const scopesOf = ({ scope, scp, roles }: JWTPayload): string =>
  [scope ?? scp ?? roles ?? []].flat().map(String).join(" ");

/** @throws waiting */
async function discover(issuer: string): Promise<string> {
  const { body } = await fetchJSON(`${withoutTrailingSlash(issuer)}/.well-known/openid-configuration`);
  const { jwks_uri } = (body ?? {}) as { jwks_uri?: unknown };
  if (typeof jwks_uri !== "string")
    throw waiting("Internal", "the discovery document of auth.issuer has no jwks_uri; set auth.issuer.jwksURL");
  return jwks_uri;
}

function tokenEndpoint({ tokens, clients = [] }: AuthConfig, options: AuthorityOptions): Authority["token"] {
  const assertions = new Assertions(clients, tokenEndpointURL(options.base), options.replay, options.now);
  const own = signing(tokens!, options);
  return async (body, contentType) => {
    if ((contentType ?? "").split(";", 1)[0]!.trim().toLowerCase() !== "application/x-www-form-urlencoded")
      return oauthError(400, "invalid_request", "the token request must be application/x-www-form-urlencoded");
    const form = new URLSearchParams(body.toString());
    for (const name of ["grant_type", "scope", "client_assertion_type", "client_assertion"])
      if (form.getAll(name).length > 1) return oauthError(400, "invalid_request", `${name} is there more than once`);
    if (form.get("grant_type") === null) return oauthError(400, "invalid_request", "grant_type is missing");
    if (form.get("grant_type") !== "client_credentials")
      return oauthError(400, "unsupported_grant_type", "grant_type must be client_credentials");
    if (form.get("client_assertion_type") !== assertionType)
      return oauthError(400, "invalid_request", `client_assertion_type must be ${assertionType}`);
    if (!form.get("client_assertion")) return oauthError(400, "invalid_request", "client_assertion is missing");
    const scope = form.get("scope")?.trim() ?? "";
    if (scope === "") return oauthError(400, "invalid_scope", "scope is missing, for example system/*.rs");
    const client = await assertions.verify(form.get("client_assertion")!);
    if (typeof client === "string") return oauthError(401, "invalid_client", client);
    const granted = grant(scope, client.scopes);
    if (granted === undefined)
      return oauthError(400, "invalid_scope", "scopes with search parameters are not supported");
    if (granted === "")
      return oauthError(
        400,
        "invalid_scope",
        "none of the scopes is registered for this client and can be used by an export",
      );
    const seconds = tokens!.seconds;
    return {
      client: client.id,
      status: 200,
      headers: oauthHeaders,
      body: {
        access_token: await own.sign({ scope: granted, client_id: client.id }, client.id, randomUUID(), seconds),
        token_type: "bearer",
        expires_in: seconds,
        scope: granted,
      },
    };
  };
}

const oauthHeaders = { "content-type": "application/json", "cache-control": "no-store", pragma: "no-cache" };
const oauthError = (status: number, error: string, description: string): HttpAnswer => ({
  status,
  headers: oauthHeaders,
  body: { error, error_description: description },
});

function smartConfiguration({ tokens, issuer, clients = [] }: AuthConfig, base: string): object {
  const scopes = [...new Set(clients.flatMap((client) => client.scopes.split(" ").filter(Boolean)))].sort();
  const common = {
    grant_types_supported: ["client_credentials"],
    code_challenge_methods_supported: ["S256"],
    scopes_supported: scopes.length > 0 ? scopes : ["system/*.rs", "system/*.read"],
    capabilities: ["client-confidential-asymmetric", "permission-v1", "permission-v2"],
  };
  if (!tokens) return { issuer: issuer!.url, ...(issuer!.jwksURL && { jwks_uri: issuer!.jwksURL }), ...common };
  return {
    token_endpoint: tokenEndpointURL(base),
    token_endpoint_auth_methods_supported: ["private_key_jwt"],
    token_endpoint_auth_signing_alg_values_supported: ["RS384", "ES384"],
    ...common,
  };
}
