import {
  Agent,
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  request as open,
  type ServerResponse,
} from "node:http";
import type { AddressInfo, Socket } from "node:net";

/** A request that passes through, with its whole body. */
export interface Passing {
  /** number of the request since the last `watch`, from 1 */
  number: number;
  method: string;
  /** path and query as sent */
  url: string;
  headers: IncomingHttpHeaders;
  body: Buffer;
}

export interface Passed {
  status: number;
  headers: IncomingHttpHeaders;
  body: Buffer;
}

/** What the client gets instead: another answer, or a connection that ends without one. */
export type Instead = Passed | "drop";
type Maybe<T> = T | undefined | Promise<T | undefined>;

/** Hooks that decide what happens to a request. A promise holds it; undefined lets it pass. */
export interface Hooks {
  /** called before the server gets the request; if it returns an answer, the server does not get it */
  before?: (request: Passing) => Maybe<Instead>;
  /** called when the server has answered, before the answer is passed on; "cut" passes on the first half and ends the
   *  connection */
  after?: (request: Passing, answer: Passed) => Maybe<Instead | "cut">;
}

/** An HTTP proxy in front of servers on this machine that counts, holds, breaks and loses requests one by one. */
export interface FaultProxy {
  /** `http://127.0.0.1:PORT` */
  readonly origin: string;
  /** Replaces the hooks, and counts from 1 again. */
  watch(hooks: Hooks): void;
  /** number of requests since the last `watch` */
  readonly count: number;
  close(): Promise<void>;
}

/** @param upstreams origin of the server by the first segment of the path, e.g. `{ fhir: "http://127.0.0.1:4000" }`.
 *  The Host header stays the client's: servers make links of it that lead here, and Azurite's signature does not cover
 *  it. */
export async function startFaultProxy(upstreams: Record<string, string>): Promise<FaultProxy> {
  // This is below the 5 s after which Azurite closes idle connections.
  const agent = new Agent({ keepAlive: true, timeout: 4000 });
  const sockets = new Set<Socket>();
  let hooks: Hooks = {};
  let count = 0;

  const handle = async (incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> => {
    const body = await bytesOf(incoming);
    const request: Passing = {
      number: ++count,
      method: incoming.method!,
      url: incoming.url!,
      headers: incoming.headers,
      body,
    };
    // The hooks are those that were set when the request came.
    const { before, after } = hooks;
    const instead = await before?.(request);
    if (instead) return give(request, outgoing, instead);
    const upstream = upstreams[request.url.split(/[/?]/)[1]!];
    if (!upstream) throw new Error("the fault proxy knows no server for the first segment of this path");
    const answer = await forward(upstream, request, agent);
    give(request, outgoing, (await after?.(request, answer)) ?? answer, answer);
  };

  const server = createServer({ keepAliveTimeout: 60_000, maxHeaderSize: 65_536 }, (incoming, outgoing) => {
    // The client or the server is gone.
    handle(incoming, outgoing).catch(() => incoming.socket.destroy());
  });
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    watch(wanted) {
      hooks = wanted;
      count = 0;
    },
    get count() {
      return count;
    },
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of sockets) socket.destroy();
      agent.destroy();
      await closed;
    },
  };
}

function give({ method }: Passing, outgoing: ServerResponse, what: Instead | "cut", answer?: Passed): void {
  if (what === "drop" || (what === "cut" && answer!.body.length < 2)) return void outgoing.destroy();
  const { status, headers, body } = what === "cut" ? answer! : what;
  // Headers about the connection between proxy and server are not for the client.
  const { connection: _, "keep-alive": __, "transfer-encoding": ___, ...rest } = headers;
  // The length in an answer to HEAD is that of a body that is not sent.
  outgoing.writeHead(
    status,
    method === "HEAD" || status === 204 || status === 304 ? rest : { ...rest, "content-length": body.length },
  );
  if (what !== "cut") outgoing.end(body);
  else outgoing.write(body.subarray(0, body.length >> 1), () => outgoing.destroy());
}

function forward(upstream: string, { method, url, headers, body }: Passing, agent: Agent): Promise<Passed> {
  return new Promise((resolve, reject) => {
    const { "transfer-encoding": _, connection: __, ...rest } = headers;
    const sent = open(
      upstream + url,
      { method, headers: { ...rest, "content-length": body.length }, agent },
      (answer) => {
        bytesOf(answer).then(
          (bytes) => resolve({ status: answer.statusCode!, headers: answer.headers, body: bytes }),
          reject,
        );
      },
    );
    sent.on("error", reject);
    sent.end(body);
  });
}

async function bytesOf(message: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of message) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}
