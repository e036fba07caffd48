import { randomUUID } from "node:crypto";
import { decodeJwt, type JWTPayload, jwtVerify } from "jose";
import { FailureError, waiting } from "../../failure.ts";
import { withoutTrailingSlash } from "../../url.ts";
import { errorAnswer, type HttpAnswer, withHeaders } from "../outcome.ts";
import { Assertions } from "./assertion.ts";
import type { AuthConfig, ClientConfig } from "./config.ts";
import { fetchJSON, RemoteKeys } from "./keys.ts";
import type { Replay } from "./replay.ts";
import { type Access, grantScopes, readableBy } from "./scopes.ts";
import { Signing } from "./signing.ts";

export type TokenAnswer = HttpAnswer & {
  /** The client that got a token; absent in an error. */
  client?: string;
};

export type Authentication = { kind: "access"; access: Access } | { kind: "refused"; answer: HttpAnswer };

/** Decides who may use the service, and gives out tokens. */
export interface Authority {
  /** Finds who sent a request with this Authorization header, or the 401 to answer.
   *  @throws waiting when that cannot be told now */
  authenticate(authorization: string | undefined): Promise<Authentication>;
  /** The token endpoint (RFC 6749 section 4.4, SMART Backend Services).
   *  @throws waiting when keys, or the memory of used assertions, cannot be reached */
  token(body: Buffer, contentType: string | undefined): Promise<TokenAnswer>;
  /** `/.well-known/smart-configuration` */
  smartConfiguration(): object;
}

interface AuthorityOptions {
  /** The FHIR base as clients see it. */
  base: string;
  replay: Replay;
  /** Milliseconds. */
  now: () => number;
}

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/** Algorithms of an authorization server's tokens. Symmetric ones are not among them, because the key that the
 *  server publishes could then sign tokens. */
const issuerAlgorithms = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"];

export function makeAuthority(config: AuthConfig, options: AuthorityOptions): Authority {
  const clients = config.clients && new Map(config.clients.map((client) => [client.id, client]));
  const verify = config.tokens ? ownTokens(config.tokens, options) : issuedTokens(config.issuer!, options);
  return {
    authenticate: async (authorization) => {
      const token = /^Bearer +(\S+) *$/i.exec(authorization ?? "")?.[1];
      // RFC 6750 section 3.1: no error code for a request without credentials
      if (token === undefined) return unauthorized();
      const verified = await verify(token);
      if (!verified) return unauthorized("invalid_token");
      const client = clients?.get(verified.client);
      if (clients && (!client || client.disabled)) return unauthorized("invalid_token");
      return { kind: "access", access: accessOf(verified, client, config.groupScope === "Required") };
    },
    token: config.tokens ? tokenEndpoint(config, options) : async () => noTokenEndpoint,
    smartConfiguration: () => smartConfiguration(config, options.base),
  };
}

const noTokenEndpoint = errorAnswer(404, {
  code: "not-found",
  text: "this service gives out no access tokens; get one from the authorization server, the issuer in /.well-known/smart-configuration",
});

/** What a valid access token says. */
interface VerifiedToken {
  client: string;
  /** Scopes, separated by blanks. */
  scope: string;
}

function accessOf({ client, scope }: VerifiedToken, limits: ClientConfig | undefined, groupScope: boolean): Access {
  // the scopes that are registered now count, not those that were when the token was made
  const readable = readableBy(limits ? (grantScopes(scope, limits.scopes) ?? "") : scope);
  return {
    client,
    readable,
    groupScope,
    ...(limits?.groups && { groups: limits.groups }),
    ...(limits?.types && { types: limits.types }),
  };
}

const unauthorized = (error?: "invalid_token"): Authentication => {
  const text = error
    ? "the access token is not valid or has expired; get a new one"
    : "an access token is needed: send the header Authorization: Bearer …";
  const challenge = `Bearer realm="fhir-export"${error ? `, error="${error}"` : ""}`;
  const answer = withHeaders(errorAnswer(401, { code: "login", text }), { "www-authenticate": challenge });
  return { kind: "refused", answer };
};

const tokenEndpointURL = (base: string) => `${base}/auth/token`;
const signingOf = ({ signingKeyFiles }: NonNullable<AuthConfig["tokens"]>, { base, now }: AuthorityOptions) =>
  new Signing(signingKeyFiles, base, now);

