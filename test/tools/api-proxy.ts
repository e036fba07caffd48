import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { request as open } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface Call {
  method: string;
  /** path and query */
  url: string;
}
/** What happens to a call that does not pass: it gets this status as its answer, or with "hang" no answer. */
export type Fault = number | "hang";

/** A plain HTTP proxy in front of an API server. It records the calls of one client, watches included, and can break or
 *  hold them. */
export interface APIProxy {
  /** path of a kubeconfig of the same user that leads to the proxy */
  readonly kubeconfig: string;
  /** all calls so far, in order */
  readonly calls: Call[];
  /** A promise holds the call; undefined lets it pass. */
  fault: (call: Call) => Fault | undefined | Promise<Fault | undefined>;
  close(): Promise<void>;
}

/** @param kubeconfig one of the shared control plane's, as control-plane.ts writes it */
export async function startAPIProxy(kubeconfig: string): Promise<APIProxy> {
  const config = JSON.parse(readFileSync(kubeconfig, "utf8"));
  const { server: upstream, "certificate-authority": ca } = config.clusters[0].cluster;
  const trusted = readFileSync(ca);
  const folder = mkdtempSync(join(tmpdir(), "fhir-export-proxy-"));
  const calls: Call[] = [];

  const handle = async (incoming: IncomingMessage, outgoing: ServerResponse) => {
    const call = { method: incoming.method!, url: incoming.url! };
    calls.push(call);
    const body: Buffer[] = [];
    for await (const chunk of incoming) body.push(chunk);
    const fault = await proxy.fault(call);
    if (fault === "hang") return;
    if (fault !== undefined) return void outgoing.writeHead(fault).end();
    const { host: _, connection: __, ...headers } = incoming.headers;
    const sent = open(upstream + call.url, { method: call.method, headers, ca: trusted }, (answer) => {
      const { connection: ___, "transfer-encoding": ____, ...rest } = answer.headers;
      outgoing.writeHead(answer.statusCode!, rest);
      // The headers are sent at once, as a watch may send nothing else for a while.
      outgoing.flushHeaders();
      answer.pipe(outgoing);
      answer.on("error", () => outgoing.destroy());
    });
    sent.on("error", () => outgoing.destroy());
    outgoing.on("close", () => sent.destroy());
    sent.end(Buffer.concat(body));
  };
  const server = createServer((incoming, outgoing) => void handle(incoming, outgoing).catch(() => outgoing.destroy()));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  // client-node allows plain HTTP only where TLS is not verified.
  config.clusters[0].cluster = { server: address, "insecure-skip-tls-verify": true };
  const path = join(folder, "kubeconfig");
  writeFileSync(path, JSON.stringify(config), { mode: 0o600 });
  const proxy: APIProxy = {
    kubeconfig: path,
    calls,
    fault: () => undefined,
    close: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
      rmSync(folder, { recursive: true });
    },
  };
  return proxy;
}
