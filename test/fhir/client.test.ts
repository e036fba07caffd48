import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { after, before, describe, test } from "node:test";
import type { Task } from "../../src/contracts.ts";
import { SourceClient } from "../../src/fhir/client.ts";
import { probePage } from "../../src/fhir/reads.ts";
import { type Source, startSource } from "../sources/server.ts";

let source: Source;
before(async () => {
  source = await startSource();
});
after(() => source.close());

const task = (): Task["source"] => ({
  baseURL: source.baseURL,
  auth: { kind: "none" },
  count: 100,
  settleSeconds: 0,
  history: true,
  retrySeconds: 1,
  share: { requests: 2 },
});

/** The answer to one search, and the requests that it took. */
async function search(link: string) {
  const client = new SourceClient(task(), tmpdir(), new AbortController().signal);
  const from = source.requests.length;
  try {
    const first = await probePage(client, link);
    const second = await probePage(client, link);
    assert("page" in first && "page" in second);
    const [{ page }, { page: again }] = [first, second];
    assert.deepEqual(again.entries.length, page.entries.length);
    return {
      ids: page.entries.map(({ id }) => id),
      methods: source.requests.slice(from).map(({ method, url }) => `${method} ${url.split("?")[0]}`),
    };
  } finally {
    await client.close();
  }
}

describe("long searches", () => {
  // Two of these ids exist, and many do not.
  const link = (count: number) =>
    `Patient?_id=${[...source.dump("Patient").keys()]
      .slice(0, 2)
      .map((key) => key.slice("Patient/".length))
      .concat(Array.from({ length: count }, (_, index) => `nobody-${index}`))
      .join(",")}&_count=250`;

  test("a short one is a GET", async () => {
    const { methods } = await search(link(20));
    assert.deepEqual(methods, ["GET /fhir/Patient", "GET /fhir/Patient"]);
  });

  test("a long one is posted, and gives the same resources", async () => {
    const { ids: posted, methods } = await search(link(300));
    assert.deepEqual(methods, ["POST /fhir/Patient/_search", "POST /fhir/Patient/_search"]);
    assert.equal(posted.length, 2);
  });

  test("where the source takes no POST it is sent by GET after all, and POST is not tried again", async () => {
    source.set({ noPost: true });
    const { ids, methods } = await search(link(300));
    source.set({ noPost: false });
    assert.equal(ids.length, 2);
    assert.deepEqual(methods, ["POST /fhir/Patient/_search", "GET /fhir/Patient", "GET /fhir/Patient"]);
  });
});

test("a next link that is empty is none", async () => {
  const client = new SourceClient(task(), tmpdir(), new AbortController().signal);
  try {
    for (const next of ["", " ", undefined]) assert.equal(client.next("Patient?_count=1", { next }), undefined);
    assert.match(client.next("Patient?_count=1", { next: "Patient?_count=1&p=2" })!, /^http.*[?]_count=1&p=2$/);
  } finally {
    await client.close();
  }
});

describe("how the message about a refused request names its URL", () => {
  const cases: [path: string, shown: string][] = [
    ["Patient/SECRET-1", "Patient/{id}"],
    ["Patient/SECRET-1/_history?_since=x", "Patient/{id}/_history"],
    ["Group/Smith", "Group/{id}"],
    ["Observation?patient=SECRET-1", "Observation"],
    ["Observation/_history?_count=5", "Observation/_history"],
    ["Patient/SECRET-1/Observation/SECRET-2", "Patient/{id}/…"],
    ["metadata", "metadata"],
    ["pages/SECRET-1/2", "…"],
    ["SECRET-1", "…"],
    ["?getpages=SECRET-1", ""],
  ];
  for (const [path, shown] of cases)
    test(`${path} is ${shown || "the base"}`, async () => {
      const server = createServer((_, response) => response.writeHead(500).end("{}"));
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
      const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}/fhir`;
      const client = new SourceClient(
        { ...task(), baseURL: base, retrySeconds: 0 },
        tmpdir(),
        new AbortController().signal,
      );
      try {
        await assert.rejects(
          client.get(path, () => {}, { purpose: "search" }),
          ({ message }: Error) => {
            assert.match(message, /the source answers 500 at/);
            assert(message.includes(`at ${base}/${shown}`) && !/SECRET|Smith/.test(message), message);
            return true;
          },
        );
      } finally {
        await client.close();
        server.close();
      }
    });
});
