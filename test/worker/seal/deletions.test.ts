import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, describe, test } from "node:test";
import fc from "fast-check";
import type { Cohort } from "../../../src/cohort.ts";
import type { Task } from "../../../src/contracts.ts";
import { SourceClient } from "../../../src/fhir/client.ts";
import { PatientCompartment } from "../../../src/fhir/compartment.ts";
import { ServerNames } from "../../../src/fhir/references.ts";
import { listedAt, readDeleted, renderDeleted } from "../../../src/worker/seal/deletions.ts";
import type { Behaviour } from "../../sources/faults.ts";
import { type Source, startSource } from "../../sources/server.ts";

const start = Date.UTC(2026, 0, 1);
const instant = (at: number) => new Date(start + at).toISOString();

/** A write to an Observation: from then on it refers to this patient, or without one it is deleted. */
interface Write {
  at: number;
  id: string;
  patient?: string;
}

/** The ids that must be listed, computed from the writes, one resource after the other. */
function wanted(writes: Write[], since: number, till: number, patients: ReadonlySet<string> | undefined): string[] {
  const ids = new Set(writes.map(({ id }) => id));
  return [...ids]
    .filter((id) => {
      const before = writes.filter((write) => write.id === id && write.at < till);
      const last = before.at(-1);
      if (!last || last.patient !== undefined || last.at < since) return false;
      return !patients || patients.has(before.at(-2)!.patient!);
    })
    .sort();
}

