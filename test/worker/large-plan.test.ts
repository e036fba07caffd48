import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, test } from "node:test";
import type { Plan } from "../../src/contracts.ts";
import { planPath } from "../../src/sink/layout.ts";
import { storage } from "../sink/stores.ts";
import { start } from "./faults.ts";
import { Export } from "./harness.ts";

/** The source claims one resource of each type per second, from 2020 up to `until`. They are not stored anywhere:
 *  counts and pages are computed from the bounds of a search. */
const from = Date.parse("2020-01-01T00:00:00.000Z");
const until = Date.parse("2026-10-01T00:00:00.000Z");
const { place } = storage();
const types = ["Condition", "DiagnosticReport", "Encounter", "Observation"];
const perType = (until - from) / 1000;

function answer(request: IncomingMessage, response: ServerResponse, origin: string): void {
  const url = new URL(request.url!, origin);
  const say = (body: object) =>
    response.writeHead(200, { "content-type": "application/fhir+json" }).end(JSON.stringify(body));
  const type = url.pathname.slice("/fhir/".length);
  if (type === "metadata") {
    const resource = types.map((name) => ({ type: name, interaction: [{ code: "search-type" }] }));
    return void say({ resourceType: "CapabilityStatement", rest: [{ mode: "server", resource }] });
  }
  const { searchParams } = url;
  let [first, end] = [0, perType];
  for (const bound of searchParams.getAll("_lastUpdated")) {
    const index = Math.min(perType, Math.max(0, Math.ceil((Date.parse(bound.slice(2)) - from) / 1000)));
    if (bound.startsWith("ge")) first = index;
    else end = index;
  }
  const total = Math.max(0, end - first);
  const bundle = { resourceType: "Bundle", type: "searchset", total };
  if (searchParams.has("_summary")) return void say(bundle);
  const offset = Number(searchParams.get("_offset") ?? 0);
  const count = Math.min(Number(searchParams.get("_count") ?? 10), total - offset);
  searchParams.set("_offset", String(offset + count));
  const entry = Array.from({ length: count }, (_, i) => {
    const lastUpdated = new Date(from + (first + offset + i) * 1000).toISOString();
    const resource = { resourceType: type, id: String(first + offset + i), meta: { versionId: "1", lastUpdated } };
    return { fullUrl: `${origin}/fhir/${type}/${resource.id}`, resource, search: { mode: "match" } };
  });
  say({ ...bundle, link: offset + count < total ? [{ relation: "next", url: url.href }] : [], entry });
}

describe("a plan of more than 10,000 shards", () => {
  test("is made with a heap of 64 MB, leaves nothing out, and has packages of about the same size", async () => {
    const server = createServer((request, response) => answer(request, response, origin));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    try {
      const where = await place("directory");
      const of = new Export(where, `${origin}/fhir`, {
        export: { types, until: new Date(until).toISOString() },
        source: { history: false, share: { requests: 16 } },
        plan: { shardResources: 100_000, parallelism: 16 },
      });
      const { child, code } = await start(of, ["plan", 0], { NODE_OPTIONS: "--max-old-space-size=64" });
      let peakKB = 0;
      const watch = setInterval(() => {
        try {
          peakKB = Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, "utf8"))![1]);
        } catch {
          // the process has ended
        }
      }, 20);
      assert.equal(await code, 0);
      clearInterval(watch);

      assert(peakKB < 256 * 1024, `${peakKB} kB`);

      const store = await where.open();
      const { shards, packages } = JSON.parse((await store.read(planPath))!.bytes.toString()) as Plan;
      console.log(`!! plan of ${shards.length} shards: ${Math.round(peakKB / 1024)} MiB at most`);
      assert(shards.length > 10_000, `${shards.length} shards`);
      for (const type of types) {
        const windows = shards.filter((shard) => shard.type === type);
        assert.equal(windows[0]!.from, undefined);
        assert.equal(windows.at(-1)!.till, new Date(until).toISOString());
        for (const [i, { from }] of windows.entries()) if (i > 0) assert.equal(from, windows[i - 1]!.till);
      }
      const counts = new Map(shards.map(({ id, expected }) => [id, expected!]));
      assert.equal(
        [...counts.values()].reduce((sum, count) => sum + count, 0),
        types.length * perType,
      );
      assert(Math.max(...counts.values()) <= 200_000);
      assert.deepEqual(packages.flat().toSorted(), shards.map(({ id }) => id).toSorted());
      const loads = packages.map((ids) => ids.reduce((sum, id) => sum + counts.get(id)!, 0));
      assert(Math.max(...loads) < 1.05 * Math.min(...loads), JSON.stringify(loads));
    } finally {
      server.closeAllConnections();
      server.close();
    }
  });
});
