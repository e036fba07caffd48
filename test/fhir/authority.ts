import { createServer } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { decodeJwt, SignJWT } from "jose";
import type { Certificate } from "./certificates.ts";

/** The part of Microsoft Entra's token endpoint that workload identity uses: it exchanges a federated token of the
 *  ServiceAccount for an access token. */
export interface EntraServer {
  /** value for AZURE_AUTHORITY_HOST */
  readonly url: string;
  readonly asked: readonly { path: string; form: URLSearchParams; status: number }[];
  /** the tokens that it has issued */
  readonly issued: readonly string[];
  /** it gives this answer instead of a token */
  refuse: { status: number; body: unknown; headers?: Record<string, string> } | undefined;
  expiresIn: number;
  close(): Promise<void>;
}

const secret = new TextEncoder().encode("nobody checks the signatures of these tokens");

/** The projected token of a ServiceAccount, as the webhook mounts it. */
export const serviceAccountToken = (subject: string) =>
  new SignJWT({})
    .setProtectedHeader({ alg: "HS256" })
    .setIssuer("https://cluster.example")
    .setSubject(subject)
    .setExpirationTime("1h")
    .sign(secret);

/** @param subject the ServiceAccount that the tenant trusts, as `system:serviceaccount:NAMESPACE:NAME` */
export async function startEntra(
  tls: Certificate,
  tenant: string,
  clientID: string,
  subject: string,
): Promise<EntraServer> {
  const asked: EntraServer["asked"][number][] = [];
  const issued: string[] = [];
  const sockets = new Set<Socket>();
  const server = createServer(tls, async (request, response) => {
    const form = new URLSearchParams(Buffer.concat(await request.toArray()).toString());
    const answer = (status: number, body: unknown, headers: Record<string, string> = {}) => {
      asked.push({ path: request.url ?? "", form, status });
      response
        .writeHead(status, { "content-type": "application/json", ...headers })
        .end(typeof body === "string" ? body : JSON.stringify(body));
    };
    const refuse = (status: number, error: string, number: number) =>
      answer(status, {
        error,
        error_description: `AADSTS${number}: no. ${form}`,
        error_codes: [number],
        trace_id: "t",
        correlation_id: "c",
      });
    const { refuse: scripted } = entra;
    if (scripted) return answer(scripted.status, scripted.body, scripted.headers);
    if (request.url?.startsWith(`/${tenant}/v2.0/.well-known/openid-configuration`))
      return answer(200, {
        issuer: `${entra.url}${tenant}/v2.0`,
        token_endpoint: `${entra.url}${tenant}/oauth2/v2.0/token`,
        authorization_endpoint: `${entra.url}${tenant}/oauth2/v2.0/authorize`,
        end_session_endpoint: `${entra.url}${tenant}/oauth2/v2.0/logout`,
        jwks_uri: `${entra.url}${tenant}/discovery/v2.0/keys`,
      });
    if (request.url?.split("?")[0] !== `/${tenant}/oauth2/v2.0/token`) return refuse(400, "invalid_request", 90002);
    if (form.get("client_id") !== clientID) return refuse(400, "unauthorized_client", 700016);
    if (form.get("grant_type") !== "client_credentials") return refuse(400, "invalid_request", 900144);
    if (decodeJwt(form.get("client_assertion") ?? "").sub !== subject) return refuse(401, "invalid_client", 700213);
    const scope = (form.get("scope") ?? "").split(" ").find((one) => one.endsWith("/.default"));
    if (!scope) return refuse(400, "invalid_scope", 70011);
    const now = Math.floor(Date.now() / 1000);
    const token = await new SignJWT({ appid: clientID, number: issued.length })
      .setProtectedHeader({ alg: "HS256", typ: "JWT" })
      .setIssuer(`https://sts.windows.net/${tenant}/`)
      .setAudience(scope.replace(/\/\.default$/, ""))
      .setIssuedAt(now - 60)
      .setNotBefore(now - 60)
      .setExpirationTime(now + entra.expiresIn)
      .sign(secret);
    issued.push(token);
    answer(200, {
      token_type: "Bearer",
      expires_in: entra.expiresIn,
      ext_expires_in: entra.expiresIn,
      access_token: token,
    });
  });
  server.on("secureConnection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const entra: EntraServer = {
    url: `https://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    asked,
    issued,
    refuse: undefined,
    expiresIn: 3600,
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
  return entra;
}