describe("deletions", () => {
  let source: Source;
  let now = 0;
  before(async () => {
    source = await startSource({ scale: 0.05, now: () => start + now });
  });
  after(() => source.close());

  /** Applies writes under ids of this test only, since the source keeps the writes of other tests.
   *  @returns a function that picks the ids of this test, without their prefix */
  let prefix = 0;
  const versions = new Map<string, number>();
  function apply(writes: Write[]): (ids: string[]) => string[] {
    const own = `t${++prefix}-`;
    // The clock of the source does not go back.
    const from = now;
    for (const { at, id, patient } of writes) {
      now = from + at;
      const version = (versions.get(own + id) ?? 0) + 1;
      versions.set(own + id, version);
      times.set(`Observation/${own}${id} W/"${version}"`, instant(now));
      if (patient === undefined) source.delete("Observation", own + id);
      else source.put(`{"resourceType":"Observation","id":"${own}${id}","subject":{"reference":"${patient}"}}`);
    }
    return (ids) => ids.filter((id) => id.startsWith(own)).map((id) => id.slice(own.length));
  }

  interface Case {
    baseURL?: string;
    export?: Partial<Task["export"]>;
    cohort?: Cohort;
    type?: string;
    history?: boolean;
    plan?: { typeHistory?: boolean; instanceHistory?: boolean; count?: number };
  }
  async function read(
    since: number,
    till: number,
    { baseURL = source.baseURL, cohort, type = "Observation", ...given }: Case = {},
  ) {
    const task = {
      export: { level: "System", ...given.export },
      source: {
        baseURL,
        auth: { kind: "none" },
        history: given.history ?? true,
        retrySeconds: 1,
        share: { requests: 4 },
      },
    } as Task;
    const client = new SourceClient(task.source, "/nowhere", new AbortController().signal);
    try {
      const plan = {
        windows: true,
        counts: true,
        sort: true,
        typeHistory: true,
        instanceHistory: true,
        count: 3,
        ...given.plan,
      };
      const isListed = listedAt(task.export, cohort, type, new PatientCompartment("R4", new ServerNames(client.base)));
      return await readDeleted(
        { work: { source: client, task }, plan: { source: plan } },
        type,
        { since: instant(since), till: instant(till) },
        isListed,
      );
    } finally {
      await client.close();
    }
  }

  const anyWrites = fc
    .array(
      fc.record({
        after: fc.integer({ min: 0, max: 2 }),
        id: fc.constantFrom("a", "b", "c", "d"),
        patient: fc.option(fc.constantFrom("Patient/x", "Patient/y", "Device/z"), { nil: undefined, freq: 2 }),
      }),
      { minLength: 1, maxLength: 25 },
    )
    .map((steps) => {
      const alive = new Set<string>();
      const writes: Write[] = [];
      let at = 1;
      for (const { after, id, patient } of steps) {
        at += after;
        if (patient === undefined && !alive.delete(id)) continue;
        if (patient !== undefined) alive.add(id);
        writes.push(patient === undefined ? { at, id } : { at, id, patient });
      }
      return writes;
    });

  for (const level of ["System", "Patient", "Group"] as const)
    for (const kind of ["as HAPI gives them", "with times"] as const)
      test(`property: level ${level}, deletions ${kind}`, async () => {
        const timed = await proxy(source, addTimes);
        const patients = {
          System: undefined,
          Patient: new Set(["Patient/x", "Patient/y"]),
          Group: new Set(["Patient/x"]),
        }[level];
        const cohort: Cohort | undefined =
          level === "Group" ? { v: 1, uid: "u", patients: ["x"], groups: ["g"] } : undefined;
        try {
          await fc.assert(
            fc.asyncProperty(
              anyWrites,
              fc.integer({ min: 0, max: 30 }),
              fc.integer({ min: 1, max: 30 }),
              async (writes, since, length) => {
                now += 1000;
                const from = now;
                const own = apply(writes);
                const { ids, notices } = await read(from + since, from + since + length, {
                  ...(kind === "with times" && { baseURL: timed.baseURL }),
                  export: { level },
                  ...(cohort && { cohort }),
                });
                assert.deepEqual(own(ids), wanted(writes, since, since + length, patients));
                assert.equal(own(ids).length, ids.length, "others were deleted at other times");
                assert.deepEqual(notices, []);
              },
            ),
            { numRuns: 60 },
          );
        } finally {
          await timed.close();
        }
      });

  test("a Patient is in its own compartment, and a member of the cohort is listed even if no history tells its last version", async () => {
    const from = (now += 1000);
    for (const id of ["p1", "p2"]) source.put(`{"resourceType":"Patient","id":"${id}"}`);
    source.put('{"resourceType":"Patient","id":"p3","link":[{"other":{"reference":"Patient/p1"}}]}');
    now += 10;
    for (const id of ["p1", "p2", "p3"]) source.delete("Patient", id);
    const ids = async (given: Case) => (await read(from + 5, from + 20, { type: "Patient", ...given })).ids;
    assert.deepEqual(await ids({ export: { level: "Patient" }, plan: { instanceHistory: false } }), ["p1", "p2", "p3"]);
    const cohort: Cohort = { v: 1, uid: "u", patients: ["p1"], groups: [] };
    assert.deepEqual(await ids({ export: { level: "Patient" }, cohort }), ["p1", "p3"]);
    assert.deepEqual(await ids({ export: { level: "Group" }, cohort, plan: { instanceHistory: false } }), ["p1"]);
  });

  test("other Groups of a member are not listed", async () => {
    const from = (now += 1000);
    for (const id of ["g1", "g2"])
      source.put(`{"resourceType":"Group","id":"${id}","member":[{"entity":{"reference":"Patient/x"}}]}`);
    now += 10;
    for (const id of ["g1", "g2"]) source.delete("Group", id);
    const cohort: Cohort = { v: 1, uid: "u", patients: ["x"], groups: ["g1"] };
    assert.deepEqual((await read(from + 5, from + 20, { type: "Group", export: { level: "Group" }, cohort })).ids, [
      "g1",
    ]);
  });

  describe("deletions that cannot be told are not listed, and a notice says so", () => {
    const writes: Write[] = [
      { at: 1, id: "old", patient: "Patient/x" },
      { at: 10, id: "old" },
      { at: 11, id: "other", patient: "Patient/x" },
      { at: 12, id: "kept", patient: "Patient/x" },
      { at: 30, id: "other" },
    ];
    const cases: [
      name: string,
      given: Case & { behaviour?: Behaviour; change?: Change },
      ids: string[],
      notice: RegExp | undefined,
    ][] = [
      ["everything can be told", {}, ["old"], undefined],
      ["spec.history is None", { history: false }, [], /Observation cannot be told: spec\.history/],
      ["the source has no history of types", { plan: { typeHistory: false } }, [], /no history of types/],
      [
        "the source refuses the history of this type",
        { behaviour: { noTypeHistory: true } },
        [],
        /refuses the history of this type/,
      ],
      [
        "deletions have no version",
        { change: (bundle) => eachEntry(bundle, ({ response }) => delete response.etag) },
        ["old"],
        /^1 deletions/,
      ],
      [
        "the history is oldest first",
        { change: (bundle) => ({ ...bundle, entry: bundle.entry?.reverse() }), plan: { count: 250 } },
        [],
        /begin with what is newest/,
      ],
      [
        "_since is ignored: the last deletion may be older than transactionTime or not",
        { change: (bundle: unknown) => bundle, ignoreSince: true } as Case,
        ["old"],
        /^1 deletions of Observation are not listed: whether they are older than transactionTime cannot be told\.$/,
      ],
      [
        "level Patient, and the source refuses histories of resources",
        { export: { level: "Patient" }, behaviour: { noInstanceHistory: true } },
        [],
        /^1 deletions of Observation are not listed: in whose compartment the resources were cannot be told\.$/,
      ],
      [
        "level Patient, and the source says that it has no histories of resources",
        { export: { level: "Patient" }, plan: { instanceHistory: false } },
        [],
        /^1 deletions .* compartment/,
      ],
      [
        "a filter of this type",
        { export: { typeFilters: ["Observation?code=1"] } },
        ["old"],
        /filters cannot be asked/,
      ],
      ["a filter of another type", { export: { typeFilters: ["Patient?gender=male"] } }, ["old"], undefined],
      [
        "versions have no time",
        {
          change: (bundle) =>
            eachEntry(bundle, ({ resource, response }) => {
              delete resource?.meta;
              delete response.lastModified;
            }),
        },
        ["old"],
        /without meta\.lastUpdated/,
      ],
    ];
    for (const [name, { behaviour, change, ...given }, ids, notice] of cases)
      test(name, async () => {
        now += 1000;
        const from = now;
        const own = apply(writes);
        const between = change && (await proxy(source, change, (given as { ignoreSince?: boolean }).ignoreSince));
        if (behaviour) source.set(behaviour);
        try {
          const found = await read(from + 5, from + 20, { ...given, ...(between && { baseURL: between.baseURL }) });
          assert.deepEqual(own(found.ids), ids);
          assert.deepEqual(found.notices.length, notice ? 1 : 0, found.notices.join());
          if (notice) assert.match(found.notices[0]!, notice);
          assert.doesNotMatch(found.notices.join(), /t\d+-/, "no ids");
        } finally {
          source.set({ noTypeHistory: false, noInstanceHistory: false });
          await between?.close();
        }
      });
  });

  test("entries of other types are not taken for deletions of the type", async () => {
    const from = (now += 1000);
    const strange = [
      { fullUrl: "urn:uuid:1", request: { method: "DELETE", url: "Patient/1" }, response: {} },
      { request: { method: "DELETE", url: "Observation?code=x" }, response: {} },
      {
        request: { method: "DELETE", url: "Observation?code=x" },
        fullUrl: `${source.baseURL}/Observation/right`,
        response: {},
      },
      { request: { method: "PUT", url: "x" }, resource: { resourceType: "Patient", id: "2" }, response: {} },
    ];
    const between = await proxy(source, (bundle, url) => ({
      ...bundle,
      entry: url.includes(`_since=${encodeURIComponent(instant(from))}`) ? strange : [],
    }));
    const found = await read(from, from + 20, { baseURL: between.baseURL });
    await between.close();
    assert.deepEqual(found, { ids: ["right"], notices: [] });
  });
});

