import type { Server } from "node:http";
import type { Socket } from "node:net";
import Fastify, { type FastifyHttpOptions, type FastifyInstance } from "fastify";
import type { FhirExport } from "../api/fhirexport.gen.ts";
import { toFailure } from "../failure.ts";
import { type Logger, stackFrames } from "../log.ts";
import type { Store } from "../sink/store.ts";
import { withoutTrailingSlash } from "../url.ts";
import type { Authority } from "./auth/authority.ts";
import type { Catalog } from "./catalog.ts";
import type { Certificate } from "./certificate.ts";
import { Manifests } from "./files.ts";
import { errorAnswer, fhirJSON, operationOutcome, unavailable } from "./outcome.ts";
import { addRoute, methodRefused, routes, send } from "./routes.ts";
import type { ShimSettings } from "./settings.ts";
import type { ExportStore } from "./store.ts";

export interface ShimConfig {
  /** the FHIR base as clients see it; may have a path */
  publicURL: string;
  /** names of the one FhirSource and the one ExportTarget that this shim serves */
  source: string;
  target: string;
  version: string;
}

export interface ShimDeps {
  exports: ExportStore;
  config: ShimConfig;
  /** as they are now: the file is read again when it changes */
  settings: () => ShimSettings;
  /** undefined: everybody is let in */
  authority: () => Authority | undefined;
  catalog: Pick<Catalog, "get">;
  /** where the files of a complete export are, for reading */
  openStore: (object: FhirExport) => Promise<Store>;
  ready: () => boolean;
  now: () => Date;
  random: (bytes: number) => Uint8Array;
  log: Logger;
  /** absent: plain HTTP */
  certificate?: Certificate;
}

/** node's 16 KiB hold a URL that we would refuse by an OperationOutcome */
const maxHeaderSize = 65_536;

/** FHIR $export over HTTP (DESIGN section 9) as an app; listening and signals are its caller's. */
export function buildShim(deps: ShimDeps): FastifyInstance {
  const { certificate } = deps;
  const app = Fastify({
    // our own audit lines, which hold no URL
    logger: false,
    exposeHeadRoutes: false,
    requestTimeout: 60_000,
    // of a connection that nothing comes from and nothing goes to: a client that stopped reading its download
    connectionTimeout: 300_000,
    bodyLimit: 1 << 20,
    // for the types both are a server without TLS, which has the same events and methods
    ...((certificate
      ? { https: { ...certificate, maxHeaderSize } }
      : { http: { maxHeaderSize } }) as FastifyHttpOptions<Server>),
    clientErrorHandler: refuseUnparsed,
    routerOptions: { maxParamLength: 512 },
    // clients send $ and %24; the query is left as it came
    rewriteUrl: ({ url = "/" }) => {
      const at = url.indexOf("?");
      const path = at < 0 ? url : url.slice(0, at);
      return path.replaceAll("%24", "$") + url.slice(path.length);
    },
    // a malformed escape in the path
    frameworkErrors: (_error, _request, reply) =>
      void send(reply as never, errorAnswer(400, { code: "invalid", text: "the URL's path is malformed" })),
  });

  // FHIR clients send a Content-Type on GET and DELETE too, mostly with no body. No route reads one.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("*", { parseAs: "buffer" }, (_request, body, done) => done(null, body));

  app.setErrorHandler((error: Error & { statusCode?: number }, request, reply) => {
    // whatever else is wrong with a request whose method is not there
    const { allow } = request.routeOptions.config as { allow?: string };
    if (allow !== undefined) return send(reply, methodRefused(request.method, allow));
    if (error.statusCode && error.statusCode >= 400 && error.statusCode < 500) {
      const text = error.statusCode === 413 ? "the request's body is larger than 1 MB" : "the request is malformed";
      return send(
        reply,
        errorAnswer(error.statusCode, { code: error.statusCode === 413 ? "too-long" : "invalid", text }),
      );
    }
    const failure = toFailure(error);
    deps.log.error(
      { route: request.routeOptions.url, method: request.method, ...failure, stack: stackFrames(error) },
      "request failed",
    );
    // what the object store refuses is the client's request, unless it is about storage: then a person here has to act
    if (failure.class === "terminal" && request.routeOptions.url?.endsWith("/$export"))
      return send(reply, errorAnswer(400, { code: "invalid", text: failure.message }));
    return send(reply, unavailable("the export service cannot answer right now; try again"));
  });
  app.setNotFoundHandler((_request, reply) =>
    send(
      reply,
      errorAnswer(404, {
        code: "not-found",
        text: "there is nothing here; exports start at $export, Patient/$export and Group/{id}/$export",
      }),
    ),
  );

  addRoute(app, "/healthz", { GET: async () => "ok" });
  addRoute(app, "/readyz", {
    GET: async (_request, reply) => (deps.ready() ? "ok" : reply.code(503).send("not ready")),
  });
  const manifests = new Manifests(deps.openStore);
  app.register(async (scope) => routes(scope, deps, manifests));
  // with a proxy that keeps the path, and with one that strips it
  const prefix = withoutTrailingSlash(new URL(deps.config.publicURL).pathname);
  if (prefix) app.register(async (scope) => routes(scope, deps, manifests), { prefix });
  return app;
}

/** What node could not read as HTTP gets an OperationOutcome, too, and the connection ends. */
function refuseUnparsed(error: { code?: string }, socket: Socket): void {
  if (error.code === "ECONNRESET" || !socket.writable) return void socket.destroy();
  const [status, text] =
    error.code === "HPE_HEADER_OVERFLOW"
      ? ["431 Request Header Fields Too Large", "the request's headers are too large"]
      : error.code === "ERR_HTTP_REQUEST_TIMEOUT"
        ? ["408 Request Timeout", "the request did not come in time"]
        : ["400 Bad Request", "the request is not HTTP"];
  const body = JSON.stringify(operationOutcome({ code: "invalid", text }));
  socket.end(
    `HTTP/1.1 ${status}\r\ncontent-type: ${fhirJSON}\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
  );
}
