import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import type { Task } from "../../src/contracts.ts";
import { readAll, storage } from "../sink/stores.ts";
import type { Fault } from "../sources/faults.ts";
import { type Source, startSource } from "../sources/server.ts";
import { Export, linesOf } from "./harness.ts";

const { place } = storage();
const types = ["Encounter", "Observation", "Patient"];
let source: Source;
let all: Map<string, string>;
before(async () => {
  source = await startSource({ scale: 0.1 });
  all = new Map([...source.dump()].map(([key, line]) => [key, line.toString()]));
});
after(() => source.close());
afterEach(() => source.clearFaults());

/** Runs an export whose source answers a part of the requests by a status, always. */
async function exportFrom(faults: Fault[], change: Partial<Task["export"]> = {}) {
  source.inject(...faults);
  const where = await place("directory");
  const from = source.requests.length;
  const done = await new Export(where, source.baseURL, { export: { types, ...change } }).all();
  const requests = source.requests.length - from;
  if (done.code !== 0) return { ...done, lines: new Map<string, string>(), told: "", requests };
  const store = await where.open();
  const { manifest, lines, doubled } = await linesOf(store);
  assert.deepEqual(doubled, []);
  const told: string[] = [];
  for (const { path } of manifest.error) told.push((await readAll(store, path))!.toString());
  return { ...done, lines, told: told.join(""), requests };
}

const always = { times: "always" } as const;
const wantedOf = (...some: string[]) =>
  [...all.keys()].filter((key) => some.some((type) => key.startsWith(`${type}/`))).sort();

/** What an export can do without, as a part of the request. */
const probes = ["_summary=count", "_lastUpdated=", "_sort=", "_history", "_elements="];
const statuses = [403, 404, 422, 500, 501, 504];

describe("what the source refuses to all requests of a kind, the export does without", () => {
  for (const match of probes)
    for (const status of statuses)
      test(`${match} is answered by ${status}`, async () => {
        const change = match === "_elements=" ? { elements: ["id", "meta", "status", "gender"] } : {};
        const done = await exportFrom([{ kind: "status", status, match, ...always }], change);
        assert.deepEqual([done.code, done.report.error], [0, undefined]);
        assert.deepEqual([...done.lines.keys()].sort(), wantedOf(...types));
        assert.equal(done.told === "", done.report.exact, done.told);
      });
});

describe("what the source refuses to one type, the export of all others does not miss", () => {
  for (const [type, statuses] of [
    ["Encounter", [401, 403]],
    ["Observation", [400, 401, 403, 404, 422, 500, 501]],
    ["Patient", [403, 500]],
  ] as const)
    for (const status of statuses)
      test(`all searches of ${type} are answered by ${status}`, async () => {
        const done = await exportFrom([{ kind: "status", status, match: `/${type}`, ...always }]);
        // Nothing has worked before the first type that is asked for: then wrong credentials are all that is known.
        if (status === 401 && done.code !== 0) return assert.equal(done.report.error!.reason, "SourceUnauthorized");
        assert.deepEqual([done.code, done.report.error, done.report.exact], [0, undefined, false]);
        assert.deepEqual([...done.lines.keys()].sort(), wantedOf(...types.filter((one) => one !== type)));
        assert(done.report.totals!.errors > 0);
        assert.match(done.told, new RegExp(`No resource of ${type} is exported: .*${status}`));
      });

  for (const match of ["_sort=", "_summary=count", "_lastUpdated="])
    test(`Observation alone is refused ${match}`, async () => {
      const done = await exportFrom([{ kind: "status", status: 400, match: ["/Observation", match], ...always }]);
      assert.deepEqual([done.code, done.report.error], [0, undefined]);
      assert.deepEqual([...done.lines.keys()].sort(), wantedOf(...types));
    });

  test("with onResourceError: Fail it ends the export, and says what to mend", async () => {
    const faults: Fault[] = [{ kind: "status", status: 403, match: "/Observation", ...always }];
    const done = await exportFrom(faults, { onResourceError: "Fail" });
    assert.deepEqual([done.code, done.report.error?.reason], [64, "SourceUnauthorized"]);
    assert.match(done.report.error!.message, /searches of Observation \(403\).*spec\.auth.*spec\.types/);
  });

  test("where no type can be read there is nothing to export", async () => {
    const done = await exportFrom(types.map((type) => ({ kind: "status", status: 403, match: `/${type}`, ...always })));
    assert.deepEqual([done.code, done.report.error?.reason], [64, "SourceUnauthorized"]);
  });
});
