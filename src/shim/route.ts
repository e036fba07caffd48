import type { FastifyInstance, FastifyReply, FastifyRequest, HTTPMethods, preHandlerAsyncHookHandler } from "fastify";
import { errorAnswer, type HttpAnswer, withHeaders } from "./outcome.ts";

/** Answers a request. A string is sent as plain text. */
export type Handler = (request: FastifyRequest, reply: FastifyReply) => Promise<HttpAnswer | string>;

interface Route {
  /** What must hold before a handler runs. A hook that does not let the request pass sends its own answer. */
  preHandler?: preHandlerAsyncHookHandler[];
  GET?: Handler;
  POST?: Handler;
  DELETE?: Handler;
}

/** Adds a URL and its handlers. All other methods are refused with 405: HEAD above all must not start an export, and
 *  no request may fall through to another route. */
export function addRoute(app: FastifyInstance, url: string, { preHandler = [], ...handlers }: Route): void {
  for (const [method, handler] of Object.entries(handlers) as [HTTPMethods, Handler][])
    app.route({
      method,
      url,
      preHandler,
      handler: async (request, reply) => {
        const answer = await handler(request, reply);
        return typeof answer === "string" ? reply.send(answer) : sendAnswer(reply, answer);
      },
    });
  const allow = Object.keys(handlers).join(", ");
  app.route({
    method: (app.supportedMethods as HTTPMethods[]).filter((method) => !(method in handlers)),
    url,
    config: { allow },
    handler: async (request, reply) => sendAnswer(reply, methodRefused(request.method, allow)),
  });
}

/** @param allow the methods that the URL has, separated by commas */
export function methodRefused(method: string, allow: string): HttpAnswer {
  return withHeaders(
    errorAnswer(405, {
      code: "not-supported",
      text: `the method ${method} is not supported at this URL; use ${allow}`,
    }),
    { allow },
  );
}

/** Sends an answer. A body that is an object is serialised here, because fastify's own serialisers do not know FHIR;
 *  a stream is passed on as it is. */
export function sendAnswer(reply: FastifyReply, { status, headers, body }: HttpAnswer): FastifyReply {
  return reply
    .code(status)
    .headers(headers)
    .send(body === undefined || isStream(body) ? body : JSON.stringify(body));
}

const isStream = (body: unknown) => typeof (body as { pipe?: unknown } | null)?.pipe === "function";
