// Files, settings and metadata of the service: called from contract.ts.
import assert from "node:assert/strict";
import { test } from "node:test";
import { gunzipSync } from "node:zlib";
import type { Calls } from "./contract-calls.ts";

export function serviceContract({ backend, client, accepted, refused }: Calls): void {
  test("files: Range, ETag, and the same bytes from every replica", async () => {
    const { manifest } = await client().export({ path: "/$export", parameters: [["_type", "Patient"]] });
    const { url } = manifest.output[0]!;
    const whole = await fetch(url);
    const bytes = Buffer.from(await whole.arrayBuffer());
    const etag = whole.headers.get("etag")!;
    assert.match(etag, /^"/);
    const part = await fetch(url, { headers: { range: "bytes=10-19", "if-range": etag } });
    assert.deepEqual([part.status, part.headers.get("content-range")], [206, `bytes 10-19/${bytes.length}`]);
    assert.deepEqual(Buffer.from(await part.arrayBuffer()), bytes.subarray(10, 20));
    assert.equal((await fetch(url, { headers: { range: `bytes=${bytes.length}-` } })).status, 416);
    assert.equal((await fetch(url, { headers: { "if-none-match": etag } })).status, 304);
    for (const other of backend().others) {
      const elsewhere = await fetch(url.replace(backend().base, other));
      assert.equal(elsewhere.headers.get("etag"), etag);
      assert.deepEqual(Buffer.from(await elsewhere.arrayBuffer()), bytes);
    }
  });

  test("settings: gzip files go out as they are to clients that accept gzip, unpacked to others; Expires is set", async () => {
    await backend().configure("exports: { ttlSecondsAfterFinished: 86400, output: { compression: Gzip } }");
    try {
      const { manifest, statusURL, lines } = await client().export({
        path: "/$export",
        parameters: [["_type", "Patient"]],
      });
      assert.deepEqual([...lines.keys()].sort(), [...backend().source.dump("Patient").keys()].sort());
      const expires = Date.parse((await fetch(statusURL)).headers.get("expires")!);
      assert(expires > Date.now() + 80_000_000 && expires < Date.now() + 90_000_000);
      const { request } = await import("node:http");
      const raw = (encoding: string) =>
        new Promise<{ encoding: string | undefined; bytes: Buffer }>((resolve, reject) => {
          const asked = request(
            manifest.output[0]!.url,
            { headers: { "accept-encoding": encoding } },
            async (answer) => {
              const parts: Buffer[] = [];
              for await (const part of answer) parts.push(part as Buffer);
              resolve({ encoding: answer.headers["content-encoding"], bytes: Buffer.concat(parts) });
            },
          );
          asked.on("error", reject).end();
        });
      const [packed, plain] = [await raw("gzip"), await raw("identity")];
      assert.deepEqual([packed.encoding, plain.encoding], ["gzip", undefined]);
      assert.deepEqual(gunzipSync(packed.bytes), plain.bytes);
      assert(packed.bytes.length < plain.bytes.length / 2);
    } finally {
      await backend().configure("");
    }
  });

  test("settings: limits of exports and of polls are 429 with Retry-After", async () => {
    await backend().configure("limits: { exportsPerClient: 1, pollsPerMinute: 6 }");
    try {
      backend().source.set({ pageDelay: 1000 });
      const first = await accepted({ path: "/$export" });
      const second = await refused({ path: "/$export" });
      assert.deepEqual([second.status, Number(second.headers.get("retry-after")) > 0], [429, true]);
      const polls = [];
      for (let n = 0; n < 15; n++) polls.push(await fetch(first));
      const tooFast = polls.find(({ status }) => status === 429);
      assert(tooFast, "asked for too often");
      assert(Number(tooFast.headers.get("retry-after")) >= 1);
      assert.equal(((await tooFast.json()) as { resourceType: string }).resourceType, "OperationOutcome");
      await fetch(first, { method: "DELETE" });
      const third = await accepted({ path: "/$export" });
      await fetch(third, { method: "DELETE" });
    } finally {
      backend().source.set({ pageDelay: 0 });
      await backend().configure("");
    }
  });

  test("R1: /metadata lists the three operations, and their definitions can be read", async () => {
    for (const base of new Set([backend().base, new URL(backend().base).origin])) {
      const answer = await fetch(`${base}/metadata`);
      assert.match(answer.headers.get("content-type")!, /^application\/fhir\+json/);
      const { rest, instantiates } = (await answer.json()) as {
        instantiates: string[];
        rest: {
          operation: { name: string; definition: string }[];
          resource: { type: string; operation: { definition: string }[] }[];
        }[];
      };
      assert(instantiates.includes("http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data"));
      assert.equal(rest[0]!.operation[0]!.name, "export");
      for (const id of ["export", "patient-export", "group-export"]) {
        const definition = (await (await fetch(`${base}/OperationDefinition/${id}`)).json()) as {
          resourceType: string;
          code: string;
        };
        assert.deepEqual([definition.resourceType, definition.code], ["OperationDefinition", "export"]);
      }
    }
  });
}
