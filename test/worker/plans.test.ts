import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import type { Plan, Task } from "../../src/contracts.ts";
import { storage } from "../sink/stores.ts";
import { expected } from "../sources/expected.ts";
import type { Behaviour, Fault } from "../sources/faults.ts";
import { generate, type SampleResource } from "../sources/generator.ts";
import { type Source, startSource } from "../sources/server.ts";
import { Export, linesOf } from "./harness.ts";

const { place } = storage();
const types = ["Patient", "Observation", "Group", "Encounter"];
const sample = generate().filter(({ type }) => types.includes(type));

/** The sample, with 1,600 Observations in one millisecond, as a transaction leaves them. */
const tied = (() => {
  const [first, ...others] = sample.filter(({ type }) => type === "Observation");
  const at = first!.lastUpdated;
  const withTime = (one: SampleResource): SampleResource => ({
    ...one,
    lastUpdated: at,
    text: one.text.replace(/"lastUpdated":( ?)"[^"]+"/, `"lastUpdated":$1"${new Date(at).toISOString()}"`),
  });
  return [
    ...sample.filter(({ type }) => type !== "Observation"),
    ...[first!, ...others].map((one, n) => (n < 1600 ? withTime(one) : one)),
  ];
})();
/** The sample, with every fifth Observation without meta.lastUpdated. */
const undated = sample.map((one, n) =>
  n % 5 !== 2 || one.type !== "Observation"
    ? one
    : { ...one, lastUpdated: Number.NEGATIVE_INFINITY, text: one.text.replace(/"lastUpdated": ?"[^"]+", ?/, "") },
);

let sources: { sample: Source; tied: Source; undated: Source };
before(async () => {
  let calls = 0;
  const [first, second, third] = await Promise.all(
    // the plan waits for the next second of the source's clock, so this clock is a second later at each call
    [sample, tied, undated].map((resources) => startSource({ resources, now: () => Date.now() + calls++ * 1000 })),
  );
  sources = { sample: first!, tied: second!, undated: third! };
});
after(() => Promise.all(Object.values(sources).map((source) => source.close())));

const normal: Behaviour = {
  paging: "cursor",
  maxCount: 250,
  unknownParameters: "reject",
  ignore: [],
  ignoreButRepeat: false,
  noCount: false,
  alwaysTotal: false,
  refuse: [],
  findNothing: [],
  lastOnly: false,
  windowDelay: 0,
  unstableOrder: false,
  precision: { ms: 1 },
  poison: { ids: [], as: 500 },
};
afterEach(() => {
  for (const source of Object.values(sources)) {
    source.set(normal);
    source.clearFaults();
  }
});

/** `since` and `until` right at two Observations, which both are inside. They are no whole seconds. */
const between = (() => {
  const times = sample
    .filter(({ type, lastUpdated }) => type === "Observation" && lastUpdated % 1000 > 500)
    .map(({ lastUpdated }) => lastUpdated);
  const [since, last] = [times[Math.floor(times.length / 4)]!, times[Math.floor((3 * times.length) / 4)]!];
  return { since: new Date(since).toISOString(), until: new Date(last + 1).toISOString() };
})();
const noWindows = { windows: false };

/** Kinds of sources, and what the plan makes of them (docs/internals/exactness.md#what-the-planner-finds-out). Rows of
 *  servers.test.ts are not repeated here. */
const cases: {
  name: string;
  of?: "tied" | "undated";
  behaviour?: Behaviour;
  export?: Partial<Task["export"]>;
  source?: Partial<Task["source"]>;
  plan: Partial<Plan["source"]>;
  /** how many shards Observation has: at least, or exactly */
  shards?: { least: number } | number;
  /** faults of pages that are read for the export */
  faults?: Fault[];
}[] = [
  {
    name: "a server that does all that it should",
    plan: { windows: true, counts: true, sort: true },
    shards: { least: 8 },
  },
  { name: "_lastUpdated refused", behaviour: { refuse: ["_lastUpdated"] }, plan: noWindows, shards: 1 },
  ...(["noNext", "shortPage"] as const).map((kind) => ({
    name: `_lastUpdated refused, and one page is wrong (${kind})`,
    behaviour: { refuse: ["_lastUpdated"] },
    plan: noWindows,
    shards: 1,
    faults: [{ kind, match: "Observation?_cursor", skip: 5 }],
  })),
  {
    name: "_lastUpdated refused, since and until",
    behaviour: { refuse: ["_lastUpdated"] },
    export: between,
    plan: noWindows,
    shards: 1,
  },
  {
    name: "searches by _lastUpdated find nothing",
    behaviour: { findNothing: ["_lastUpdated"] },
    plan: noWindows,
    shards: 1,
  },
  {
    name: "searches by _lastUpdated find nothing, and there are no counts",
    behaviour: { findNothing: ["_lastUpdated"], noCount: true },
    plan: { windows: false, counts: false },
    shards: 1,
  },
  {
    name: "_lastUpdated refused, and no counts",
    behaviour: { refuse: ["_lastUpdated"], noCount: true },
    plan: { windows: false, counts: false },
    shards: 1,
  },
  {
    name: "_summary ignored, pages with a total",
    behaviour: { noCount: true, alwaysTotal: true },
    plan: { windows: true, counts: true },
    shards: { least: 8 },
  },
  { name: "_summary refused", behaviour: { refuse: ["_summary"] }, plan: { counts: false }, shards: 1 },
  {
    name: "_sort refused",
    behaviour: { refuse: ["_sort"], paging: "offset" },
    plan: { windows: true, sort: false },
    shards: { least: 8 },
  },
  { name: "_sort ignored", behaviour: { ignore: ["_sort"] }, plan: { windows: true }, shards: { least: 8 } },
  {
    name: "another order at each search, offset paging",
    behaviour: { unstableOrder: true },
    plan: { windows: true, sort: false },
  },
  { name: "_count ignored", behaviour: { ignore: ["_count"] }, plan: { windows: true }, shards: { least: 8 } },
  { name: "all parameters but _count ignored", behaviour: { ignore: "all" }, plan: { windows: false }, shards: 1 },
  {
    name: "all parameters but _count ignored, but repeated in the self link",
    behaviour: { ignore: "all", ignoreButRepeat: true },
    plan: { windows: false },
    shards: 1,
  },
  {
    name: "unknown parameters ignored in spite of handling=strict, level Patient",
    behaviour: { unknownParameters: "ignore", ignore: ["_elements"] },
    export: { level: "Patient" },
    plan: { windows: true },
  },
  {
    name: "of two bounds only the last counts",
    behaviour: { lastOnly: true },
    plan: { windows: true },
    shards: 1,
  },
  {
    name: "of two bounds only the last counts, since and until",
    behaviour: { lastOnly: true },
    export: between,
    plan: {},
    shards: 1,
  },
  ...[false, true].flatMap((nearest) =>
    [{}, between].map((bounds) => ({
      name: `an index of whole seconds, rounded ${nearest ? "to the nearest" : "down"}${"since" in bounds ? ", since and until" : ""}`,
      behaviour: { precision: { ms: 1000, nearest } },
      export: bounds,
      plan: { windows: !nearest },
      shards: nearest ? 1 : { least: 3 },
    })),
  ),
  {
    name: "an index of whole days, since and until",
    behaviour: { precision: { ms: 86_400_000 } },
    export: between,
    plan: { windows: false },
    shards: 1,
  },
  {
    name: "an index of whole seconds, no counts, since and until",
    behaviour: { precision: { ms: 1000 }, noCount: true },
    export: between,
    plan: { windows: true, counts: false },
    shards: 1,
  },
  ...[{}, between].map((bounds) => ({
    name: `windows cost 500 ms more a page${"since" in bounds ? ", since and until" : ""}`,
    behaviour: { windowDelay: 500 },
    export: bounds,
    // pages are timed only of types that have 40 of them
    source: { count: 25 },
    plan: { windows: true, counts: true },
    shards: 1,
  })),
  {
    name: "windows cost 500 ms more a page, since and until, and one page is wrong",
    behaviour: { windowDelay: 500 },
    export: between,
    source: { count: 25 },
    plan: { windows: true, counts: true },
    shards: 1,
    // the plan itself reads three such pages
    faults: [{ kind: "shortPage", missing: 9, match: "Observation?_cursor", skip: 16 }],
  },
  { name: "1,600 in a millisecond", of: "tied", plan: { windows: true }, shards: { least: 5 } },
  {
    name: "1,600 in a millisecond, offset paging",
    of: "tied",
    behaviour: { paging: "offset" },
    plan: { windows: true },
    shards: { least: 5 },
  },
  {
    name: "1,600 in a millisecond, no order",
    of: "tied",
    behaviour: { refuse: ["_sort"], unstableOrder: true },
    plan: { sort: false },
  },
  { name: "resources without meta.lastUpdated", of: "undated", plan: { counts: true }, shards: 1 },
  {
    name: "resources without meta.lastUpdated, since and until",
    of: "undated",
    export: between,
    plan: { counts: true },
    shards: 1,
  },
  {
    name: "resources without meta.lastUpdated, no counts",
    of: "undated",
    behaviour: { noCount: true },
    plan: { counts: false },
    shards: 1,
  },
  {
    name: "resources without meta.lastUpdated, no counts, since and until",
    of: "undated",
    behaviour: { noCount: true },
    export: between,
    plan: { counts: false },
    shards: 1,
  },
];

describe("sources of all kinds: each resource is exported once", () => {
  for (const {
    name,
    of = "sample",
    behaviour,
    export: parameters,
    source: change,
    plan: wantedPlan,
    shards,
    faults = [],
  } of cases)
    test(name, async () => {
      const source = sources[of];
      source.set({ ...normal, ...behaviour });
      source.inject(...faults);
      const where = await place("directory");
      const done = await new Export(where, source.baseURL, {
        export: { types, ...parameters },
        source: { count: 200, ...change },
      }).all();
      assert.deepEqual([done.code, done.report.error, done.report.exact], [0, undefined, true]);
      const store = await where.open();
      const plan = JSON.parse((await store.read("_work/plan.json"))!.bytes.toString()) as Plan;
      assert.deepEqual({ ...plan.source, ...wantedPlan }, plan.source);
      const made = plan.shards.filter(({ type }) => type === "Observation").length;
      if (typeof shards === "number") assert.equal(made, shards);
      else assert(made >= (shards?.least ?? 1), `${made} shards`);
      const { lines, doubled } = await linesOf(store);
      assert.deepEqual(doubled, []);
      const { since, until, level = "System" } = parameters ?? {};
      // a resource without a time cannot be proven to be outside
      const timed = expected(source, { types, level, since, until });
      const wanted = new Map(
        [...source.dump()].filter(([key, line]) => timed.has(key) || !line.includes('"lastUpdated"')),
      );
      assert(wanted.size > 500);
      assert.deepEqual([...lines.keys()].sort(), [...wanted.keys()].sort());
      for (const [key, line] of wanted) assert.equal(lines.get(key), line.toString());
    });

  test("a resource that cannot be read, on the first page of the first type: the next type shows what the source can do", async () => {
    const source = sources.sample;
    const newest = sample.filter(({ type }) => type === "Encounter").at(-1)!.id;
    const oldest = sample.find(({ type }) => type === "Encounter")!.id;
    source.set({ ...normal, poison: { ids: [newest, oldest], as: 500 } });
    const where = await place("directory");
    const exported = new Export(where, source.baseURL, { export: { types }, source: { retrySeconds: 20 } });
    assert.equal((await exported.run("plan")).code, 0);
    const plan = JSON.parse((await (await where.open()).read("_work/plan.json"))!.bytes.toString()) as Plan;
    assert.deepEqual([plan.source.windows, plan.source.counts, plan.source.sort], [true, true, true]);
  });
});
