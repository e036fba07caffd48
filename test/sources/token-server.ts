import { randomBytes } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse, request as send } from "node:http";
import { createServer as createSecureServer } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { TLSSocket } from "node:tls";
import { createLocalJWKSet, decodeJwt, type JWK, jwtVerify } from "jose";

export interface Client {
  id: string;
  /** OAuth 2: client_secret_basic */
  secret?: string;
  /** SMART: registered public keys, with kid and alg */
  keys?: JWK[];
  /** The scopes that it may ask for; absent: any. */
  scopes?: string[];
}

/** A scripted answer of the token endpoint or the discovery, instead of the real one. */
export interface Scripted {
  /** Which of them it answers for. Default: the token endpoint. */
  at?: "token" | "discovery";
  times?: number | "always";
  status?: number;
  headers?: Record<string, string>;
  body?: string;
  /** The connection closes without an answer. */
  drop?: boolean;
}

export interface TokenServerOptions {
  /** Base URL of the FHIR server behind it. Without one, it only gives tokens. */
  source?: string;
  clients?: Client[];
  /** Tokens of somebody else that it accepts, too. */
  accepts?: (token: string) => boolean;
  /** Seconds for which a token is valid. Undefined members of the answer are left out. */
  expiresIn?: number;
  /** Milliseconds that a token request takes. */
  delay?: number;
  /** Makes it an https server. With `ca` it demands a client certificate of that authority. */
  tls?: { cert: string; key: string; ca?: string };
  /** The members of the discovery document; `{}` is an empty one. */
  configuration?: Record<string, unknown>;
}

export interface TokenServer {
  /** FHIR base URL of the server behind it, which answers only with valid tokens. */
  readonly baseURL: string;
  readonly tokenURL: string;
  /** Every token request and discovery, and its result. */
  readonly asked: readonly {
    at: "token" | "discovery";
    status: number;
    why?: string;
    form: URLSearchParams;
    authorization?: string;
    /** The name in the client certificate. */
    client?: string;
  }[];
  /** The tokens that were given. */
  readonly issued: readonly string[];
  /** Requests for data: their status, and the name in the client certificate. */
  readonly served: readonly { status: number; client?: string }[];
  clients: Client[];
  expiresIn: number | undefined;
  script(...answers: Scripted[]): void;
  clearScript(): void;
  /** Ends the validity of all tokens given so far. */
  revoke(): void;
  endConnections(): void;
  /** Gives new certificates to new connections. */
  setTLS(tls: { cert: string; key: string; ca?: string }): void;
  close(): Promise<void>;
}

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/** A small OAuth 2 and SMART Backend Services authorization server, and a guard before a FHIR server that accepts
 *  only its tokens. It checks all that the specification demands of an authorization server (SMART App Launch 2,
 *  "Backend Services"). */