/** Verifies the tokens that this service gives out. */
function ownTokens(tokens: NonNullable<AuthConfig["tokens"]>, options: AuthorityOptions) {
  const own = signingOf(tokens, options);
  return async (token: string): Promise<VerifiedToken | undefined> => {
    const claims = await own.verify(token);
    return claims && { client: claims.sub!, scope: String(claims.scope ?? "") };
  };
}

/** Verifies the tokens of an authorization server. */
function issuedTokens(
  { url, jwksURL, audience, clientClaim }: NonNullable<AuthConfig["issuer"]>,
  { now }: AuthorityOptions,
) {
  const keys = new RemoteKeys(async () => jwksURL ?? (await discoverKeysURL(url)), now);
  return async (token: string): Promise<VerifiedToken | undefined> => {
    try {
      // the issuer is checked before a key is fetched, so that junk causes no request
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

/** The scopes of a token, separated by blanks: `scope` (RFC 9068) or `scp` (Entra ID, Okta), a string or a list.
 *  Entra ID puts `roles` instead into the tokens of an application that acts for no user. */
const scopesOf = ({ scope, scp, roles }: JWTPayload): string =>
  [scope ?? scp ?? roles ?? []].flat().map(String).join(" ");

/** Finds the URL of an authorization server's keys in its discovery document.
 *  @throws waiting when the document cannot be fetched or has none */
async function discoverKeysURL(issuer: string): Promise<string> {
  const { body } = await fetchJSON(`${withoutTrailingSlash(issuer)}/.well-known/openid-configuration`);
  const { jwks_uri } = (body ?? {}) as { jwks_uri?: unknown };
  if (typeof jwks_uri !== "string")
    throw waiting("Internal", "the discovery document of auth.issuer has no jwks_uri; set auth.issuer.jwksURL");
  return jwks_uri;
}

function tokenEndpoint({ tokens, clients = [] }: AuthConfig, options: AuthorityOptions): Authority["token"] {
  const assertions = new Assertions(clients, tokenEndpointURL(options.base), options.replay, options.now);
  const own = signingOf(tokens!, options);
  const { seconds } = tokens!;
  return async (body, contentType) => {
    const form = new URLSearchParams(body.toString());
    const fault = tokenRequestFault(form, contentType);
    if (fault) return fault;
    const verified = await assertions.verify(form.get("client_assertion")!);
    if (verified.kind === "refused") return oauthError(401, "invalid_client", verified.problem);
    const { client } = verified;
    const scope = grantScopes(form.get("scope")!.trim(), client.scopes);
    if (scope === undefined)
      return oauthError(
        400,
        "invalid_scope",
        "scopes with search parameters are not supported; ask for whole types, for example system/Patient.rs",
      );
    if (scope === "")
      return oauthError(
        400,
        "invalid_scope",
        "none of the scopes is registered for this client and can be used by an export; scopes_supported in /.well-known/smart-configuration lists those that can",
      );
    const token = await own.sign({ scope, client_id: client.id }, client.id, randomUUID(), seconds);
    return {
      client: client.id,
      status: 200,
      headers: oauthHeaders,
      body: { access_token: token, token_type: "bearer", expires_in: seconds, scope },
    };
  };
}

/** What is wrong with a token request before its assertion is verified. */
function tokenRequestFault(form: URLSearchParams, contentType: string | undefined): HttpAnswer | undefined {
  if ((contentType ?? "").split(";", 1)[0]!.trim().toLowerCase() !== "application/x-www-form-urlencoded")
    return oauthError(
      400,
      "invalid_request",
      "the token request must have the header Content-Type: application/x-www-form-urlencoded",
    );
  for (const name of ["grant_type", "scope", "client_assertion_type", "client_assertion"])
    if (form.getAll(name).length > 1)
      return oauthError(400, "invalid_request", `${name} is there more than once; send it once`);
  if (form.get("grant_type") === null)
    return oauthError(400, "invalid_request", "grant_type is missing; send client_credentials");
  if (form.get("grant_type") !== "client_credentials")
    return oauthError(400, "unsupported_grant_type", "grant_type must be client_credentials");
  if (form.get("client_assertion_type") !== assertionType)
    return oauthError(400, "invalid_request", `client_assertion_type must be ${assertionType}`);
  if (!form.get("client_assertion"))
    return oauthError(400, "invalid_request", "client_assertion is missing; send a signed JWT");
  if ((form.get("scope")?.trim() ?? "") === "")
    return oauthError(400, "invalid_scope", "scope is missing; send for example system/*.rs");
  return undefined;
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
