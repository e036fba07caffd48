import { Agent, request } from "undici";
import type { Task } from "../../contracts.ts";
import { FailureError, showURL, terminal, transient } from "../../failure.ts";
import { withTrailingSlash } from "../../url.ts";
import { tlsHint } from "../tls.ts";
import { connector } from "./connector.ts";
import type { Token } from "./holder.ts";
import { checkToken, type ReadSecret } from "./open.ts";

const maxAnswerBytes = 256 * 1024;
/** where the server does not say; a 401 renews it earlier */
const defaultLifeSeconds = 300;
const timeoutMs = 30_000;

/** A token request: the form, and what to mend where the server refuses the client. */
export interface Ask {
  form: Record<string, string>;
  authorization?: string;
  /** e.g. `clientID and key "client-secret"` */
  client: string;
}

interface Said {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  body: string;
}

/** Talks to the token endpoint. Bodies of errors are never shown or kept: they may repeat what was sent. */
export class TokenClient {
  readonly kind: "oauth2" | "smart";
  readonly base: URL;
  readonly #signal: AbortSignal;
  readonly #agent: Agent;

  constructor({ auth, baseURL }: Task["source"], folder: string, signal: AbortSignal) {
    this.kind = auth.kind as "oauth2" | "smart";
    this.base = new URL(withTrailingSlash(baseURL));
    this.#signal = signal;
    // not the source's own: that one's connections are the share of the source's limits
    this.#agent = new Agent({
      connections: 1,
      allowH2: false,
      headersTimeout: timeoutMs,
      bodyTimeout: timeoutMs,
      connect: connector(folder),
    });
  }

  /** The token endpoint as a field or the discovery names it: as it is, since servers compare an assertion's audience as text.
   *  @throws terminal where it is no URL to send a credential to */
  endpoint(text: string, named: string): string {
    const url = URL.canParse(text) ? new URL(text) : undefined;
    if (!url || (url.protocol !== "https:" && url.protocol !== "http:") || url.username || url.password || url.hash)
      throw terminal("SourceUnauthorized", `${named} is not an absolute https URL without user and fragment`);
    // what is sent there is worth as much as the data: never in the clear, unless the data are
    if (url.protocol === "http:" && this.base.protocol !== "http:")
      throw terminal(
        "SourceUnauthorized",
        `${named} (${showURL(url)}) must be https, as spec.baseURL of the FhirSource is`,
      );
    return text;
  }

  /** @throws terminal SourceUnauthorized, naming the field or Secret key; transient while the endpoint is out of service */
  async token(endpoint: string, { form, authorization, client }: Ask): Promise<Token> {
    const url = new URL(endpoint);
    const answer = await this.#send(url, {
      method: "POST",
      headers: { "content-type": "application/x-www-form-urlencoded", ...(authorization && { authorization }) },
      body: new URLSearchParams(form).toString(),
    });
    const at = showURL(url);
    this.#passing(answer, at);
    const { status } = answer;
    const field = `spec.auth.${this.kind}`;
    const html = isHTML(answer);
    if (status === 401 || (!html && (status === 400 || status === 403)))
      throw terminal("SourceUnauthorized", refusal(at, status, errorCode(answer.body), field, client));
    if (html)
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
        `the token endpoint ${at} gives tokens that are not of the type bearer; the client must be set up for these`,
      );
    // some servers send the number as text
    const seconds = Number(expires_in ?? defaultLifeSeconds);
    return {
      value: checkToken(access_token, `the access_token of ${at}`),
      lifeMs: (seconds >= 0 ? seconds : defaultLifeSeconds) * 1000,
    };
  }

  /** The token endpoint that the source's SMART configuration names. */
  async discover(): Promise<string> {
    const url = new URL(".well-known/smart-configuration", this.base);
    const answer = await this.#send(url, { method: "GET", headers: {} });
    const at = showURL(url);
    this.#passing(answer, at);
    const mend = "name the token endpoint in spec.auth.smart.tokenURL of the FhirSource";
    if (answer.status !== 200 || isHTML(answer))
      throw terminal(
        "SourceUnauthorized",
        `the source has no SMART configuration (${answer.status} at ${at}); ${mend}`,
      );
    const { token_endpoint } = this.#json(answer, at);
    if (typeof token_endpoint !== "string")
      throw terminal("SourceUnauthorized", `${at} names no token_endpoint; ${mend}`);
    return this.endpoint(token_endpoint, `token_endpoint in ${at}`);
  }

  /** @throws transient for what passes by itself */
  #passing({ status, headers }: Said, at: string): void {
    if (status === 408 || status === 429 || status >= 500)
      throw transient("SourceUnreachable", `${at}, where the source's token comes from, answers ${status}`, {
        headers,
      });
  }

  #json({ body }: Said, what: string): Record<string, unknown> {
    try {
      const value = JSON.parse(body) as unknown;
      return value !== null && typeof value === "object" ? (value as Record<string, unknown>) : {};
    } catch {
      // without the cause: its message quotes the body
      throw transient(
        "SourceUnreachable",
        `${what} answers what is not JSON; check spec.auth.${this.kind}.tokenURL of the FhirSource`,
      );
    }
  }

  async #send(
    url: URL,
    how: { method: "GET" | "POST"; headers: Record<string, string>; body?: string },
  ): Promise<Said> {
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
            `the answer of ${showURL(url)} is too long for a token; check spec.auth.${this.kind} of the FhirSource`,
          );
        }
      }
      return { status: answer.statusCode, headers: answer.headers, body };
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

/** OAuth 2 client credentials with a client secret, sent by HTTP basic authentication (RFC 6749 section 2.3.1). */
export function clientSecretToken(
  client: TokenClient,
  auth: Task["source"]["auth"],
  secret: ReadSecret,
): () => Promise<Token> {
  const url = client.endpoint(auth.tokenURL ?? "", "spec.auth.oauth2.tokenURL of the FhirSource");
  return async () => {
    const pair = [auth.clientID ?? "", await secret("client-secret")].map(encodeURIComponent).join(":");
    return client.token(url, {
      form: { grant_type: "client_credentials", ...(auth.scope && { scope: auth.scope }) },
      authorization: `Basic ${Buffer.from(pair).toString("base64")}`,
      client: 'clientID and key "client-secret" in its Secret',
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

/** The error code of RFC 6749 section 5.2, and nothing else of the body. */
function errorCode(body: string): string | undefined {
  try {
    return errorCodes.find((code) => code === (JSON.parse(body) as { error?: unknown }).error);
  } catch {
    return undefined;
  }
}

function refusal(at: string, status: number, code: string | undefined, field: string, client: string): string {
  const said = `the token endpoint ${at} refuses (${code ?? status})`;
  if (code === "invalid_scope") return `${said}; check ${field}.scope of the FhirSource`;
  if (code === "unauthorized_client" || code === "unsupported_grant_type")
    return `${said}; the client of ${field}.clientID of the FhirSource must be allowed the grant client_credentials`;
  if (code === "invalid_client" || code === "invalid_grant" || status !== 400)
    return `${said}; check ${field} of the FhirSource: ${client}`;
  return `${said}; check ${field} of the FhirSource: tokenURL, scope, ${client}`;
}

const isHTML = ({ headers, body }: Said) =>
  /html/i.test(String(headers["content-type"] ?? "")) || body.trimStart().startsWith("<");
