import assert from "node:assert/strict";
import { tmpdir } from "node:os";
import { describe, test } from "node:test";
import { SourceClient } from "../../src/fhir/client.ts";
import { versionBefore } from "../../src/worker/seal/touched.ts";
import { startSource } from "../sources/server.ts";

/** The sample source, as HAPI, gives a deletion no time. */
type Write = "put" | "delete";

describe("the version before a time, of a resource that was written to then or later", () => {
  const cases: { name: string; before: Write[]; since: Write[]; expected: string | undefined }[] = [
    { name: "updated since", before: ["put"], since: ["put"], expected: "1" },
    { name: "updated before, too", before: ["put", "put"], since: ["put", "put"], expected: "2" },
    { name: "deleted since", before: ["put"], since: ["delete"], expected: "1" },
    { name: "updated and deleted since", before: ["put", "put"], since: ["put", "delete"], expected: "2" },
    {
      name: "deleted and made again and updated since: the deletion may have been before",
      before: ["put"],
      since: ["delete", "put"],
      expected: undefined,
    },
    {
      name: "updated, deleted and made again since: the deletion was after the update",
      before: ["put"],
      since: ["put", "delete", "put"],
      expected: "1",
    },
    { name: "made since", before: [], since: ["put"], expected: "none" },
    { name: "made and deleted since", before: [], since: ["put", "delete"], expected: "none" },
    {
      name: "made, deleted and made again since",
      before: [],
      since: ["put", "delete", "put", "put"],
      expected: "none",
    },
  ];
  for (const { name, before, since, expected } of cases)
    test(name, async () => {
      let now = Date.parse("2024-01-01T00:00:00Z");
      const source = await startSource({ resources: [], now: () => now });
      const client = new SourceClient(
        {
          baseURL: source.baseURL,
          auth: { kind: "none" },
          count: 100,
          settleSeconds: 0,
          history: true,
          retrySeconds: 1,
          share: { requests: 2 },
        },
        tmpdir(),
        new AbortController().signal,
      );
      try {
        const write = (what: Write) => {
          now += 10;
          if (what === "put") source.put('{"resourceType":"Basic","id":"a"}');
          else source.delete("Basic", "a");
        };
        before.forEach(write);
        const at = new Date((now += 10)).toISOString();
        since.forEach(write);
        const found = await versionBefore(client, "Basic", "a", at);
        const versionId =
          typeof found === "object"
            ? (
                JSON.parse(found.bytes.toString("utf8", found.entry.start, found.entry.end)) as {
                  meta: { versionId: string };
                }
              ).meta.versionId
            : found;
        assert.equal(versionId, expected);
      } finally {
        await client.close();
        await source.close();
      }
    });
});
