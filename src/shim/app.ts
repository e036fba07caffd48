import type { Server } from "node:http";
import type { Socket } from "node:net";
import Fastify, {
  type FastifyHttpOptions,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
} from "fastify";
import { toFailure } from "../failure.ts";
import { stackFrames } from "../log.ts";
import { withoutTrailingSlash } from "../url.ts";
import type { ShimDeps } from "./deps.ts";
import { Manifests } from "./files.ts";
import { decorateRequests } from "./hooks.ts";
import { errorAnswer, fhirJSON, operationOutcome, unavailable } from "./outcome.ts";
import { methodRefused, sendAnswer } from "./route.ts";
import type { RouteContext } from "./routes/context.ts";
import { fileRoutes } from "./routes/files.ts";
import { healthRoutes } from "./routes/health.ts";
import { kickOffRoutes } from "./routes/kick-off.ts";
import { metadataRoutes } from "./routes/metadata.ts";
import { statusRoutes } from "./routes/status.ts";
import { tokenRoutes } from "./routes/tokens.ts";

/** Bytes of headers that are read. Node's own limit of 16 KiB would cut off long URLs, which get an OperationOutcome
 *  that says to use POST. */
const maxHeaderSize = 65_536;

/** The routes that are relative to the FHIR base. */
const fhirRoutes = [kickOffRoutes, statusRoutes, fileRoutes, metadataRoutes, tokenRoutes];

/** FHIR $export over HTTP as an app. Its caller listens, and closes it. */
export function buildShim(deps: ShimDeps): FastifyInstance {
  const app = makeApp(deps);
  const base = withoutTrailingSlash(deps.config.publicURL);
  const context: RouteContext = { deps, base, manifests: new Manifests(deps.openStore), startedAt: deps.now() };
  // a proxy in front may strip the base's own path or keep it: both work
  const publicPath = withoutTrailingSlash(new URL(deps.config.publicURL).pathname);

  decorateRequests(app);
  app.register(healthRoutes, context);
  for (const routes of fhirRoutes) {
    app.register(routes, context);
    if (publicPath) app.register(routes, { ...context, prefix: publicPath });
  }
  return app;
}

/** An app without routes, which answers all errors by OperationOutcomes. */
function makeApp(deps: ShimDeps): FastifyInstance {
  const { certificate } = deps;
  const app = Fastify({
    // fastify's own lines would hold URLs; the audit lines of the routes do not
    logger: false,
    exposeHeadRoutes: false,
    requestTimeout: 60_000,
    // Ends a connection on which no byte moves in either direction, such as that of a client that stopped reading its
    // download.
    connectionTimeout: 300_000,
    bodyLimit: 1 << 20,
    // a cast for the types only: a TLS server has the same events and methods as a plain one
    ...((certificate
      ? { https: { ...certificate, maxHeaderSize } }
      : { http: { maxHeaderSize } }) as FastifyHttpOptions<Server>),
    clientErrorHandler: refuseUnparsed,
    routerOptions: { maxParamLength: 512 },
    rewriteUrl: ({ url = "/" }) => decodeDollar(url),
    frameworkErrors: (_error, _request, reply) => void sendAnswer(reply as never, malformedPath),
  });

  // FHIR clients send a Content-Type with GET and DELETE too, mostly without a body. Fastify would refuse an empty body
  // of JSON, so bodies are kept as bytes.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("*", { parseAs: "buffer" }, (_request, body, done) => done(null, body));

  app.setErrorHandler((error: Error & { statusCode?: number }, request, reply) =>
    answerError(deps, error, request, reply),
  );
  app.setNotFoundHandler((_request, reply) => sendAnswer(reply, unknownURL));
  return app;
}

const malformedPath = errorAnswer(400, {
  code: "invalid",
  text: "the URL's path is malformed; encode special characters as a percent sign and two hexadecimal digits",
});
const unknownURL = errorAnswer(404, {
  code: "not-found",
  text: "this service has no such URL; exports start at $export, Patient/$export and Group/{id}/$export",
});
const bodyTooLarge = errorAnswer(413, {
  code: "too-long",
  text: "the request's body is larger than 1 MB; send a smaller one, for example a Group instead of a list of patients",
});
const malformedRequest = "the request is malformed; check its body and the headers Content-Type and Content-Length";

/** Clients send `$export` and `%24export`: both become `$export`. The query stays as it was sent. */
function decodeDollar(url: string): string {
  const at = url.indexOf("?");
  const path = at < 0 ? url : url.slice(0, at);
  return path.replaceAll("%24", "$") + url.slice(path.length);
}

/** Answers a request that failed before or in its handler. */
function answerError(
  deps: ShimDeps,
  error: Error & { statusCode?: number },
  request: FastifyRequest,
  reply: FastifyReply,
): FastifyReply {
  // a method that the URL does not have is told first, whatever else is wrong with the request
  const { allow } = request.routeOptions.config as { allow?: string };
  if (allow !== undefined) return sendAnswer(reply, methodRefused(request.method, allow));
  const { statusCode } = error;
  if (statusCode === 413) return sendAnswer(reply, bodyTooLarge);
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500)
    return sendAnswer(reply, errorAnswer(statusCode, { code: "invalid", text: malformedRequest }));
  const failure = toFailure(error);
  const { url } = request.routeOptions;
  deps.log.error({ route: url, method: request.method, ...failure, stack: stackFrames(error) }, "request failed");
  // A kick-off fails for good when the API server refuses the object, and the client can mend that. Elsewhere a
  // terminal failure is one of storage, which only an administrator can mend: for the client the service is
  // unavailable.
  if (failure.class === "terminal" && url?.endsWith("/$export"))
    return sendAnswer(reply, errorAnswer(400, { code: "invalid", text: failure.message }));
  return sendAnswer(
    reply,
    unavailable("the service cannot answer right now; send the request again after the seconds of Retry-After"),
  );
}

const unparsed: Record<string, { status: string; text: string }> = {
  HPE_HEADER_OVERFLOW: {
    status: "431 Request Header Fields Too Large",
    text: "URL and headers of the request are larger than 64 KiB; send long parameters by POST, in a Parameters resource",
  },
  ERR_HTTP_REQUEST_TIMEOUT: {
    status: "408 Request Timeout",
    text: "the request did not arrive within 60 seconds; send it again",
  },
};
const notHTTP = { status: "400 Bad Request", text: "the request is not valid HTTP/1.1" };

/** Answers bytes that Node could not read as a request by an OperationOutcome, too, and ends the connection. */
function refuseUnparsed(error: { code?: string }, socket: Socket): void {
  if (error.code === "ECONNRESET" || !socket.writable) return void socket.destroy();
  const { status, text } = unparsed[error.code ?? ""] ?? notHTTP;
  const body = JSON.stringify(operationOutcome({ code: "invalid", text }));
  socket.end(
    `HTTP/1.1 ${status}\r\ncontent-type: ${fhirJSON}\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
  );
}
