/** As much of Azure Blob Storage as the worker asks for: `node bench/sink.ts`, with its options as JSON in BENCH_SINK. Blocks are counted and thrown away, or
 *  kept, as the control requests say: GET /stats, /reset (all but plans), /keep, /content. Azurite is for correctness; this one takes blocks at 2 GB/s. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createSecureServer } from "node:https";

export interface SinkOptions {
  port: number;
  tls?: { cert: string; key: string };
}

const options = JSON.parse(process.env.BENCH_SINK!) as SinkOptions;
const blobs = new Map<string, { etag: string; bytes: Buffer }>();
const stats = { last: 0, blocks: 0, bytes: 0 };
let kept: Buffer[] | undefined;
let etags = 0;

function answer(request: IncomingMessage, response: ServerResponse): void {
  const url = new URL(request.url!, "http://sink");
  const path = url.pathname;
  const comp = url.searchParams.get("comp");
  const isBlock = comp === "block" && request.method === "PUT";
  const chunks: Buffer[] = [];
  let length = 0;
  request.on("data", (chunk: Buffer) => {
    length += chunk.length;
    if (!isBlock || kept) chunks.push(chunk);
  });
  request.on("end", () => {
    const send = (status: number, headers: Record<string, string | number> = {}, body?: Buffer | string) =>
      void response.writeHead(status, { "x-ms-request-id": "1", "x-ms-version": "2025-01-05", ...headers }).end(body);
    const json = (value: unknown) => send(200, { "content-type": "application/json" }, JSON.stringify(value));
    if (path === "/stats") return json(stats);
    if (path === "/content") return send(200, {}, Buffer.concat(kept ?? []));
    if (path === "/keep" || path === "/reset") {
      kept = path === "/keep" ? [] : undefined;
      for (const name of blobs.keys()) if (!name.endsWith("/plan.json")) blobs.delete(name);
      return json(Object.assign(stats, { last: 0, blocks: 0, bytes: 0 }));
    }
    const etag = `"${++etags}"`;
    const there = blobs.get(path);
    if (isBlock) {
      stats.blocks++;
      stats.bytes += length;
      stats.last = performance.timeOrigin + performance.now();
      kept?.push(...chunks);
      return send(201, { etag });
    }
    if (request.method === "PUT") {
      if (url.searchParams.get("restype") === "container" || comp === "blocklist") return send(201, { etag });
      if (request.headers["if-none-match"] === "*" && there)
        return send(409, { "x-ms-error-code": "BlobAlreadyExists" });
      if (request.headers["if-match"] && request.headers["if-match"] !== there?.etag)
        return send(412, { "x-ms-error-code": "ConditionNotMet" });
      blobs.set(path, { etag, bytes: Buffer.concat(chunks) });
      return send(201, { etag });
    }
    if (request.method === "GET" && there)
      return send(200, { etag: there.etag, "content-length": there.bytes.length }, there.bytes);
    if (request.method === "DELETE" && there) return send(202);
    send(404, { "x-ms-error-code": "BlobNotFound" });
  });
}

const server = options.tls ? createSecureServer(options.tls, answer) : createServer(answer);
server.keepAliveTimeout = 60_000;
server.listen(options.port, "127.0.0.1", () => process.send?.("ready"));
process.on("disconnect", () => process.exit());
