import type { FastifyInstance, FastifyReply, FastifyRequest, HTTPMethods } from "fastify";
import type { FhirExport } from "../api/fhirexport.gen.ts";
import { annotations } from "../api/names.ts";
import { compartmentTypes } from "../fhir/compartment.ts";
import { withoutTrailingSlash } from "../url.ts";
import type { ShimDeps } from "./app.ts";
import { type Access, anonymous } from "./auth/authority.ts";
import { mayRead } from "./auth/scopes.ts";
import { capabilityStatement } from "./capability.ts";
import { download } from "./download.ts";
import type { Manifests } from "./files.ts";
import { handleKickOff } from "./kick-off.ts";
import { PollLimiter } from "./limits.ts";
import { operationDefinitions } from "./operations.ts";
import { errorAnswer, fhirJSON, type HttpAnswer } from "./outcome.ts";
import type { KickOff } from "./parse.ts";
import { isServed, itemOf, renderServedManifest, renderStatus, separately, unknownExport } from "./render.ts";

type Handler = (request: FastifyRequest, reply: FastifyReply) => Promise<unknown>;

type Handlers = Partial<Record<"GET" | "POST" | "DELETE", Handler>>;

/** A URL and what it answers. Other methods are refused by name: HEAD above all must not start anything, and nothing falls through to another route. */
export function addRoute(app: FastifyInstance, url: string, handlers: Handlers): void {
  for (const [method, handler] of Object.entries(handlers) as [HTTPMethods, Handler][])
    app.route({ method, url, handler });
  const allow = Object.keys(handlers).join(", ");
  app.route({
    method: (app.supportedMethods as HTTPMethods[]).filter((method) => !(method in handlers)),
    url,
    config: { allow },
    handler: async (request, reply) => send(reply, methodRefused(request.method, allow)),
  });
}

export function methodRefused(method: string, allow: string): HttpAnswer {
  const answer = errorAnswer(405, { code: "not-supported", text: `${method} is not supported here; use ${allow}` });
  return { ...answer, headers: { ...answer.headers, allow } };
}

