import assert from "node:assert/strict";
import { suite, test } from "node:test";
import type { Task } from "../../../src/contracts.ts";
import { SourceClient } from "../../../src/fhir/client.ts";
import type { Head, Receiver, Request, Transport } from "../../../src/fhir/http.ts";
import type { Logger } from "../../../src/log.ts";
import type { Clock } from "../../../src/surroundings.ts";
import { planAndSmallExport } from "../../../src/worker/inline.ts";
import { PageMemory } from "../../../src/worker/page-memory.ts";
import { planExport } from "../../../src/worker/plan/plan.ts";
import { ProgressBoard } from "../../../src/worker/progress.ts";
import { readPlan } from "../../../src/worker/stored.ts";
import type { Work } from "../../../src/worker/work.ts";
import { respond, type SampleServer } from "../../sources/exchange.ts";
import type { Behaviour } from "../../sources/faults.ts";
import { generate } from "../../sources/generator.ts";
import { makeSample } from "../../sources/server.ts";
import { MemoryFiles } from "../../worlds/files.ts";
import { clockOf, Timeline } from "../../worlds/timeline.ts";

const latencyMs = 200;
const share = { requests: 4 };
const parallelism = 4;
/** types that the source has no resource of; by name they are before and behind the others */
const emptyTypes = Array.from(
  { length: 143 },
  (_, index) =>
    `${index % 2 ? "Zero" : "Account"}${String.fromCharCode(65 + (index % 26), 65 + Math.floor(index / 26))}`,
);
const fullTypes = ["Encounter", "Observation", "Patient"];
const resources = generate({ scale: 0.1 }).filter(({ type }) => fullTypes.includes(type));
const statement = {
  rest: [
    {
      mode: "server",
      resource: [...emptyTypes, ...fullTypes].map((type) => ({ type, interaction: [{ code: "search-type" }] })),
    },
  ],
};

/** Answers each request after the same time, and counts how many are under way. */
class SlowSource implements Transport {
  readonly #server: SampleServer;
  readonly #clock: Clock;
  #active = 0;
  most = 0;
  asked = 0;

  constructor(server: SampleServer, clock: Clock) {
    this.#server = server;
    this.#clock = clock;
  }

