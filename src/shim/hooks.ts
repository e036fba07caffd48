/** Hooks of the routes: who asks, and which export they ask for. */
import type { FastifyInstance, FastifyRequest, preHandlerAsyncHookHandler } from "fastify";
import type { FhirExport } from "../api/fhirexport.gen.ts";
import { type Access, anonymous, mayRead } from "./auth/scopes.ts";
import type { ShimDeps } from "./deps.ts";
import { errorAnswer } from "./outcome.ts";
import { isServed, unknownExport } from "./render.ts";
import { sendAnswer } from "./route.ts";

declare module "fastify" {
  interface FastifyRequest {
    /** Who asks. Set by the hook `authorise`. */
    access: Access;
    /** The export that the URL names. Set by the hook `loadExport`. */
    fhirExport: FhirExport;
  }
}

/** Declares what the hooks add to a request, as fastify wants it done before the first route. */
export function decorateRequests(app: FastifyInstance): void {
  app.decorateRequest("access");
  app.decorateRequest("fhirExport");
}

/** Lets a request pass when its token is valid, or when the service needs none, and sets `request.access`. Refusals
 *  are in the audit log. */
export const authorise =
  (deps: ShimDeps): preHandlerAsyncHookHandler =>
  async (request, reply) => {
    const found = await deps.authority()?.authenticate(request.headers.authorization);
    if (found?.kind === "refused") {
      logRefusal(deps, request, found.answer.status);
      return sendAnswer(reply, found.answer);
    }
    request.access = found?.access ?? anonymous;
  };

/** Lets a request pass when it comes from the client that started the export of the URL, with a token that covers
 *  the export's types, and sets `request.fhirExport`. For other clients the export does not exist. Runs after
 *  `authorise`. */
export const loadExport =
  (deps: ShimDeps): preHandlerAsyncHookHandler =>
  async (request, reply) => {
    const object = await deps.exports.get((request.params as { id: string }).id);
    if (!isServed(object, deps.now())) return sendAnswer(reply, unknownExport);
    const { access } = request;
    switch (mayRead(access, object.spec.origin?.client, object.spec.types)) {
      case "yes":
        request.fhirExport = object;
        return;
      case "other":
        logRefusal(deps, request, 404, access.client);
        return sendAnswer(reply, unknownExport);
      case "scopes":
        logRefusal(deps, request, 403, access.client);
        return sendAnswer(reply, scopesTooNarrow);
    }
  };

const scopesTooNarrow = errorAnswer(403, {
  code: "forbidden",
  text: "the token's scopes do not cover the types of this export; ask for a token with the scopes that started it",
});

/** Writes the audit record of a refusal, without URL and header. */
export function logRefusal({ log }: ShimDeps, request: FastifyRequest, status: number, client?: string): void {
  const { routeOptions, method } = request;
  log.warn({
    audit: "refused",
    route: routeOptions.url,
    method,
    status,
    ...(client !== undefined && { client }),
  });
}
