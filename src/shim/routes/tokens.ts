import type { FastifyInstance } from "fastify";
import type { TokenAnswer } from "../auth/authority.ts";
import { errorAnswer } from "../outcome.ts";
import { addRoute } from "../route.ts";
import type { RouteContext } from "./context.ts";

/** Bytes of a token request that are read. An assertion has 1 to 2 kB. */
const maxTokenRequest = 16_384;

/** What a client needs to sign in: `/.well-known/smart-configuration` and the token endpoint. */
export async function tokenRoutes(app: FastifyInstance, { deps }: RouteContext): Promise<void> {
  addRoute(app, "/.well-known/smart-configuration", {
    GET: async () => {
      const authority = deps.authority();
      if (!authority) return noTokens;
      return { status: 200, headers: { "content-type": "application/json" }, body: authority.smartConfiguration() };
    },
  });
  addRoute(app, "/auth/token", {
    POST: async ({ body, headers }) => {
      const authority = deps.authority();
      if (!authority) return noTokens;
      const form = Buffer.isBuffer(body) ? body : Buffer.alloc(0);
      const { client, ...answer } =
        form.length > maxTokenRequest ? tooLong : await authority.token(form, headers["content-type"]);
      deps.log.info({ audit: "token", status: answer.status, ...(client !== undefined && { client }) });
      return answer;
    },
  });
}

const noTokens = errorAnswer(404, {
  code: "not-found",
  text: "this service needs no access tokens and gives out none; send requests without one",
});
const tooLong: TokenAnswer = errorAnswer(413, {
  code: "too-long",
  text: `the token request is longer than ${maxTokenRequest} bytes; send only grant_type, scope, client_assertion_type and client_assertion`,
});
