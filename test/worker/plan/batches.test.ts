import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { Plan, Task } from "../../../src/contracts.ts";
import { planPath } from "../../../src/sink/layout.ts";
import { storage } from "../../sink/stores.ts";
import type { Logged } from "../../sources/exchange.ts";
import { expected } from "../../sources/expected.ts";
import type { Behaviour } from "../../sources/faults.ts";
import { type Source, startSource } from "../../sources/server.ts";
import { Export, linesOf } from "../harness.ts";

const { place } = storage();
const alias = "https://records.example/fhir";

/** A source that takes only GETs of up to 700 bytes. Batches then have 5 ids, so the ward's ten patients are two
 *  batches. */
const short: Behaviour = { noPost: true, maxURL: 700 };

/** Runs an export of the Group "ward" with small shards. */
async function run(source: Source, change: Partial<Task["export"]> = {}) {
  const where = await place("directory");
  const from = source.requests.length;
  const done = await new Export(where, source.baseURL, {
    export: { level: "Group", groupId: "ward", ...change },
    plan: { shardResources: 60 },
  }).all();
  assert.deepEqual([done.code, done.report.error], [0, undefined]);
  const store = await where.open();
  const plan = JSON.parse((await store.read(planPath))!.bytes.toString()) as Plan;
  return { ...(await linesOf(store)), plan, exact: done.report.exact, requests: source.requests.slice(from) };
}

/** The types that are not searched by members. Provenance never is, as it may be about anything that is exported. */
const readWhole = ({ shards }: Plan) => [
  ...new Set(shards.filter(({ members }) => members === undefined).map(({ type }) => type)),
];

function assertSame({ lines, doubled }: Awaited<ReturnType<typeof run>>, wanted: ReadonlyMap<string, Buffer>): void {
  assert.deepEqual(doubled, []);
  assert.deepEqual([...lines.keys()].sort(), [...wanted.keys()].sort());
  for (const [key, line] of wanted) assert.equal(lines.get(key), line.toString());
}

/** The parameters of all searches of a type. */
const searchesOf = (requests: readonly Logged[], type: string) =>
  requests
    .filter(({ url }) => url.startsWith(`/fhir/${type}?`) || url.startsWith(`/fhir/${type}/_search`))
    .map(({ url, form }) => new URLSearchParams([...new URLSearchParams(url.split("?")[1] ?? ""), ...(form ?? [])]));

