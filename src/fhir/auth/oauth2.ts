import { Agent, request } from "undici";
import type { Task } from "../../contracts.ts";
import { FailureError, showURL, terminal, transient } from "../../failure.ts";
import { withTrailingSlash } from "../../url.ts";
import { tlsHint } from "../tls.ts";
import { connector } from "./connector.ts";
import { type AccessToken, checkToken, type ReadSecret } from "./credentials.ts";

const maxAnswerBytes = 256 * 1024;
/** The life of a token whose answer has no `expires_in`. A 401 of the source renews a token that ends earlier. */
const defaultLifeSeconds = 300;
const tokenTimeoutMs = 30_000;

/** What a token is asked for with. */
export interface TokenRequest {
  form: Record<string, string>;
  authorization?: string;
  /** the fields and keys to check where the server refuses the client, for example `clientID and key
   *  "client-secret"` */
  toCheck: string;
}

interface TokenEndpointAnswer {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  body: string;
}

/** Talks to the token endpoint. The body of an error is never shown or kept, since it may repeat the secret that was
 *  sent. */
export class TokenClient {
  readonly kind: "oauth2" | "smart";
  readonly base: URL;
  readonly #signal: AbortSignal;
  readonly #agent: Agent;

  constructor({ auth, baseURL, proxy }: Task["source"], folder: string, signal: AbortSignal) {
    this.kind = auth.kind as "oauth2" | "smart";
    this.base = new URL(withTrailingSlash(baseURL));
    this.#signal = signal;
    // It has a connection of its own, since the client's connections to the source are the run's share of the source's
    // limits.
    this.#agent = new Agent({
      connections: 1,
      allowH2: false,
      headersTimeout: tokenTimeoutMs,
      bodyTimeout: tokenTimeoutMs,
      connect: connector(folder, proxy),
    });
  }

  /** Checks the URL of a token endpoint, and gives it back unchanged, since servers compare the audience of an
   *  assertion as text.
   *  @param text the URL, as a field of the FhirSource or the SMART configuration has it
   *  @param named where it stands, for the message
   *  @param mend what to do where it is not mended there
   *  @throws terminal SourceUnauthorized where it is no URL that a credential may be sent to */
  checkEndpoint(text: string, named: string, mend?: string): string {
    const advice = mend ? `; ${mend}` : "";
    const url = URL.canParse(text) ? new URL(text) : undefined;
    if (!url || (url.protocol !== "https:" && url.protocol !== "http:") || url.username || url.password || url.hash)
      throw terminal("SourceUnauthorized", `${named} is not an absolute https URL without user and fragment${advice}`);
    // Whoever has the credential can read the data, so it is sent in the clear only where the data are, too.
    if (url.protocol === "http:" && this.base.protocol !== "http:")
      throw terminal(
        "SourceUnauthorized",
        `${named} (${showURL(url)}) must be https, as spec.baseURL of the FhirSource is${advice}`,
      );
    return text;
  }

  /** Asks for a token by the client credentials grant (RFC 6749 section 4.4).
   *  @throws terminal SourceUnauthorized, which names the field or the key of the Secret to mend; transient
   *    SourceUnreachable while the endpoint does not answer, or answers 408, 429 or 5xx */
  async token(endpoint: string, { form, authorization, toCheck }: TokenRequest): Promise<AccessToken> {
    const url = new URL(endpoint);
    const answer = await this.#send(url, {
      method: "POST",
      headers: { "content-type": "application/x-www-form-urlencoded", ...(authorization && { authorization }) },
      body: new URLSearchParams(form).toString(),
    });
    const at = showURL(url);
    throwIfPassing(answer, at);
    const { status } = answer;
    const field = `spec.auth.${this.kind}`;
    const isWebPage = isHTML(answer);
    if (status === 401 || (!isWebPage && (status === 400 || status === 403))) throw this.#refused(at, answer, toCheck);
    if (isWebPage)
      throw terminal(
        "SourceUnauthorized",
        `the token endpoint ${at} answers a web page (${status}); check ${field}.tokenURL of the FhirSource`,
      );
    if (status >= 300)
      throw terminal(
        "SourceUnauthorized",
        `the token endpoint ${at} answers ${status}; check ${field}.tokenURL of the FhirSource`,
      );
    const { access_token, token_type, expires_in } = this.#json(answer, `the token endpoint ${at}`);
    if (typeof access_token !== "string" || access_token === "")
      throw terminal(
        "SourceUnauthorized",
        `the answer of ${at} has no access_token; check ${field}.tokenURL of the FhirSource`,
      );
    if (token_type !== undefined && String(token_type).toLowerCase() !== "bearer")
      throw terminal(
        "SourceUnauthorized",
        `the token endpoint ${at} gives tokens that are not of the type bearer; set the client up there for bearer tokens`,
      );
    // Some servers send the number as text.
    const seconds = Number(expires_in ?? defaultLifeSeconds);
    return {
      value: checkToken(access_token, `the access_token of ${at}`),
      lifeMs: (seconds >= 0 ? seconds : defaultLifeSeconds) * 1000,
    };
  }

  /** Reads the URL of the token endpoint from the source's `.well-known/smart-configuration`.
   *  @throws terminal SourceUnauthorized where it names none; transient while it does not answer */
  async discover(): Promise<string> {
    const url = new URL(".well-known/smart-configuration", this.base);
    const answer = await this.#send(url, { method: "GET", headers: {} });
    const at = showURL(url);
    throwIfPassing(answer, at);
    const mend = "name the token endpoint in spec.auth.smart.tokenURL of the FhirSource";
    if (answer.status !== 200 || isHTML(answer))
      throw terminal(
        "SourceUnauthorized",
        `the source has no SMART configuration (${answer.status} at ${at}); ${mend}`,
      );
    const { token_endpoint } = this.#json(answer, at);
    if (typeof token_endpoint !== "string")
      throw terminal("SourceUnauthorized", `${at} names no token_endpoint; ${mend}`);
    return this.checkEndpoint(token_endpoint, `token_endpoint in ${at}`, mend);
  }

  /** Why the endpoint refuses the client, and which field or key of the Secret to check for it. */
  #refused(at: string, { status, body }: TokenEndpointAnswer, toCheck: string): FailureError {
    const code = errorCode(body);
    const field = `spec.auth.${this.kind}`;
    let mend = `check ${field} of the FhirSource: tokenURL, scope, ${toCheck}`;
    if (code === "invalid_scope") mend = `check ${field}.scope of the FhirSource`;
    else if (code === "unauthorized_client" || code === "unsupported_grant_type")
      mend = `allow the grant client_credentials there to the client that ${field}.clientID of the FhirSource names`;
    else if (code === "invalid_client" || code === "invalid_grant" || status !== 400)
      mend = `check ${field} of the FhirSource: ${toCheck}`;
    return terminal("SourceUnauthorized", `the token endpoint ${at} refuses (${code ?? status}); ${mend}`);
  }

  #json({ body }: TokenEndpointAnswer, what: string): Record<string, unknown> {
    try {
      const value = JSON.parse(body) as unknown;
      return value !== null && typeof value === "object" ? (value as Record<string, unknown>) : {};
    } catch {
      // The cause is left out, since its message quotes the body.
      throw transient(
        "SourceUnreachable",
        `the answer of ${what} is not JSON; check spec.auth.${this.kind}.tokenURL of the FhirSource`,
      );
    }
  }

  async #send(
    url: URL,
    how: { method: "GET" | "POST"; headers: Record<string, string>; body?: string },
  ): Promise<TokenEndpointAnswer> {
    try {
      const answer = await request(url, {
        ...how,
        dispatcher: this.#agent,
        signal: this.#signal,
        headers: { accept: "application/json", "user-agent": "fhir-export", ...how.headers },
      });
      let body = "";
      answer.body.setEncoding("utf8");
      for await (const chunk of answer.body) {
        body += chunk;
        if (body.length > maxAnswerBytes) {
          answer.body.destroy();
          throw terminal(
            "SourceUnauthorized",
            `the answer of ${showURL(url)} is too long for a token (more than 256 KiB); check spec.auth.${this.kind} of the FhirSource`,
          );
        }
      }
      return { status: answer.statusCode, headers: answer.headers, body: body.replace(/^\uFEFF/, "") };
    } catch (error) {
      if (error instanceof FailureError || this.#signal.aborted) throw error;
      const code = (error as NodeJS.ErrnoException).code ?? (error as Error).name;
      throw transient(
        "SourceUnreachable",
        `${showURL(url)}, where the source's token comes from, does not answer (${code}); check ${tlsHint(code) ?? `spec.auth.${this.kind}.tokenURL of the FhirSource and the network`}`,
      );
    }
  }

  close(): Promise<void> {
    return this.#agent.destroy();
  }
}

