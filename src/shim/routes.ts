import type { FastifyInstance, FastifyReply, FastifyRequest, HTTPMethods } from "fastify";
import type { FhirExport } from "../api/fhirexport.gen.ts";
import { contentType } from "../sink/layout.ts";
import type { ShimDeps } from "./app.ts";
import { capabilityStatement } from "./capability.ts";
import type { Manifests } from "./files.ts";
import { type Answer, fhirJSON, refusal, unavailable } from "./outcome.ts";
import { type KickOff, parseKickOff } from "./parse.ts";
import { filesOf, renderManifest, renderStatus, unknownExport } from "./render.ts";

type Handler = (request: FastifyRequest, reply: FastifyReply) => Promise<unknown>;
const allMethods: HTTPMethods[] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
/** spec.origin.request holds no more, and a client that sends more has lost its way */
const maxRequestURL = 16_384;

/** The routes of the shim, relative to the FHIR base. */
export function routes(app: FastifyInstance, deps: ShimDeps, manifests: Manifests): void {
  const { config, exports, now, log } = deps;
  const base = config.publicURL.replace(/\/+$/, "");
  const started = now();
  const self = (name: string) => `${base}/_operations/export/${name}`;

  /** Other methods are refused by name: HEAD above all must not start anything, and nothing falls through to another route. */
  const route = (url: string, handlers: { GET: Handler; DELETE?: Handler }) => {
    for (const [method, handler] of Object.entries(handlers) as [HTTPMethods, Handler][]) app.route({ method, url, handler });
    const allow = Object.keys(handlers).join(", ");
    app.route({
      method: allMethods.filter((method) => !(method in handlers)),
      url,
      handler: async (request, reply) => {
        const answer = refusal(405, { code: "not-supported", text: `${request.method} is not supported here; use ${allow}` });
        return send(reply, { ...answer, headers: { ...answer.headers, allow } });
      },
    });
  };

  const kickOff =
    (level: KickOff["level"]): Handler =>
    async (request, reply) => {
      const called = calledURL(request.originalUrl, base);
      if (called.length > maxRequestURL) return send(reply, refusal(414, { code: "too-long", text: "the URL is too long" }));
      const parsed = parseKickOff(
        {
          level,
          groupId: (request.params as { id?: string }).id,
          accept: request.headers.accept,
          prefer: request.headers.prefer === undefined ? undefined : String(request.headers.prefer),
          query: queryOf(request.originalUrl),
        },
        now(),
      );
      if ("issues" in parsed) return send(reply, refusal(400, ...parsed.issues));
      const spec: FhirExport["spec"] = {
        sourceRef: { name: config.source },
        targetRef: { name: config.target },
        ...parsed.spec,
        origin: { client: "anonymous", request: called, ...(parsed.warnings.length > 0 && { warnings: parsed.warnings }) },
      };
      // 130 random bits: a second round is for a broken generator only
      const name = exportName(deps.random(26));
      const made = await exports.create({ metadata: { name }, spec });
      if (!made) return send(reply, unavailable("the name of the new export is taken; try again"));
      log.info({ audit: "kick-off", export: name, level });
      return send(reply, { status: 202, headers: { "content-location": self(name) } });
    };

  route("/$export", { GET: kickOff("System") });
  route("/Patient/$export", { GET: kickOff("Patient") });
  route("/Group/:id/$export", { GET: kickOff("Group") });

  route("/_operations/export/:id", {
    GET: async (request, reply) => {
      const object = await exports.get(idOf(request));
      const answer = renderStatus(object, now());
      if (answer !== "complete") return send(reply, answer);
      return send(reply, renderManifest(await manifests.get(object!), self(object!.metadata.name), object!));
    },
    DELETE: async (request, reply) => {
      const object = await exports.get(idOf(request));
      const answer = renderStatus(object, now());
      if (answer !== "complete" && answer.status === 404) return send(reply, answer);
      await exports.cancel(object!.metadata.name);
      log.info({ audit: "cancel", export: object!.metadata.name });
      return send(reply, { status: 202, headers: {} });
    },
  });

  route("/_operations/export/:id/files/*", {
    GET: async (request, reply) => {
      const object = await exports.get(idOf(request));
      const path = (request.params as { "*": string })["*"];
      if (renderStatus(object, now()) !== "complete") return send(reply, unknownExport);
      // only names that the manifest lists: what else lies in the folder (or above it) is not reachable
      if (!filesOf(await manifests.get(object!)).has(path))
        return send(reply, refusal(404, { code: "not-found", text: "the export has no such file" }));
      const store = await deps.openStore(object!);
      reply.raw.on("close", () => void store.close());
      const found = await store.stream(path);
      if (!found) return send(reply, unavailable("a file of the export is not in storage; it may have been removed"));
      log.info({ audit: "download", export: object!.metadata.name, file: path });
      return reply.headers({ "content-type": contentType, "content-length": found.size, etag: found.etag }).send(found.body);
    },
  });

  route("/metadata", {
    GET: async (_request, reply) =>
      send(reply, { status: 200, headers: { "content-type": fhirJSON }, body: capabilityStatement(base, config.version, started) }),
  });
}

/** A body of ours is serialised here: fastify's own serialisers know no FHIR. */
export function send(reply: FastifyReply, { status, headers, body }: Answer): FastifyReply {
  return reply
    .code(status)
    .headers(headers)
    .send(body === undefined ? undefined : JSON.stringify(body));
}

const idOf = (request: FastifyRequest) => (request.params as { id: string }).id;
const queryOf = (url: string) => (url.includes("?") ? url.slice(url.indexOf("?") + 1) : "");

/** The URL as the client called it: never the host that a proxy talks to (reference: section 6.10). */
function calledURL(url: string, base: string): string {
  const { origin, pathname } = new URL(base);
  const prefix = pathname.replace(/\/+$/, "");
  return prefix && (url === prefix || url.startsWith(`${prefix}/`)) ? origin + url : base + url;
}

const base32 = "abcdefghijklmnopqrstuvwxyz234567";
const exportName = (random: Uint8Array) => `export-${Array.from(random, (byte) => base32[byte & 31]).join("")}`;
