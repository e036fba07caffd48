import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Progress, Totals } from "../contracts.ts";
import { sumByType, zeroTotals } from "../totals.ts";

/** What a worker answers at GET /progress: the durable counts of the shards that it works on, summed by type. They are
 *  for display only (contracts.ts). */
export class ProgressBoard {
  readonly #shards = new Map<string, { type: string; counts: Totals; checkpointAt?: string | undefined }>();
  readonly #expected = new Map<string, number>();
  throttledSeconds = () => 0;
  isPaused = () => false;
  trouble: () => Progress["trouble"] = () => undefined;

  /** Adds to the number of resources of a type that are to come. Only for a worker that does all of the export. */
  expect(type: string, resources: number): void {
    this.#expected.set(type, (this.#expected.get(type) ?? 0) + resources);
  }

  /** Replaces the counts of a shard.
   *  @param checkpointAt when they became durable; absent when the shard is done */
  set(shard: string, type: string, counts: Totals, checkpointAt?: string): void {
    this.#shards.set(shard, { type, counts, checkpointAt });
  }

  render(uid: string, index: number, podUID?: string): Progress {
    const shards = [...this.#shards.values()];
    const { totals, types } = sumByType(shards.map(({ type, counts }) => ({ type, ...counts })));
    const byType = new Map(types.map((count) => [count.type, count]));
    const checkpointAt = shards
      .flatMap((shard) => shard.checkpointAt ?? [])
      .sort()
      .at(-1);
    const trouble = this.trouble();
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
      ...(this.isPaused() && { paused: true as const }),
      ...(trouble && { trouble }),
      ...(checkpointAt && { checkpointAt }),
    };
  }
}

/** Serves `render` at GET /progress.
 *  @param address host:port; port 0 picks a free one
 *  @returns the port; the server does not keep the process alive */
export async function serveProgress(
  address: string,
  render: () => Progress,
): Promise<{ port: number; server: Server }> {
  const at = address.lastIndexOf(":");
  const server = createServer((request, response) => {
    if (request.method !== "GET" || request.url !== "/progress") return void response.writeHead(404).end();
    // a reader that kept its connection would keep the pod alive
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
