import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import type { Plan } from "../../src/contracts.ts";
import { planPath } from "../../src/sink/layout.ts";
import { readAll, storage } from "../sink/stores.ts";
import { expected } from "../sources/expected.ts";
import type { Behaviour, Fault } from "../sources/faults.ts";
import { type Source, startSource } from "../sources/server.ts";
import { Export, linesOf } from "./harness.ts";
import { whileWritten } from "./written.ts";

const { place } = storage();
let source: Source;
let all: string[];
before(async () => {
  source = await startSource();
  all = [...source.dump("Observation").keys()].sort();
});
after(() => source.close());
afterEach(() => {
  source.set({ noCount: false, alwaysTotal: false, ignore: [] });
  source.clearFaults();
});

/** Sources that do not keep to what they say, and do not come round: told, never silently wrong. The export has one
 *  chain. */
const cases: {
  name: string;
  faults: Fault[];
  behaviour?: Behaviour;
  exact: boolean;
  errors?: number;
  /** how many resources are missing of each window; -1: some */
  missing?: number;
  says?: RegExp;
}[] = [
  { name: "pages that hold each resource twice", faults: [{ kind: "doubled", times: "always" }], exact: true },
  {
    name: "pages that begin with resources of the page before",
    faults: [{ kind: "overlap", times: "always" }],
    exact: true,
  },
  {
    name: "a page that always lacks entries: smaller parts of the window have no such page",
    faults: [{ kind: "shortPage", missing: 3, times: "always", match: "&_sort=" }],
    exact: true,
  },
  {
    name: "a page that always lacks entries, of a source that does not count: its pages say a total",
    behaviour: { noCount: true },
    faults: [{ kind: "shortPage", missing: 3, times: "always", match: "_sort=" }],
    exact: true,
  },
  {
    name: "pages without their next link: small parts of the window have only one page",
    faults: [{ kind: "noNext", times: "always", match: "&_sort=" }],
    exact: true,
  },
  {
    name: "pages without their next link, of a source that keeps no windows: all behind them is missing",
    behaviour: { ignore: ["_lastUpdated"] },
    faults: [{ kind: "noNext", times: "always", match: "_sort=" }],
    exact: false,
    missing: -1,
    says: /counts more resources of Observation/,
  },
  {
    name: "next links that repeat where an order is asked for: nothing is missing without the order",
    faults: [{ kind: "repeatNext", times: "always", match: "&_sort=" }],
    exact: true,
  },
  {
    name: "next links that repeat: all behind them is missing",
    faults: [{ kind: "repeatNext", times: "always", match: "_count=250" }],
    exact: false,
    errors: 1,
    missing: -1,
    says: /A search of Observation from .* cannot be read: a next link of the source repeats/,
  },
  {
    name: "pages without their next link, of a source that neither counts nor keeps windows",
    behaviour: { ignore: ["_lastUpdated"], noCount: true },
    faults: [{ kind: "noNext", times: "always", match: "_sort=" }],
    exact: false,
    missing: -1,
    says: /shows all resources of Observation in the window of shard Observation-0001 cannot be proven/,
  },
  {
    name: "a page that always holds a resource of another type",
    faults: [{ kind: "wrongType", times: "always", match: "&_sort=" }],
    exact: false,
    errors: 1,
    says: /answered with a resource of type Basic/,
  },
];

describe("sources that lie", () => {
  for (const { name, faults, behaviour, exact, errors = 0, missing = 0, says } of cases)
    test(name, async () => {
      const where = await place("directory");
      const exported = new Export(where, source.baseURL, {
        export: { types: ["Observation"] },
        source: { count: 250, share: { requests: 1 } },
        plan: { shardResources: 100_000 },
      });
      source.set(behaviour ?? {});
      assert.equal((await exported.run("plan")).code, 0);
      // While it was planned no page said a total: else the planner would take the source for one that counts.
      if (behaviour?.noCount && !behaviour.ignore) source.set({ alwaysTotal: true });
      source.inject(...faults);
      const done = await exported.all();
      assert.deepEqual([done.code, done.report.error, done.report.exact], [0, undefined, exact]);
      const { lines, doubled, manifest } = await linesOf(await where.open());
      assert.deepEqual(doubled, []);
      const { shards } = JSON.parse((await (await where.open()).read(planPath))!.bytes.toString()) as Plan;
      assert(shards.length > 1 || behaviour, "the type is cut into several windows");
      if (missing < 0) assert(lines.size > 0 && lines.size < all.length);
      else assert.equal(lines.size, all.length - missing * shards.length);
      assert.equal(done.report.totals!.errors > 0, errors > 0);
      const told: string[] = [];
      for (const { path } of manifest.error) told.push((await readAll(await where.open(), path))!.toString());
      if (says) assert.match(told.join(""), says);
      else assert.deepEqual(told, []);
    });
});

const exportWhileWritten = whileWritten();

/** Histories that are none, or not as FHIR has them, of sources that are written to while they are read. Only
 *  histories tell what was at transactionTime. */
const histories: {
  name: string;
  faults?: Fault[];
  behaviour?: Behaviour;
  exact: boolean;
}[] = [
  {
    name: "an OperationOutcome with status 200 instead of the history of a type",
    faults: [{ kind: "outcomeInstead", times: "always", match: "/Observation/_history" }],
    exact: false,
  },
  {
    name: "an OperationOutcome with status 200 instead of the second page of a type's history",
    faults: [{ kind: "outcomeInstead", times: "always", match: "_bundletype=history" }],
    exact: false,
  },
  {
    name: "an OperationOutcome with status 200 instead of the histories of resources",
    faults: [{ kind: "outcomeInstead", times: "always", match: "/_history?_since=1970" }],
    exact: false,
  },
  { name: "a search result instead of a history", behaviour: { historyType: "searchset" }, exact: false },
  { name: "histories that begin with the oldest version", behaviour: { oldestFirst: true }, exact: false },
  {
    name: "deletions whose entries hold what is left of the resource",
    behaviour: { deletionsHoldResources: true },
    exact: true,
  },
];

describe("histories that lie, of a source that is written to while it is read", () => {
  for (const { name, faults = [], behaviour = {}, exact } of histories)
    test(name, async () => {
      const types = ["Observation"];
      const { then, report, lines, doubled, told } = await exportWhileWritten(
        { paging: "offset", ...behaviour },
        { types },
        {
          shardResources: 700,
          scale: 0.2,
          // so that some resources have an older version, which must not come out either
          async prepare(source) {
            for (const [, line] of [...source.dump("Observation")].slice(0, 100)) source.put(line.toString());
            source.inject(...faults);
          },
        },
      );
      const wanted = expected({ dump: () => then }, { types });
      const missing = [...wanted.keys()].filter((key) => !lines.has(key));
      const other = [...wanted].filter(([key, line]) => lines.has(key) && lines.get(key) !== line.toString());
      const more = [...lines.keys()].filter((key) => !wanted.has(key));
      const found = { exact: report.exact, missing: missing.length, other: other.length, more: more.length, doubled };
      const whole = { missing: 0, other: 0, more: 0, doubled: [] };
      if (report.exact) assert.deepEqual(found, { exact: true, ...whole }, `of ${wanted.size} resources`);
      assert.equal(report.exact, exact, told);
      assert.equal(told === "", exact, told);
    });
});