describe("a Group, searched by batches of its members, is exported as the source's own store says", () => {
  let source: Source;
  let members: string[];
  before(async () => {
    source = await startSource();
    const of = new Set(
      [...source.dump("Group").values()]
        .map((line) => JSON.parse(line.toString()))
        .filter(({ id }) => id === "ward")
        .flatMap((group) =>
          group.member.map((member: { entity: { reference: string } }) => member.entity.reference.slice(8)),
        ),
    );
    members = [...of].sort();
    const outsider = [...source.dump("Patient").keys()].map((key) => key.slice(8)).find((id) => !of.has(id))!;
    const put = (resource: object) => source.put(JSON.stringify(resource));
    const patient = (id: string) => ({ reference: `Patient/${id}` });
    put({
      resourceType: "Observation",
      id: "listed",
      status: "final",
      code: {},
      subject: patient(outsider),
      performer: [patient(members[0]!), patient(members[9]!)],
    });
    // resources in the compartments of members of both batches, of a member and a non-member, and of nobody
    for (let n = 0; n < 20; n++) {
      const [first, second] = [members[n % 5]!, members[5 + (n % 5)]!];
      const observation = { resourceType: "Observation", status: "final", code: { text: "shared" } };
      put({ ...observation, id: `both-${n}`, subject: patient(second), performer: [patient(first)] });
      put({ ...observation, id: `other-${n}`, subject: patient(outsider), performer: [patient(second)] });
      put({ ...observation, id: `mention-${n}`, subject: patient(outsider), focus: [patient(first)] });
      put({ ...observation, id: `device-${n}`, subject: { reference: `Device/${first}` } });
    }
    put({
      resourceType: "Provenance",
      id: "all-of-them",
      recorded: "2024-01-01T00:00:00Z",
      target: members.map(patient),
      agent: [{ who: { display: "x" } }],
    });
    put({ resourceType: "Patient", id: "linked", link: [{ other: patient(members[7]!), type: "seealso" }] });
  });
  after(() => source.close());

  const servers: { name: string; behaviour: Behaviour; batch: number }[] = [
    { name: "searches by POST", behaviour: {}, batch: 200 },
    { name: "searches by GET with short URLs", behaviour: short, batch: 5 },
    { name: "offset paging", behaviour: { ...short, paging: "offset" }, batch: 5 },
    { name: "snapshot paging", behaviour: { ...short, paging: "snapshot" }, batch: 5 },
    { name: "no counts", behaviour: { ...short, noCount: true }, batch: 5 },
    { name: "no _lastUpdated", behaviour: { ...short, ignore: ["_lastUpdated"] }, batch: 5 },
    { name: "no _sort", behaviour: { ...short, refuseSort: true }, batch: 5 },
  ];
  for (const { name, behaviour, batch } of servers)
    test(name, async () => {
      const own = await startSource({ resources: snapshotOf(source), behaviour });
      try {
        const done = await run(own);
        assert.equal(done.plan.source.batch, batch);
        assert.deepEqual(readWhole(done.plan), ["Provenance"]);
        assertSame(done, expected(own, { level: "Group", groupId: "ward" }));
        assert.equal(done.exact, true);
        assert(
          done.lines.has("Observation/both-3") &&
            done.lines.has("Observation/other-3") &&
            !done.lines.has("Observation/mention-3"),
        );
      } finally {
        await own.close();
      }
    });

  test("only pages of members are read, besides those of the probes", async () => {
    const { requests, plan } = await run(source);
    const pages = searchesOf(requests, "Observation").filter(
      (search) => !search.has("_summary") && !search.has("_cursor"),
    );
    const probes = pages.filter((search) => !search.has("subject") && !search.has("performer"));
    assert.deepEqual(
      probes.map((search) => search.get("_count")),
      ["100", "100"],
    );
    assert(plan.shards.filter(({ type }) => type === "Observation").length === 1, "one batch is one shard");
    assert.equal(new Set(plan.shards.flatMap(({ members = [] }) => members)).size, 2);
  });

  test("filters, since and elements hold", async () => {
    const typeFilters = [
      "Observation?status=final&code:text=shared",
      "Observation?status=amended",
      "Encounter?status=finished",
    ];
    const since = "2021-01-01T00:00:00.000Z";
    const filtered = await startSource({ resources: snapshotOf(source), behaviour: { ...short, maxURL: 900 } });
    try {
      const done = await run(filtered, { typeFilters: typeFilters.slice(1), since });
      const is = (status: string) => (resource: { status?: string }) => resource.status === status;
      assertSame(
        done,
        expected(filtered, {
          level: "Group",
          groupId: "ward",
          since,
          filters: { Observation: [is("amended")], Encounter: [is("finished")] },
        }),
      );
      const cut = await run(filtered, { elements: ["status"], types: ["Observation"] });
      const whole = expected(filtered, { level: "Group", groupId: "ward", types: ["Observation"] });
      assert.deepEqual([...cut.lines.keys()].sort(), [...whole.keys()].sort());
      for (const line of cut.lines.values()) assert.deepEqual(JSON.parse(line).subject, undefined);
    } finally {
      await filtered.close();
    }
  });

  test("a type whose parameter the source ignores is read as a whole, and only members are exported", async () => {
    for (const behaviour of [
      { ignore: ["subject"], ignoreButRepeat: true },
      { ignore: ["performer"] },
      { unknownParameters: "ignore" as const, ignore: ["patient"] },
    ]) {
      const own = await startSource({ resources: snapshotOf(source), behaviour });
      try {
        // Nobody can tell whose it is. The source ignores the parameter, so that it shows the resource proves nothing.
        own.put(
          JSON.stringify({
            resourceType: "Observation",
            id: "whose",
            status: "final",
            code: {},
            subject: { identifier: { value: "somebody else" } },
          }),
        );
        const done = await run(own);
        assert(readWhole(done.plan).length > 1);
        assertSame(done, expected(own, { level: "Group", groupId: "ward" }));
      } finally {
        await own.close();
      }
    }
  });

  test("a resource whose reference only the server understands is exported once if the server finds it for a member", async () => {
    const own = await startSource({ resources: snapshotOf(source), behaviour: { ...short, alias } });
    try {
      const wanted = expected(own, { level: "Group", groupId: "ward" });
      const there = (id: string) => ({ reference: `${alias}/Patient/${id}` });
      const put = (id: string, first: string, second: string) => {
        own.put(
          JSON.stringify({
            resourceType: "Observation",
            id,
            status: "final",
            code: {},
            subject: there(first),
            performer: [there(second)],
          }),
        );
        wanted.set(`Observation/${id}`, own.dump("Observation").get(`Observation/${id}`)!);
      };
      put("alias-1", members[1]!, members[8]!);
      put("alias-2", members[9]!, members[9]!);
      assertSame(await run(own), wanted);
    } finally {
      await own.close();
    }
  });

  test("a resource that the index finds by only one of its references is not dropped", async () => {
    const own = await startSource({ resources: snapshotOf(source), behaviour: { ...short, lastReferenceOnly: true } });
    try {
      const done = await run(own, { types: ["Observation", "Patient"] });
      assert(done.plan.shards.every(({ members }) => members !== undefined));
      assertSame(done, expected(own, { level: "Group", groupId: "ward", types: ["Observation", "Patient"] }));
      assert(
        done.lines.has("Observation/listed"),
        "found by the last member, while the shard of the first would have to write it",
      );
      assert.deepEqual(done.doubled, []);
    } finally {
      await own.close();
    }
  });

  test("with a quarter of all patients or more in the cohort, types are read as a whole", async () => {
    const many = [...source.dump("Patient").keys()].slice(0, 40).map((key) => key.slice(8));
    const done = await run(source, { level: "Patient", patients: many });
    assert.equal(done.plan.source.batch, undefined);
    assertSame(done, expected(source, { level: "Patient", patients: many }));
  });

  test("a Group that is changed while the export is planned has its members of transactionTime", async () => {
    const own = await startSource({ resources: snapshotOf(source) });
    try {
      const then = own.dump();
      const stop = own.onRequest(({ url }) => {
        if (!url.startsWith("/fhir/Group/ward")) return;
        stop();
        const ward = JSON.parse(own.get("Group", "ward")!);
        own.put(JSON.stringify({ ...ward, member: ward.member.slice(3) }));
      });
      const done = await run(own, { types: ["Encounter", "Group"] });
      assertSame(
        done,
        expected(
          { baseURL: own.baseURL, dump: () => then },
          { level: "Group", groupId: "ward", types: ["Encounter", "Group"] },
        ),
      );
    } finally {
      await own.close();
    }
  });

  test("a notice tells of characteristics, and of a nested Group that does not exist", async () => {
    source.put(
      JSON.stringify({
        resourceType: "Group",
        id: "rules",
        type: "person",
        actual: true,
        characteristic: [{ code: { text: "age" }, valueBoolean: true, exclude: false }],
        member: [{ entity: { reference: "Group/gone" } }, { entity: { reference: `Patient/${members[0]}` } }],
      }),
    );
    const where = await place("directory");
    const done = await new Export(where, source.baseURL, { export: { level: "Group", groupId: "rules" } }).all();
    assert.deepEqual([done.code, done.report.exact], [0, true]);
    const told = (await (await where.open()).read("errors/OperationOutcome-0000-1.ndjson"))!.bytes.toString();
    assert.match(told, /characteristics, which are not evaluated/);
    assert.match(told, /does not exist in the source/);
    assert.equal(told.trim().split("\n").length, 2);
  });
});

/** The resources of a source, to start another source with. */
function snapshotOf(source: Source) {
  return [...source.dump()].map(([key, line]) => {
    const [type = "", id = ""] = key.split("/");
    const text = source.get(type, id)!;
    const { meta } = JSON.parse(line.toString()) as { meta: { versionId: string; lastUpdated: string } };
    return {
      type,
      id,
      versionId: meta.versionId,
      lastUpdated: Date.parse(meta.lastUpdated.replace(/(\.\d{3})\d+/, "$1")),
      text,
    };
  });
}
