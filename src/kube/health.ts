import { createServer, type Server } from "node:http";
import type { Registry } from "prom-client";

/** Serves the probes and metrics for the cluster: `/healthz`, `/readyz` (503 until `ready`), `/metrics`.
 *  @returns the port that was chosen if `listen.port` is 0 */
export async function serveHealth(
  listen: { host: string; port: number },
  ready: () => boolean,
  registry: Registry,
): Promise<{ port: number; close(): void }> {
  const server: Server = createServer((request, response) => {
    const path = request.url?.split("?", 1)[0];
    if (path === "/healthz") return void response.end("ok\n");
    if (path === "/readyz")
      return void response
        .writeHead(ready() ? 200 : 503)
        .end(ready() ? "ok\n" : "not ready: the first lists from the API server are not complete yet\n");
    if (path !== "/metrics") return void response.writeHead(404).end();
    registry.metrics().then(
      (text) => response.setHeader("content-type", registry.contentType).end(text),
      () => response.writeHead(500).end(),
    );
  });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject);
  server.listen(listen.port, listen.host, resolve);
  await promise;
  const address = server.address();
  return {
    port: typeof address === "object" && address ? address.port : listen.port,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}
