import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";
import { startSource } from "../sources/server.ts";
import { Standalone } from "./harness.ts";

/** The script that `helm test` runs in a pod. */
async function tryIt(base: string, types: string, seconds = 60): Promise<{ code: number | null; output: string }> {
  const child = spawn(process.execPath, ["charts/fhir-export/files/try.mjs", base, types, String(seconds)]);
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (output += chunk));
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  return { code, output };
}

suite("the export that helm test makes", () => {
  test("lists each file and leaves nothing; it fails on an unknown type, a wrong digest and a service that is down", async (t) => {
    const source = await startSource();
    const root = await mkdtemp(join(tmpdir(), "fhir-export-try-"));
    const standalone = await Standalone.start([
      "--source",
      source.baseURL,
      "--target",
      join(root, "out"),
      "--data",
      join(root, "data"),
    ]);
    t.after(async () => {
      await standalone.end("SIGKILL");
      await source.close();
      await rm(root, { recursive: true, force: true });
    });
    const good = await tryIt(standalone.baseURL, "Patient,Observation");
    assert.equal(good.code, 0, good.output);
    assert.match(good.output, /^Patient: \d+ resources, \d+ bytes, SHA-256 ok$/m);
    assert.match(good.output, /^Observation: \d+ resources/m);
    assert.match(good.output, /deleted; the export works\n$/);
    const bad = await tryIt(standalone.baseURL, "Patiemt");
    assert.equal(bad.code, 1);
    assert.match(bad.output, /kick-off: 400/);

    // One byte of each file is changed.
    const proxy = createServer(async ({ url = "/", method, headers }, response) => {
      const { host: _, ...rest } = headers;
      const answer = await fetch(`${standalone.baseURL}${url}`, {
        method: method!,
        headers: rest as Record<string, string>,
      });
      const bytes = Buffer.from(await answer.arrayBuffer());
      if (url.includes("/files/")) bytes[0]! ^= 1;
      const kept = ["content-type", "content-location", "x-progress"].flatMap((name) =>
        answer.headers.has(name) ? [[name, answer.headers.get(name)!]] : [],
      );
      response.writeHead(answer.status, Object.fromEntries(kept)).end(bytes);
    }).listen(0, "127.0.0.1");
    t.after(() => proxy.close());
    await once(proxy, "listening");
    const { port } = proxy.address() as AddressInfo;
    const broken = await tryIt(`http://127.0.0.1:${port}`, "Patient");
    assert.equal(broken.code, 1);
    assert.match(broken.output, /^Patient: SHA-256 \w+ instead of \w+$/m);

    const nobody = await tryIt("http://127.0.0.1:1", "Patient", 1);
    assert.equal(nobody.code, 1);
    assert.match(nobody.output, /metadata: (ECONNREFUSED|fetch failed)/);
  });
});
