import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import type { Task } from "../../src/contracts.ts";
import { readAll, storage } from "../sink/stores.ts";
import type { Behaviour } from "../sources/faults.ts";
import { type Source, startSource } from "../sources/server.ts";
import { Export, linesOf } from "./harness.ts";

const { place } = storage();
const types = ["Observation", "Patient"];
let source: Source;
let all: string[];
before(async () => {
  source = await startSource({ scale: 0.1 });
  all = [...source.dump("Observation").keys(), ...source.dump("Patient").keys()].sort();
});
after(() => source.close());

async function exportFrom(behaviour: Behaviour, change: Partial<Task["source"]> = {}) {
  source.set(behaviour);
  const where = await place("directory");
  const from = source.requests.length;
  const done = await new Export(where, source.baseURL, { export: { types }, source: { count: 50, ...change } }).all();
  const requests = source.requests.slice(from);
  if (done.code !== 0) return { ...done, keys: [], told: "", requests };
  const store = await where.open();
  const { manifest, lines, doubled } = await linesOf(store);
  assert.deepEqual(doubled, []);
  const told: string[] = [];
  for (const { path } of manifest.error) told.push((await readAll(store, path))!.toString());
  return { ...done, keys: [...lines.keys()].sort(), told: told.join(""), requests };
}

const usual: Required<
  Pick<Behaviour, "paging" | "longLinks" | "noTotal" | "alwaysTotal" | "noCount" | "linksLast" | "linkBehindLast">
> = {
  paging: "cursor",
  longLinks: 0,
  noTotal: false,
  alwaysTotal: false,
  noCount: false,
  linksLast: false,
  linkBehindLast: false,
};
const unusual = ["ownBase", "behindEnd", "tooMuch"] as const;
afterEach(() => source.set({ ...usual, ...Object.fromEntries(unusual.map((name) => [name, undefined])) } as Behaviour));

describe("the links of a server behind a proxy", () => {
  const inner = "http://hapi.fhir.svc.cluster.local:8080/fhir";
  for (const [name, behaviour] of Object.entries<Behaviour>({
    "an inner address": { ownBase: inner },
    "another path": { ownBase: "http://10.0.0.7/hapi/r4" },
    "a lost path": { ownBase: "http://127.0.0.1" },
    "https for http": { ownBase: "https://127.0.0.1/fhir" },
    "links to the base": { ownBase: "http://10.0.0.7/hapi/r4", paging: "snapshot" },
    "links to the base, behind the entries": { ownBase: "http://10.0.0.7/r4", paging: "snapshot", linksLast: true },
    offsets: { ownBase: inner, paging: "offset" },
  }))
    test(`${name}: all is read at baseURL`, async () => {
      const done = await exportFrom(behaviour);
      assert.deepEqual([done.code, done.report.error, done.report.exact], [0, undefined, true]);
      assert.deepEqual(done.keys, all);
    });

  test("with links: Strict the first of them ends the export, and the message names the setting", async () => {
    const done = await exportFrom({ ownBase: inner }, { links: "Strict" });
    assert.deepEqual([done.code, done.report.error?.reason], [64, "SourceInconsistent"]);
    assert.match(done.report.error!.message, /hapi\.fhir\.svc.*spec\.links/);
  });
});

test("links of 3 kB are followed by GET as they stand, and long searches of ours still go by POST", async () => {
  const done = await exportFrom({ longLinks: 3000 });
  assert.deepEqual([done.code, done.report.error, done.report.exact], [0, undefined, true]);
  assert.deepEqual(done.keys, all);
  assert(done.requests.some(({ method, url }) => method === "GET" && url.length > 3000));
});

describe("one more next link behind the last page", () => {
  for (const behindEnd of [500, 404, 410, "empty", "endless"] as const)
    for (const totals of ["totals", "counts", "neither"] as const)
      test(`${behindEnd}, ${totals}`, async () => {
        const done = await exportFrom({
          ...(behindEnd === "empty" ? { linkBehindLast: true } : { behindEnd }),
          alwaysTotal: totals === "totals",
          noTotal: totals !== "totals",
          noCount: totals === "neither",
        });
        assert.deepEqual([done.code, done.report.error], [0, undefined]);
        assert.deepEqual(done.keys, all);
        // Where nothing says that all was shown, what is behind the link is told as lost: once for each search.
        const isTold = typeof behindEnd === "number" || behindEnd === "endless";
        if (totals === "totals") assert.deepEqual([done.report.exact, done.told], [true, ""]);
        else assert.equal(done.report.exact === false, isTold && totals === "neither", done.told);
        assert(done.requests.length < 7000, `${done.requests.length} requests`);
      });
});

describe("pages that are too much for the source", () => {
  for (const as of [413, 504, "too-costly"] as const)
    for (const paging of ["offset", "cursor"] as const)
      test(`${as}, ${paging} paging: smaller ones are asked for, and all comes out`, async () => {
        const done = await exportFrom({ tooMuch: { above: 7, as }, paging }, { retrySeconds: 20 });
        assert.deepEqual([done.code, done.report.error, done.report.exact], [0, undefined, true], done.told);
        assert.deepEqual(done.keys, all);
      });
});
