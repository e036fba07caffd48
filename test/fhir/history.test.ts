import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { describe, test } from "node:test";
import { SourceClient } from "../../src/fhir/client.ts";
import { newestVersion, readHistory, typeHistory, versionBefore } from "../../src/fhir/history.ts";
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
      const client = clientOf(source.baseURL);
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
        assert.equal(versionIdOf(found), expected);
      } finally {
        await client.close();
        await source.close();
      }
    });
});

/** An entry of a canned history: of Basic/a, unless it says otherwise. */
const version = (versionId: string, at: string, more: object = {}) => ({
  resource: { resourceType: "Basic", id: "a", meta: { versionId, lastUpdated: at } },
  request: { method: "PUT", url: "Basic/a" },
  response: { status: "200" },
  ...more,
});
const deletion = (more: object = {}) => ({ request: { method: "DELETE", url: "Basic/a" }, response: {}, ...more });
const history = (...entry: object[]) => ({ resourceType: "Bundle", type: "history", entry });
const outcome = { resourceType: "OperationOutcome", issue: [{ severity: "error", code: "not-supported" }] };
const [t1, t2, t3, t4] = [1, 2, 3, 4].map((second) => `2026-01-01T00:00:0${second}.000Z`) as [
  string,
  string,
  string,
  string,
];

describe("the version before a time, by servers of other habits", () => {
  const cases: [name: string, answer: object, expected: string | undefined][] = [
    ["newest first", history(version("3", t4), version("2", t2), version("1", t1)), "2"],
    ["oldest first: it cannot be told", history(version("1", t1), version("2", t2), version("3", t4)), undefined],
    ["200 with an OperationOutcome: it cannot be told", outcome, undefined],
    [
      "a search result: it cannot be told",
      { ...history(version("3", t4), version("2", t2)), type: "searchset" },
      undefined,
    ],
    ["entries that are no list: it cannot be told", { ...history(), entry: { resource: {} } }, undefined],
    ["no entries at all: it cannot be told", history(), undefined],
    [
      "a deletion that holds what is left of the resource, as Microsoft's: the versions behind it keep their places",
      history(deletion({ resource: version("3", t4).resource, response: { lastModified: t4 } }), version("2", t2)),
      "2",
    ],
    [
      "a deletion before the time that holds the last version: it did not exist",
      history(version("3", t4), deletion({ resource: version("1", t1).resource, response: { lastModified: t2 } })),
      "none",
    ],
    [
      "a deletion that names no id is of the resource whose history it is",
      history(
        version("3", t4),
        deletion({ request: { method: "DELETE" }, response: { lastModified: t2 } }),
        version("1", t1),
      ),
      "none",
    ],
    [
      "versionIds that are no numbers, and no 201: an older version may be missing",
      history(version("b7", t4)),
      undefined,
    ],
    [
      "no versionIds, and no 201: an older version may be missing",
      history({ ...version("", t4), resource: { resourceType: "Basic", id: "a", meta: { lastUpdated: t4 } } }),
      undefined,
    ],
    [
      "versionIds that are no numbers, created at the time or later",
      history(version("b7", t4, { response: { status: "201 Created" } })),
      "none",
    ],
    ["the same, by a POST", history(version("b7", t4, { request: { method: "POST", url: "Basic" } })), "none"],
    ["the oldest version is not the first", history(version("7", t4)), undefined],
    [
      "another resource's version: it cannot be told",
      history({
        ...version("1", t2),
        resource: { resourceType: "Basic", id: "b", meta: { versionId: "1", lastUpdated: t2 } },
      }),
      undefined,
    ],
    [
      "a resource of another type is passed over",
      history({ resource: { resourceType: "OperationOutcome" }, response: {} }, version("2", t2)),
      "2",
    ],
    [
      "times without a fraction may be any of their second",
      history(
        deletion({ response: { lastModified: "2026-01-01T00:00:04Z" } }),
        version("2", "2026-01-01T00:00:04.500Z"),
        version("1", t1),
      ),
      "1",
    ],
  ];
  for (const [name, answer, expected] of cases)
    test(name, async () => {
      await using canned = await serve(() => answer);
      assert.equal(versionIdOf(await versionBefore(canned.client, "Basic", "a", t3)), expected);
    });
});

