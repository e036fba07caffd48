import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import type { Task } from "../../src/contracts.ts";
import { storage } from "../sink/stores.ts";
import type { Behaviour, Fault } from "../sources/faults.ts";
import { type Source, startSource } from "../sources/server.ts";
import { Export, linesOf } from "./harness.ts";

const { place } = storage();
let source: Source;
before(async () => {
  source = await startSource();
});
after(() => source.close());

const normal: Behaviour = {
  paging: "cursor",
  maxCount: 250,
  gzip: false,
  pretty: false,
  linkHeader: false,
  linksLast: false,
  unknownParameters: "reject",
  ignore: [],
  ignoreButRepeat: false,
  noCount: false,
  alwaysTotal: false,
  refuseSort: false,
  unstableOrder: false,
  countError: 0,
  emptyPages: false,
};
afterEach(() => {
  source.set(normal);
  source.clearFaults();
});

/** What real FHIR servers do differently from the sample source. */
const cases: {
  name: string;
  behaviour?: Behaviour;
  faults?: Fault[];
  export?: Partial<Task["export"]>;
  source?: Partial<Task["source"]>;
  pretty?: boolean;
}[] = [
  { name: "offset paging", behaviour: { paging: "offset" } },
  { name: "paging over a snapshot of each search", behaviour: { paging: "snapshot" } },
  { name: "pretty pages, links behind the entries", behaviour: { pretty: true, linksLast: true }, pretty: true },
  { name: "gzip", behaviour: { gzip: true } },
  { name: "pages smaller than asked for", behaviour: { maxCount: 37 }, source: { count: 1000 } },
  { name: "no counts", behaviour: { noCount: true } },
  {
    name: "no counts, since and until",
    behaviour: { noCount: true },
    export: { since: "2021-01-01T00:00:00.000Z", until: "2023-06-01T00:00:00.000Z" },
  },
  { name: "no order, as _sort is refused", behaviour: { refuseSort: true } },
  { name: "another order at each search", behaviour: { unstableOrder: true } },
  { name: "_lastUpdated is ignored silently", behaviour: { ignore: ["_lastUpdated"] } },
  {
    name: "_lastUpdated is ignored silently, and the worker keeps since and until",
    behaviour: { ignore: ["_lastUpdated"] },
    export: { since: "2021-01-01T00:00:00.000Z", until: "2023-06-01T00:00:00.000Z" },
  },
  {
    name: "_lastUpdated is ignored, but repeated in the self link",
    behaviour: { ignore: ["_lastUpdated"], ignoreButRepeat: true },
  },
  { name: "unknown parameters are ignored", behaviour: { unknownParameters: "ignore" } },
  { name: "entries of mode outcome among the data", faults: [{ kind: "outcome", times: "always" }] },
  {
    name: "429 with Retry-After, 503, dropped and cut pages now and then",
    source: { retrySeconds: 20 },
    faults: [
      { kind: "status", status: 429, retryAfter: 1, skip: 20, times: 2 },
      { kind: "status", status: 503, skip: 40, times: 2 },
      { kind: "drop", skip: 60, times: 2 },
      { kind: "cut", skip: 70, times: 2, match: "&_sort=" },
      { kind: "cut", clean: true, skip: 72, times: 2, match: "&_sort=" },
    ],
  },
  { name: "next links that expire", faults: [{ kind: "expired", skip: 25, times: 1 }] },
  {
    name: "a page that lacks three of its resources, once",
    faults: [{ kind: "shortPage", missing: 3, skip: 12, times: 1, match: "&_sort=" }],
  },
  {
    name: "a page without its next link, once",
    faults: [{ kind: "noNext", skip: 14, times: 1, match: "&_sort=" }],
  },
  { name: "an empty page before each page", behaviour: { emptyPages: true } },
  { name: "next links in the Link header", behaviour: { linkHeader: true } },
  { name: "counts that are estimates", behaviour: { countError: 3 } },
];

describe("servers of all kinds give the same lines", () => {
  for (const { name, behaviour, faults, export: parameters, source: change, pretty } of cases)
    test(name, async () => {
      source.set({ ...normal, ...behaviour });
      source.inject(...(faults ?? []));
      const where = await place("directory");
      const done = await new Export(where, source.baseURL, {
        export: { types: ["Patient", "Observation", "Group", "Encounter"], ...parameters },
        source: { ...change },
      }).all();
      assert.deepEqual([done.code, done.report.error, done.report.exact], [0, undefined, true]);
      const { lines, doubled } = await linesOf(await where.open());
      assert.deepEqual(doubled, []);
      const updated = (line: Buffer) =>
        Date.parse(
          (JSON.parse(line.toString()) as { meta: { lastUpdated: string } }).meta.lastUpdated.replace(
            /(\.\d{3})\d+/,
            "$1",
          ),
        );
      const [since, until] = [parameters?.since, parameters?.until].map((at) =>
        at === undefined ? undefined : Date.parse(at),
      );
      const wanted = new Map(
        [...source.dump()]
          .filter(([key]) => /^(Patient|Observation|Group|Encounter)\//.test(key))
          .filter(
            ([, line]) =>
              (since === undefined || updated(line) >= since) && (until === undefined || updated(line) < until),
          ),
      );
      assert(wanted.size > 500);
      assert.deepEqual([...lines.keys()].sort(), [...wanted.keys()].sort());
      // white space outside of strings does not count, because the sample's own texts have it as well
      const squeeze = (text: string) => text.replace(/("(?:[^"\\]|\\.)*")|\s+/g, "$1");
      for (const [key, line] of wanted)
        assert.equal(lines.get(key), pretty ? squeeze(line.toString()) : line.toString());
    });
});
