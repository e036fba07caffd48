import assert from "node:assert/strict";
import { tmpdir } from "node:os";
import { after, before, describe, test } from "node:test";
import type { Task } from "../../src/contracts.ts";
import { SourceClient } from "../../src/fhir/client.ts";
import { readPage } from "../../src/fhir/reads.ts";
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

/** the answer to one search, and the requests it took */
async function search(link: string) {
  const client = new SourceClient(task(), tmpdir(), new AbortController().signal);
  const from = source.requests.length;
  try {
    const { page } = await readPage(client, link);
    const { page: again } = await readPage(client, link);
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
  // two that are there, and many that are not
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

  test("a long one is posted: the same resources", async () => {
    const { ids: posted, methods } = await search(link(300));
    assert.deepEqual(methods, ["POST /fhir/Patient/_search", "POST /fhir/Patient/_search"]);
    assert.equal(posted.length, 2);
  });

  test("where searches cannot be posted it is a GET all the same, and POST is not tried again", async () => {
    source.set({ noPost: true });
    const { ids, methods } = await search(link(300));
    source.set({ noPost: false });
    assert.equal(ids.length, 2);
    assert.deepEqual(methods, ["POST /fhir/Patient/_search", "GET /fhir/Patient", "GET /fhir/Patient"]);
  });
});
