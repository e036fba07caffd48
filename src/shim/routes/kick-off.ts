import type { FastifyInstance, FastifyRequest } from "fastify";
import { authorise, logRefusal } from "../hooks.ts";
import { answerKickOff } from "../kick-off.ts";
import { errorAnswer } from "../outcome.ts";
import type { KickOff } from "../parse.ts";
import { addRoute, type Handler } from "../route.ts";
import { calledURL, queryOf } from "../urls.ts";
import type { RouteContext } from "./context.ts";

const levelOfURL = {
  "/$export": "System",
  "/Patient/$export": "Patient",
  "/Group/:id/$export": "Group",
} as const;

/** `spec.origin.request` of a FhirExport holds no more characters. A client that sends more parameters can use POST. */
const maxCalledURL = 16_384;

/** `$export` at its three levels, by GET or POST: makes one FhirExport and answers with its status URL. */
export async function kickOffRoutes(app: FastifyInstance, { deps, base }: RouteContext): Promise<void> {
  for (const [url, level] of Object.entries(levelOfURL)) {
    const handler: Handler = async (request) => {
      const called = calledURL(request.originalUrl, base);
      if (called.length > maxCalledURL) return urlTooLong;
      const { access } = request;
      const answer = await answerKickOff(
        {
          access,
          url: called,
          kickOff: readKickOff(request, level),
          idempotencyKey: request.headers["idempotency-key"],
        },
        deps,
      );
      if (answer.status === 403) logRefusal(deps, request, 403, access.client);
      return answer;
    };
    addRoute(app, url, { preHandler: [authorise(deps)], GET: handler, POST: handler });
  }
}

const urlTooLong = errorAnswer(414, {
  code: "too-long",
  text: `the URL is longer than ${maxCalledURL} characters; send the parameters by POST, in a Parameters resource`,
});

function readKickOff(request: FastifyRequest, level: KickOff["level"]): KickOff {
  const { method, originalUrl, headers, params, body } = request;
  return {
    level,
    method: method as "GET" | "POST",
    groupId: (params as { id?: string }).id,
    accept: headers.accept,
    prefer: headers.prefer === undefined ? undefined : String(headers.prefer),
    query: queryOf(originalUrl),
    ...(headers["content-type"] !== undefined && { contentType: headers["content-type"] }),
    ...(Buffer.isBuffer(body) && { body }),
  };
}
