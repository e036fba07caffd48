import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { test } from "node:test";
import { transient } from "../../src/failure.ts";
import { SourceClient } from "../../src/fhir/client.ts";
import { probePage } from "../../src/fhir/reads.ts";
import { Trouble } from "../../src/fhir/trouble.ts";
import { system } from "../../src/surroundings.ts";

test("what requests meet is told when it lasts, with what was met last, until one is answered", () => {
  let now = 0;
  const trouble = new Trouble({ ...system.clock, monotonic: () => now });
  assert.equal(trouble.lasting(0), undefined);
  trouble.note(transient("SourceUnreachable", "first"));
  assert.equal(trouble.lasting(5000), undefined);
  now = 5000;
  trouble.note(transient("SourceInconsistent", "second"));
  assert.deepEqual(trouble.lasting(5000), { reason: "SourceInconsistent", message: "second" });
  trouble.end();
  assert.equal(trouble.lasting(0), undefined);
  trouble.note(transient("SourceUnreachable", "third"));
  assert.equal(trouble.lasting(5000), undefined, "it begins anew");
});

test("a client that is answered 503 says so until it is answered", async () => {
  let status = 503;
  const server = createServer((_, response) =>
    response
      .writeHead(status, { "content-type": "application/fhir+json" })
      .end(JSON.stringify({ resourceType: "Bundle", type: "searchset", entry: [] })),
  ).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const client = new SourceClient(
    {
      baseURL: `http://127.0.0.1:${(server.address() as AddressInfo).port}/fhir`,
      auth: { kind: "none" },
      count: 10,
      settleSeconds: 0,
      history: true,
      retrySeconds: 60,
      share: { requests: 1 },
    },
    tmpdir(),
    new AbortController().signal,
  );
  try {
    const asked = probePage(client, "Patient?_count=1");
    while (!client.trouble.lasting(0)) await new Promise((resolve) => setImmediate(resolve));
    assert.equal(client.trouble.lasting(0)?.reason, "SourceUnreachable");
    assert.match(client.trouble.lasting(0)?.message ?? "", /answers 503 at .*\/fhir\/Patient$/);
    status = 200;
    assert.ok("page" in (await asked));
    assert.equal(client.trouble.lasting(0), undefined);
  } finally {
    await client.close();
    server.close();
    server.closeAllConnections();
  }
});
