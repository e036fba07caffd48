import type { FastifyInstance } from "fastify";

/** Closes the app: takes no new connections, waits for running downloads for at most `graceMs`, then cuts them. */
export async function drain(app: FastifyInstance, graceMs: number): Promise<void> {
  // app.close() closes the connections that are idle now. One that ends its download later would stay open for a next
  // request, so idle ones are closed again and again.
  const idle = setInterval(() => app.server.closeIdleConnections(), 250);
  const cut = setTimeout(() => app.server.closeAllConnections(), graceMs);
  await app.close();
  clearInterval(idle);
  clearTimeout(cut);
}