export async function startTokenServer(options: TokenServerOptions = {}): Promise<TokenServer> {
  const asked: TokenServer["asked"][number][] = [];
  const served: TokenServer["served"][number][] = [];
  const issued: string[] = [];
  const valid = new Map<string, number>();
  const seen = new Set<string>();
  const script: Scripted[] = [];
  const sockets = new Set<Socket>();
  const scheme = options.tls ? "https" : "http";
  let origin = "";

  const server: TokenServer = {
    get baseURL() {
      return `${origin}/fhir`;
    },
    get tokenURL() {
      return `${origin}/auth/token`;
    },
    asked,
    issued,
    served,
    clients: options.clients ?? [],
    expiresIn: "expiresIn" in options ? options.expiresIn : 300,
    script: (...answers) => void script.push(...answers),
    clearScript: () => void (script.length = 0),
    revoke: () => valid.clear(),
    endConnections: () => {
      for (const socket of sockets) socket.destroy();
    },
    setTLS: (tls) => void (listener as ReturnType<typeof createSecureServer>).setSecureContext(secure(tls)),
    async close() {
      const closed = new Promise<void>((resolve) => listener.close(() => resolve()));
      server.endConnections();
      await closed;
    },
  };

  /** @returns the client @throws Refused */
  const authenticate = async (request: IncomingMessage, form: URLSearchParams): Promise<Client> => {
    const basic = /^Basic (.+)$/.exec(request.headers.authorization ?? "")?.[1];
    if (basic) {
      const [id, secret] = Buffer.from(basic, "base64").toString().split(":").map(decodeURIComponent);
      const client = server.clients.find((one) => one.id === id);
      if (client?.secret === undefined || client.secret !== secret)
        throw new Refused("invalid_client", "unknown client or wrong secret", 401);
      return client;
    }
    if (form.get("client_assertion_type") !== assertionType)
      throw new Refused("invalid_client", "no way of authentication that is known");
    const assertion = form.get("client_assertion") ?? "";
    try {
      const claims = decodeJwt(assertion);
      const client = server.clients.find(({ id, keys }) => id === claims.iss && keys);
      if (!client) throw new Error("unknown client");
      await jwtVerify(assertion, createLocalJWKSet({ keys: client.keys! }), {
        algorithms: ["RS384", "ES384"],
        typ: "JWT",
        issuer: client.id,
        subject: client.id,
        audience: server.tokenURL,
        requiredClaims: ["iss", "sub", "aud", "exp", "jti"],
      });
      if (claims.exp! > Date.now() / 1000 + 300) throw new Error("exp is more than 5 minutes ahead");
      if (seen.has(`${claims.iss} ${claims.jti}`)) throw new Error("jti was used before");
      seen.add(`${claims.iss} ${claims.jti}`);
      return client;
    } catch (error) {
      throw new Refused("invalid_client", (error as Error).message);
    }
  };

  const giveToken = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const form = new URLSearchParams(await read(request).then(String));
    const { authorization } = request.headers;
    const client = peer(request);
    const note = (status: number, why?: string) =>
      asked.push({
        at: "token",
        status,
        ...(why && { why }),
        form,
        ...(authorization && { authorization }),
        ...(client && { client }),
      });
    if (options.delay) await sleep(options.delay);
    if (scripted("token", response, note)) return;
    try {
      if (request.method !== "POST") throw new Refused("invalid_request", "POST it");
      if (form.get("grant_type") !== "client_credentials")
        throw new Refused("unsupported_grant_type", "only client_credentials");
      const client = await authenticate(request, form);
      const scope = form.get("scope") ?? "";
      if (client.scopes && !scope.split(" ").every((one) => client.scopes!.includes(one)))
        throw new Refused("invalid_scope", "not yours");
      const token = randomBytes(24).toString("base64url");
      issued.push(token);
      valid.set(token, Date.now() + (server.expiresIn ?? 3600) * 1000);
      note(200);
      json(response, 200, { access_token: token, token_type: "Bearer", expires_in: server.expiresIn, scope });
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      note(error.status, error.message);
      json(response, error.status, {
        error: error.code,
        error_description: `${error.message} ${form} ${authorization}`,
      });
    }
  };

  const scripted = (at: "token" | "discovery", response: ServerResponse, note: (status: number) => void): boolean => {
    const index = script.findIndex((one) => (one.at ?? "token") === at && one.times !== 0);
    const found = script[index];
    if (!found) return false;
    if (found.times !== "always") found.times = (found.times ?? 1) - 1;
    note(found.drop ? 0 : (found.status ?? 200));
    if (found.drop) response.destroy();
    else
      response
        .writeHead(found.status ?? 200, { "content-type": "application/json", ...found.headers })
        .end(found.body ?? "{}");
    return true;
  };

  /** Answers with data, for tokens that are valid at this moment. */
  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const token = /^Bearer (\S+)$/.exec(request.headers.authorization ?? "")?.[1];
    const client = peer(request);
    const note = (status: number) => served.push({ status, ...(client && { client }) });
    const good = (valid.get(token ?? "") ?? 0) > Date.now() || options.accepts?.(token ?? "");
    if ((server.clients.length > 0 || options.accepts) && !good) {
      note(401);
      response.setHeader("www-authenticate", "Bearer");
      return json(response, 401, { resourceType: "OperationOutcome" });
    }
    const { authorization: _, ...headers } = request.headers as Record<string, string>;
    const body = await read(request);
    // with the host of this server, so that the links of pages lead here
    const answer = await forward(new URL(request.url!, options.source), request.method!, headers, body);
    note(answer.status);
    const text = options.tls
      ? Buffer.from(answer.body.toString().replaceAll(`http://${headers.host}/`, `${origin}/`))
      : answer.body;
    const type = answer.headers["content-type"];
    response.writeHead(answer.status, {
      date: answer.headers.date,
      "content-length": text.length,
      ...(type && { "content-type": type }),
    });
    response.end(text);
  };

  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const { pathname } = new URL(request.url ?? "/", origin);
    if (pathname === "/auth/token") return giveToken(request, response);
    if (pathname === "/fhir/.well-known/smart-configuration") {
      const note = (status: number) => asked.push({ at: "discovery", status, form: new URLSearchParams() });
      if (scripted("discovery", response, note)) return;
      note(200);
      return json(
        response,
        200,
        options.configuration ?? { token_endpoint: server.tokenURL, capabilities: [], grant_types_supported: [] },
      );
    }
    if (options.source && pathname.startsWith("/fhir")) return serve(request, response);
    json(response, 404, {});
  };
  const listen = (request: IncomingMessage, response: ServerResponse) =>
    void handle(request, response).catch(() => response.writeHead(500).end());
  const listener = options.tls ? createSecureServer(secure(options.tls), listen) : createServer(listen);
  listener.on(options.tls ? "secureConnection" : "connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  origin = `${scheme}://127.0.0.1:${(listener.address() as AddressInfo).port}`;
  return server;
}

class Refused extends Error {
  readonly code: string;
  readonly status: number;
  constructor(code: string, message: string, status = 400) {
    super(message);
    this.code = code;
    this.status = status;
  }
}

const secure = ({ ca, ...pair }: { cert: string; key: string; ca?: string }) => ({
  ...pair,
  ...(ca && { ca, requestCert: true, rejectUnauthorized: true }),
});

/** The name in the client's certificate. */
function peer(request: IncomingMessage): string | undefined {
  const name = (request.socket as TLSSocket).getPeerCertificate?.().subject?.CN;
  return name === undefined ? undefined : String(name);
}

async function read(request: IncomingMessage): Promise<Buffer> {
  return Buffer.concat(await request.toArray());
}

function json(response: ServerResponse, status: number, value: unknown): void {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));
}

async function forward(url: URL, method: string, headers: Record<string, string>, body: Buffer) {
  const answer = await new Promise<IncomingMessage>((resolve, reject) =>
    send(url, { method, headers: { ...headers, connection: "close" } }, resolve)
      .on("error", reject)
      .end(body),
  );
  return { status: answer.statusCode!, headers: answer.headers, body: await read(answer) };
}
