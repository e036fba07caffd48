import { connect, createServer, type Socket } from "node:net";
import { resetSocket } from "./reset.ts";

/** A TCP proxy in front of a port of this machine that can cut, refuse or stall connections. */
export interface TCPProxy {
  port: number;
  /** number of connections since the start */
  readonly connections: number;
  /** number of open connections */
  readonly open: number;
  /** Resets all open connections. */
  cut(): void;
  /** while true, all data is dropped silently */
  stall(on: boolean): void;
  close(): Promise<void>;
}

export async function startTCPProxy(target: number): Promise<TCPProxy> {
  const pairs = new Set<[Socket, Socket]>();
  let stalled = false;
  let connections = 0;
  const server = createServer((near) => {
    connections += 1;
    const far = connect(target, "127.0.0.1");
    const pair: [Socket, Socket] = [near, far];
    pairs.add(pair);
    for (const [from, to] of [pair, pair.toReversed() as [Socket, Socket]]) {
      from.on("data", (chunk) => stalled || to.write(chunk));
      from.on("end", () => to.end());
      from.on("error", () => to.destroy());
      from.on("close", () => {
        pairs.delete(pair);
        to.destroy();
      });
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const cut = () => {
    for (const [near, far] of pairs) {
      resetSocket(near);
      far.destroy();
    }
  };
  return {
    port: (server.address() as { port: number }).port,
    get connections() {
      return connections;
    },
    get open() {
      return pairs.size;
    },
    cut,
    stall: (on) => {
      stalled = on;
    },
    close: async () => {
      const closed = new Promise((resolve) => server.close(resolve));
      cut();
      await closed;
    },
  };
}