  async exchange({ url, method, headers, body }: Request, into: Receiver): Promise<Head> {
    this.asked++;
    this.most = Math.max(this.most, ++this.#active);
    await this.#clock.sleep(latencyMs);
    const sent = await this.#answer(new URL(url.href), { method, headers, body });
    this.#active--;
    into.start(sent.headers);
    into.write(sent.body);
    return { status: sent.status, headers: sent.headers, ms: latencyMs, first: sent.body[0] };
  }

  async #answer(url: URL, { method, headers, body }: Pick<Request, "method" | "headers" | "body">) {
    const type = url.pathname.slice("/fhir/".length);
    const { noCount } = this.#server.behaviour;
    if (emptyTypes.includes(type)) {
      const total = noCount ? undefined : 0;
      const text = JSON.stringify({ resourceType: "Bundle", type: "searchset", total, link: [], entry: [] });
      return { status: 200, headers: { date: new Date(this.#clock.now()).toUTCString() }, body: Buffer.from(text) };
    }
    const received = { method, target: url.pathname + url.search, url, headers, body: body ?? "", isGone: () => false };
    const sent = (await respond(this.#server, received))!;
    const named = Object.entries(sent.headers).map(([name, value]) => [name.toLowerCase(), String(value)]);
    return { status: sent.status, headers: Object.fromEntries(named) as Record<string, string>, body: sent.body };
  }

  close(): void {}
}

/** Plans an export of all types in simulated time. */
async function plan(behaviour: Behaviour, run: (work: Work) => Promise<unknown>, more: Partial<Task["plan"]> = {}) {
  const timeline = new Timeline(Date.parse("2026-03-04T05:06:07.000Z"));
  const clock = clockOf(timeline);
  const server = makeSample({ resources, clock, behaviour: { ...behaviour, statement } });
  const source = new SlowSource(server, clock);
  const task = {
    v: 1,
    uid: "u",
    name: "x",
    createdAt: "2026-03-04T05:06:07.000Z",
    attempt: 1,
    export: { level: "System", gzip: false, maxFileBytes: 1 << 20, onResourceError: "Record" },
    source: {
      baseURL: "http://source.example.org/fhir",
      auth: { kind: "none" },
      count: 1000,
      settleSeconds: 0,
      history: true,
      retrySeconds: 60,
      share,
    },
    target: { folder: "x", volume: { path: "/nowhere" } },
    plan: { shardResources: 100_000, inlineResources: 0, parallelism, ...more },
  } satisfies Task;
  const { signal } = new AbortController();
  const random = (bytes: number) => Buffer.alloc(bytes, 7);
  const quiet = { info: () => {}, warn: () => {}, error: () => {}, debug: () => {} } as unknown as Logger;
  const store = new MemoryFiles().open(async (effect) => effect());
  const work: Work = {
    task,
    store,
    source: new SourceClient(task.source, "/nowhere", signal, { clock, random, transport: source }),
    memory: () => new PageMemory(share.requests, 1 << 16, 1 << 16),
    index: 0,
    board: new ProgressBoard(),
    log: quiet,
    signal,
    clock,
    random,
  };
  let end: { error?: unknown } | undefined;
  run(work).then(
    () => (end = {}),
    (error: unknown) => (end = { error }),
  );
  const from = timeline.now;
  await timeline.run(() => end !== undefined);
  server.store.close();
  if (end?.error) throw end.error;
  const made = (await readPlan(store, task.uid))!;
  return { seconds: (timeline.now - from) / 1000, most: source.most, asked: source.asked, plan: made };
}

suite("146 types, of which 143 are empty, at 200 ms an answer", () => {
  const sources: Record<string, Behaviour> = {
    "a source that behaves well": {},
    "counts are refused": { refuse: ["_summary"] },
    "it does not count": { noCount: true },
    "it keeps no windows": { ignore: ["_lastUpdated"] },
    "it does not count, and keeps no windows and no order": {
      noCount: true,
      ignore: ["_lastUpdated"],
      refuseSort: true,
    },
  };
  for (const [name, behaviour] of Object.entries(sources))
    test(`${name}: planned in 15 s of its time`, async () => {
      const made = await plan(behaviour, planAndSmallExport);
      // Where nothing is counted no two numbers show that a type has stayed empty: it is read, and closed.
      const empty = behaviour.noCount ? [] : emptyTypes;
      assert.deepEqual(made.plan.empty ?? [], [...empty].sort());
      const read = behaviour.noCount ? [...fullTypes, ...emptyTypes] : fullTypes;
      assert.deepEqual([...new Set(made.plan.shards.map(({ type }) => type))].sort(), [...read].sort());
      assert.ok(made.seconds <= 15, `${made.seconds} s, ${made.asked} requests`);
      const forEach = behaviour.noCount ? 7 : 2;
      assert.ok(made.asked < forEach * emptyTypes.length + 40, `${forEach} for each empty type, not ${made.asked}`);
      assert.ok(made.most <= share.requests * parallelism, `${made.most} at a time`);
    });

  test("what the planner asks at a time stays within the share, however its steps are nested", async () => {
    const made = await plan({}, planExport);
    assert.equal(made.most, share.requests);
  });

  test("when the plan is made, a small export goes on with the share of one pod", async () => {
    let most = 0;
    const made = await plan(
      {},
      async (work) => {
        await planAndSmallExport(work);
        most = work.source.limiter.limit;
      },
      { inlineResources: 100_000 },
    );
    assert.ok(made.most > share.requests);
    assert.ok(most <= share.requests);
  });
});