/** OAuth 2 client credentials with a client secret, which is sent by HTTP basic authentication (RFC 6749 section
 *  2.3.1).
 *  @returns asks for a token; it reads the secret each time */
export function clientSecretToken(
  client: TokenClient,
  auth: Task["source"]["auth"],
  secret: ReadSecret,
): () => Promise<AccessToken> {
  const url = client.checkEndpoint(auth.tokenURL ?? "", "spec.auth.oauth2.tokenURL of the FhirSource");
  return async () => {
    const pair = [auth.clientID ?? "", await secret("client-secret")].map(encodeURIComponent).join(":");
    return client.token(url, {
      form: { grant_type: "client_credentials", ...(auth.scope && { scope: auth.scope }) },
      authorization: `Basic ${Buffer.from(pair).toString("base64")}`,
      toCheck: 'clientID and key "client-secret" in its Secret',
    });
  };
}

const errorCodes = [
  "invalid_client",
  "invalid_grant",
  "invalid_request",
  "invalid_scope",
  "unauthorized_client",
  "unsupported_grant_type",
];

/** The error code of RFC 6749 section 5.2. Nothing else of the body is used. */
function errorCode(body: string): string | undefined {
  try {
    return errorCodes.find((code) => code === (JSON.parse(body) as { error?: unknown }).error);
  } catch {
    return undefined;
  }
}

/** @throws transient SourceUnreachable for a status that may be another one later */
function throwIfPassing({ status, headers }: TokenEndpointAnswer, at: string): void {
  if (status === 408 || status === 429 || status >= 500)
    throw transient("SourceUnreachable", `${at}, where the source's token comes from, answers ${status}`, { headers });
}

/** Its content says so: some servers send JSON as text/html. */
const isHTML = ({ body }: TokenEndpointAnswer) => body.trimStart().startsWith("<");