/** The routes of the shim, relative to the FHIR base. */
export function routes(app: FastifyInstance, deps: ShimDeps, manifests: Manifests): void {
  const { config, exports, now, log } = deps;
  const base = withoutTrailingSlash(config.publicURL);
  const started = now();
  const polls = new PollLimiter();
  const self = (name: string) => `${base}/_operations/export/${name}`;

  const route = (url: string, handlers: Handlers) => addRoute(app, url, handlers);

  /** Answers whoever may ask, and tells of who may not. */
  const authorised =
    (handle: (access: Access, request: FastifyRequest, reply: FastifyReply) => Promise<unknown>): Handler =>
    async (request, reply) => {
      const access = (await deps.authority()?.authenticate(request.headers.authorization)) ?? anonymous;
      if (!("status" in access)) return handle(access, request, reply);
      refused(request, access.status);
      return send(reply, access);
    };
  const refused = ({ routeOptions: { url: route }, method }: FastifyRequest, status: number, client?: string) =>
    log.warn({ audit: "refused", route, method, status, ...(client !== undefined && { client }) });

  /** The export of the URL, for the client that started it and as long as its token covers what is in it. */
  const found = async (access: Access, request: FastifyRequest): Promise<FhirExport | HttpAnswer> => {
    const object = await exports.get((request.params as { id: string }).id);
    if (!isServed(object, now())) return unknownExport;
    const readable = mayRead(access, object.spec.origin?.client, object.spec.types);
    if (readable === "yes") return object;
    refused(request, readable === "other" ? 404 : 403, access.client);
    return readable === "other"
      ? unknownExport
      : errorAnswer(403, { code: "forbidden", text: "the token's scopes do not cover the types of this export" });
  };

  const kickOff = (level: KickOff["level"]) =>
    authorised(async (access, request, reply) => {
      const answer = await handleKickOff(access, level, request, deps, self);
      if (answer.status === 403) refused(request, 403, access.client);
      return send(reply, answer);
    });
  for (const [url, level] of [
    ["/$export", "System"],
    ["/Patient/$export", "Patient"],
    ["/Group/:id/$export", "Group"],
  ] as const)
    route(url, { GET: kickOff(level), POST: kickOff(level) });

  route("/_operations/export/:id", {
    GET: authorised(async (access, request, reply) => {
      const object = await found(access, request);
      if ("headers" in object) return send(reply, object);
      const { name, annotations: notes } = object.metadata;
      const { limits, compat } = deps.settings();
      const wait = polls.wait(name, limits.pollsPerMinute, now().getTime());
      if (wait > 0) {
        const answer = errorAnswer(429, {
          code: "throttled",
          text: "the status is asked for too often; wait as Retry-After says",
        });
        return send(reply, { ...answer, headers: { ...answer.headers, "retry-after": String(wait) } });
      }
      let answer = renderStatus(object, now());
      if (answer === "complete") {
        const bare = compat === "azure";
        answer = renderServedManifest(
          await manifests.get(object),
          bare ? undefined : self(name),
          object,
          !bare && deps.authority() !== undefined,
        );
      }
      return send(reply, notes?.[annotations.separateStatus] ? separately(answer) : answer);
    }),
    DELETE: authorised(async (access, request, reply) => {
      const object = await found(access, request);
      if ("headers" in object) return send(reply, object);
      await exports.cancel(object.metadata.name);
      log.info({ audit: "cancel", export: object.metadata.name, client: access.client });
      return send(reply, { status: 202, headers: {} });
    }),
  });

  route("/_operations/export/:id/files/*", {
    GET: authorised(async (access, request, reply) => {
      const object = await found(access, request);
      if ("headers" in object) return send(reply, object);
      if (renderStatus(object, now()) !== "complete") return send(reply, unknownExport);
      const item = itemOf(await manifests.get(object), (request.params as { "*": string })["*"]);
      if (!item) return send(reply, errorAnswer(404, { code: "not-found", text: "the export has no such file" }));
      const { delivery, redirectSeconds } = deps.settings().files;
      const store = await deps.openStore(object);
      reply.raw.on("close", () => void store.close());
      const audit = { audit: "download", export: object.metadata.name, client: access.client, file: item.path };
      const answer = await download(request.headers, store, item, {
        delivery,
        redirectSeconds,
        onEnd: (how, bytes) => log.info({ ...audit, how, bytes }),
      });
      if (answer.status === 307) log.info({ ...audit, how: "redirect" });
      return send(reply, answer);
    }),
  });

  const open = (body: () => unknown, type = fhirJSON): { GET: Handler } => ({
    GET: async (_request, reply) => send(reply, { status: 200, headers: { "content-type": type }, body: body() }),
  });
  const compat = () => deps.settings().compat;
  route("/metadata", {
    GET: async (_request, reply) => {
      const { types } = await deps.catalog.get();
      // of a server that does not tell everybody: what Patient and Group exports may hold
      const exportable = deps.settings().allow.types ?? types ?? compartmentTypes.keys();
      const body = capabilityStatement(
        base,
        config.version,
        started,
        compat(),
        deps.authority() !== undefined,
        exportable,
      );
      return send(reply, { status: 200, headers: { "content-type": fhirJSON }, body });
    },
  });
  for (const id of ["export", "patient-export", "group-export"])
    route(
      `/OperationDefinition/${id}`,
      open(() => operationDefinitions(base, config.version, started, compat())[id]),
    );

  route("/.well-known/smart-configuration", {
    GET: async (_request, reply) => {
      const authority = deps.authority();
      if (!authority) return send(reply, errorAnswer(404, { code: "not-found", text: "this service wants no tokens" }));
      return send(reply, {
        status: 200,
        headers: { "content-type": "application/json" },
        body: authority.smartConfiguration(),
      });
    },
  });
  route("/auth/token", {
    POST: async (request, reply) => {
      const authority = deps.authority();
      if (!authority) return send(reply, errorAnswer(404, { code: "not-found", text: "this service wants no tokens" }));
      const body = request.body as Buffer | undefined;
      const answer =
        (body?.length ?? 0) > maxTokenRequest
          ? errorAnswer(413, { code: "too-long", text: "the token request is too long" })
          : await authority.token(body ?? Buffer.alloc(0), request.headers["content-type"]);
      const client = "client" in answer ? { client: answer.client } : {};
      log.info({ audit: "token", status: answer.status, ...client });
      return send(reply, answer);
    },
  });
}

/** an assertion is 1 to 2 kB */
const maxTokenRequest = 16_384;

/** A body of ours is serialised here: fastify's own serialisers know no FHIR. A stream goes as it is. */
export function send(reply: FastifyReply, { status, headers, body }: HttpAnswer): FastifyReply {
  return reply
    .code(status)
    .headers(headers)
    .send(body === undefined || isStream(body) ? body : JSON.stringify(body));
}

const isStream = (body: unknown) => typeof (body as { pipe?: unknown } | null)?.pipe === "function";