describe("a history of a type", () => {
  const ids = async (pages: object[], from = t2) => {
    await using canned = await serve((url, baseURL) => {
      const at = Number(url.searchParams.get("page") ?? 0);
      const link = at + 1 < pages.length ? [{ relation: "next", url: `${baseURL}/Basic/_history?page=${at + 1}` }] : [];
      return { link, ...pages[at] };
    });
    const seen: string[] = [];
    const end = await readHistory(
      canned.client,
      { link: typeHistory("Basic", from, 10), type: "Basic", from: Date.parse(from) },
      (entry) => {
        seen.push(`${entry.id} ${entry.deleted ? "deleted" : entry.version}`);
        return entry.id === "stop";
      },
    );
    return { end, seen, pages: canned.asked.length };
  };
  const of = (id: string, at: string) => {
    const entry = version("1", at);
    return { ...entry, resource: { ...entry.resource, id } };
  };

  const cases: [name: string, pages: object[], expected: Awaited<ReturnType<typeof ids>>][] = [
    [
      "is read to its last page",
      [history(of("a", t4), of("b", t3)), history(of("c", t2))],
      { end: "whole", seen: ["a 1", "b 1", "c 1"], pages: 2 },
    ],
    ["that is an OperationOutcome is none", [outcome], { end: "refused", seen: [], pages: 1 }],
    [
      "whose second page is an OperationOutcome is none",
      [history(of("a", t4)), outcome],
      { end: "refused", seen: ["a 1"], pages: 2 },
    ],
    [
      "that is a search result is none",
      [{ ...history(of("a", t4)), type: "searchset" }],
      { end: "refused", seen: [], pages: 1 },
    ],
    ["that is null is none", [{ toJSON: () => null }], { end: "refused", seen: [], pages: 1 }],
    [
      "with versions older than _since is read no further",
      [history(of("a", t3), of("b", t1)), history(of("c", t1))],
      { end: "older", seen: ["a 1"], pages: 1 },
    ],
    [
      "that is oldest first is not believed",
      [history(of("a", t1), of("b", t3))],
      { end: "unordered", seen: [], pages: 1 },
    ],
    [
      "that is oldest first, one entry a page, is not believed",
      [history(of("a", t1)), history(of("b", t3))],
      { end: "unordered", seen: [], pages: 2 },
    ],
    [
      "of one transaction that is older than _since: the next page is looked at",
      [history(of("a", t1), of("b", t1)), history(of("c", t1))],
      { end: "older", seen: [], pages: 2 },
    ],
    [
      "whose pages repeat the end of the page before",
      [history(of("a", t4), of("b", t3)), history(of("a", t4), of("b", t3), of("c", t2))],
      { end: "whole", seen: ["a 1", "b 1", "a 1", "b 1", "c 1"], pages: 2 },
    ],
    [
      "is left when enough is seen",
      [history(of("stop", t4), of("b", t3))],
      { end: "stopped", seen: ["stop 1"], pages: 1 },
    ],
    [
      "with deletions, entries of other types and such that name no id",
      [
        history(
          deletion(),
          deletion({ request: { method: "DELETE", url: "Basic?code=x" } }),
          deletion({ request: { method: "DELETE", url: "Basic?code=x" }, fullUrl: "http://other/fhir/Basic/b" }),
          deletion({ request: { method: "DELETE", url: "Patient/c" } }),
          { resource: { resourceType: "Patient", id: "d" } },
          of("e", t3),
        ),
      ],
      { end: "whole", seen: ["a deleted", "b deleted", "e 1"], pages: 1 },
    ],
  ];
  for (const [name, pages, expected] of cases) test(name, async () => assert.deepEqual(await ids(pages), expected));
});

describe("a resource as it is now", () => {
  for (const [name, answer, expected] of [
    ["is its bytes", version("5", t4).resource, "5"],
    ["200 with an OperationOutcome: it cannot be told", outcome, undefined],
    ["another resource: it cannot be told", { ...version("5", t4).resource, id: "b" }, undefined],
  ] as const)
    test(name, async () => {
      await using canned = await serve(() => answer);
      assert.equal(versionIdOf(await newestVersion(canned.client, "Basic", "a")), expected);
    });
});

function versionIdOf(found: Awaited<ReturnType<typeof versionBefore>>): string | undefined {
  if (typeof found !== "object") return found;
  const { bytes, entry } = found;
  const { meta } = JSON.parse(bytes.toString("utf8", entry.start, entry.end)) as { meta: { versionId: string } };
  return meta.versionId;
}

const clientOf = (baseURL: string) =>
  new SourceClient(
    {
      baseURL,
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

/** A server whose answers all have status 200. */
async function serve(answer: (url: URL, baseURL: string) => object) {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(request.url!);
    const body = JSON.stringify(answer(new URL(request.url!, baseURL), baseURL));
    response.writeHead(200, { "content-type": "application/fhir+json" }).end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const baseURL = `http://127.0.0.1:${(server.address() as AddressInfo).port}/fhir`;
  const client = clientOf(baseURL);
  return {
    client,
    asked,
    async [Symbol.asyncDispose]() {
      await client.close();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
