import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Progress, Totals } from "../contracts.ts";
import { sumByType, zeroTotals } from "../totals.ts";

/** What a worker answers at GET /progress: the durable counts of each shard it works on, summed. Advisory (contracts.ts). */
export class ProgressBoard {
  readonly #shards = new Map<string, { type: string; counts: Totals; checkpointAt?: string | undefined }>();
  readonly #expected = new Map<string, number>();
  throttledSeconds = () => 0;

  /** How many resources of a type are to come, where one worker does all of them. */
  expect(type: string, resources: number): void {
    this.#expected.set(type, (this.#expected.get(type) ?? 0) + resources);
  }

  set(shard: string, type: string, counts: Totals, checkpointAt?: string): void {
    this.#shards.set(shard, { type, counts, checkpointAt });
  }

  render(uid: string, index: number, podUID?: string): Progress {
    const shards = [...this.#shards.values()];
    const { totals, types } = sumByType(shards.map(({ type, counts }) => ({ type, ...counts })));
    const byType = new Map(types.map((count) => [count.type, count]));
    const checkpointAt = shards.flatMap((shard) => shard.checkpointAt ?? []).reduce((a, b) => (b > a ? b : a), "");
    return {
      v: 1,
      uid,
      ...(podUID && { podUID }),
      index,
      totals,
      types: [...new Set([...byType.keys(), ...this.#expected.keys()])].map((type) => ({
        ...(byType.get(type) ?? { type, ...zeroTotals }),
        ...(this.#expected.has(type) && { expected: this.#expected.get(type)! }),
      })),
      throttledSeconds: Math.round(this.throttledSeconds()),
      ...(checkpointAt && { checkpointAt }),
    };
  }
}

/** Serves `render` at GET /progress. @param address host:port; port 0 picks one. */
export async function serveProgress(
  address: string,
  render: () => Progress,
): Promise<{ port: number; server: Server }> {
  const at = address.lastIndexOf(":");
  const server = createServer((request, response) => {
    if (request.method !== "GET" || request.url !== "/progress") return void response.writeHead(404).end();
    // a reader that keeps its connection would keep the pod alive
    response.writeHead(200, { "content-type": "application/json", connection: "close" }).end(JSON.stringify(render()));
  });
  await new Promise<void>((resolve, reject) => {
    server
      .once("error", reject)
      .listen(Number(address.slice(at + 1)), address.slice(0, at).replace(/^\[|\]$/g, ""), resolve);
  });
  server.unref();
  return { port: (server.address() as AddressInfo).port, server };
}
