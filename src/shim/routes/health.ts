import type { FastifyInstance } from "fastify";
import { addRoute } from "../route.ts";
import type { RouteContext } from "./context.ts";

/** `/healthz` and `/readyz`, for the probes of a pod. */
export async function healthRoutes(app: FastifyInstance, { deps }: RouteContext): Promise<void> {
  addRoute(app, "/healthz", { GET: async () => "ok" });
  addRoute(app, "/readyz", {
    GET: async (_request, reply) => {
      if (deps.ready()) return "ok";
      reply.code(503);
      return "not ready";
    },
  });
}
