import type { FastifyInstance } from "fastify";

/** Stops taking connections and waits for running downloads, `graceMs` at most. */
export async function drain(app: FastifyInstance, graceMs: number): Promise<void> {
  // node closes connections that are idle now; one that ends its download later would be kept for the next request
  const idle = setInterval(() => app.server.closeIdleConnections(), 250);
  const cut = setTimeout(() => app.server.closeAllConnections(), graceMs);
  await app.close();
  clearInterval(idle);
  clearTimeout(cut);
}
