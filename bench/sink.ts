/** A storage for benchmarks, with as much of Azure Blob Storage as the worker uses: `node bench/sink.ts`, with its
 *  options as JSON in BENCH_SINK. It counts blocks and drops them. It takes 2 GB/s; Azurite is for correctness. The
 *  bench asks it by GET: /stats says what has come, /reset forgets everything but plans, /keep does so and keeps the
 *  blocks that come from then on, /content returns those. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createSecureServer } from "node:https";

export interface SinkOptions {
  port: number;
  tls?: { cert: string; key: string };
}

const options = JSON.parse(process.env.BENCH_SINK!) as SinkOptions;
const blobs = new Map<string, { etag: string; bytes: Buffer }>();
/** `last`: when the last block had come */
const stats = { last: 0, blocks: 0, bytes: 0 };
/** the blocks, where they are kept */
let kept: Buffer[] | undefined;
let etags = 0;

interface Answer {
  status: number;
  headers?: Record<string, string | number>;
  body?: Buffer | string;
}

/** What the bench asks of the sink; undefined: the path is a blob's. */
function control(path: string): Answer | undefined {
  const json = (value: unknown) => ({
    status: 200,
    headers: { "content-type": "application/json" },
    body: JSON.stringify(value),
  });
  if (path === "/stats") return json(stats);
  if (path === "/content") return { status: 200, body: Buffer.concat(kept ?? []) };
  if (path !== "/keep" && path !== "/reset") return undefined;
  kept = path === "/keep" ? [] : undefined;
  for (const name of blobs.keys()) if (!name.endsWith("/plan.json")) blobs.delete(name);
  return json(Object.assign(stats, { last: 0, blocks: 0, bytes: 0 }));
}

function takeBlock(chunks: Buffer[], length: number): Answer {
  stats.blocks++;
  stats.bytes += length;
  stats.last = performance.timeOrigin + performance.now();
  kept?.push(...chunks);
  return { status: 201, headers: { etag: `"${++etags}"` } };
}

function put({ pathname, searchParams }: URL, request: IncomingMessage, bytes: Buffer): Answer {
  const etag = `"${++etags}"`;
  const isBlob = searchParams.get("restype") !== "container" && searchParams.get("comp") !== "blocklist";
  if (!isBlob) return { status: 201, headers: { etag } };
  const found = blobs.get(pathname);
  const { "if-none-match": noneMatch, "if-match": match } = request.headers;
  if (noneMatch === "*" && found) return { status: 409, headers: { "x-ms-error-code": "BlobAlreadyExists" } };
  if (match && match !== found?.etag) return { status: 412, headers: { "x-ms-error-code": "ConditionNotMet" } };
  blobs.set(pathname, { etag, bytes });
  return { status: 201, headers: { etag } };
}

function answerTo(url: URL, request: IncomingMessage, chunks: Buffer[]): Answer {
  const found = blobs.get(url.pathname);
  if (request.method === "PUT") return put(url, request, Buffer.concat(chunks));
  if (request.method === "GET" && found)
    return { status: 200, headers: { etag: found.etag, "content-length": found.bytes.length }, body: found.bytes };
  if (request.method === "HEAD" && found)
    return { status: 200, headers: { etag: found.etag, "content-length": found.bytes.length } };
  if (request.method === "DELETE" && found) return { status: 202 };
  return { status: 404, headers: { "x-ms-error-code": "BlobNotFound" } };
}

function answer(request: IncomingMessage, response: ServerResponse): void {
  const url = new URL(request.url!, "http://sink");
  const isBlock = url.searchParams.get("comp") === "block" && request.method === "PUT";
  const chunks: Buffer[] = [];
  let length = 0;
  request.on("data", (chunk: Buffer) => {
    length += chunk.length;
    if (!isBlock || kept) chunks.push(chunk);
  });
  request.on("end", () => {
    const { status, headers, body } =
      control(url.pathname) ?? (isBlock ? takeBlock(chunks, length) : answerTo(url, request, chunks));
    response.writeHead(status, { "x-ms-request-id": "1", "x-ms-version": "2025-01-05", ...headers }).end(body);
  });
}

const server = options.tls ? createSecureServer(options.tls, answer) : createServer(answer);
server.keepAliveTimeout = 60_000;
server.listen(options.port, "127.0.0.1", () => process.send?.("ready"));
process.on("disconnect", () => process.exit());