describe("the lines of a file of deletions", () => {
  test("are transaction Bundles of at most 500 deletions", () => {
    const ids = Array.from({ length: 1001 }, (_, n) => `id-${n}`);
    const bundles = renderDeleted("Patient", ids).map(
      (line) => JSON.parse(line.toString()) as { entry: { request: object }[] },
    );
    assert.deepEqual(
      bundles.map(({ entry, ...rest }) => [entry.length, rest]),
      [500, 500, 1].map((length) => [length, { resourceType: "Bundle", type: "transaction" }]),
    );
    assert.deepEqual(
      bundles.flatMap(({ entry }) => entry),
      ids.map((id) => ({ request: { method: "DELETE", url: `Patient/${id}` } })),
    );
    assert.equal(
      renderDeleted("Patient", ["1"]).join(),
      '{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"DELETE","url":"Patient/1"}}]}',
    );
    assert.deepEqual(renderDeleted("Patient", []), []);
  });
});

// biome-ignore lint/suspicious/noExplicitAny: a server may send anything
type Sent = any;
type Change = (bundle: Sent, url: string) => Sent;

function eachEntry(bundle: Sent, change: (entry: Sent) => unknown): Sent {
  for (const entry of bundle.entry ?? []) change(entry);
  return bundle;
}

/** When each version that a test has made was written: `Type/id etag` -> instant */
const times = new Map<string, string>();
/** Gives deletions the time that HAPI, and so the sample source, leaves out. */
const addTimes: Change = (bundle) =>
  eachEntry(bundle, ({ request, response }) => {
    if (request.method === "DELETE") response.lastModified = times.get(`${request.url} ${response.etag}`);
  });

/** A server in front of the source that changes its answers. */
async function proxy(
  source: Source,
  change: Change,
  ignoreSince = false,
): Promise<{ baseURL: string; close(): Promise<void> }> {
  const origin = new URL(source.baseURL).origin;
  const server = createServer(async (request, response) => {
    const url = ignoreSince ? request.url!.replace(/_since=[^&]*&/, "") : request.url!;
    const answer = await fetch(origin + url);
    const text = await answer.text();
    const changed = answer.ok ? JSON.stringify(change(JSON.parse(text), request.url!)) : text;
    response.writeHead(answer.status, { "content-type": "application/fhir+json" }).end(changed.replaceAll(origin, own));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const own = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    baseURL: source.baseURL.replace(origin, own),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
