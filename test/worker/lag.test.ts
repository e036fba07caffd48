import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Plan, Task } from "../../src/contracts.ts";
import { readAll, storage } from "../sink/stores.ts";
import { expected } from "../sources/expected.ts";
import type { Behaviour } from "../sources/faults.ts";
import { random } from "../sources/random.ts";
import { type Source, startSource } from "../sources/server.ts";
import { Export, linesOf } from "./harness.ts";

const { place } = storage();
const types = ["Patient", "Observation"];
const noHistory: Behaviour = { noTypeHistory: true, noInstanceHistory: true };
/** a lag so long that searches show a write only when the test says so (catchUp) */
const never = 3_600_000;

/** Writes to a source and keeps all versions, to tell what existed at a moment. */
class Versions {
  readonly #source: Source;
  readonly #of = new Map<string, { at: number; line: Buffer | undefined }[]>();
  made = 0;

  constructor(source: Source) {
    this.#source = source;
    for (const [key, line] of source.dump()) this.#of.set(key, [{ at: 0, line }]);
  }
  create(like: [key: string, line: Buffer], id: string): void {
    const [type, old] = like[0].split("/") as [string, string];
    this.#note(`${type}/${id}`, like[1].toString().replace(`"${old}"`, `"${id}"`));
  }
  update([key, line]: [key: string, line: Buffer]): void {
    this.#note(key, line.toString());
  }
  delete(key: string): void {
    const [type, id] = key.split("/") as [string, string];
    this.#source.delete(type, id);
    this.#of.get(key)!.push({ at: Date.now(), line: undefined });
    this.made++;
  }
  #note(key: string, text: string): void {
    const { lastUpdated } = this.#source.put(text);
    const line = this.#source.dump(key.split("/")[0]).get(key)!;
    this.#of.set(key, [...(this.#of.get(key) ?? []), { at: lastUpdated, line }]);
    this.made++;
  }
  /** `Type/id` -> its line, as it was right before `end` */
  at(end: number): Map<string, Buffer> {
    const lines = [...this.#of].map(([key, versions]) => [key, versions.findLast(({ at }) => at < end)?.line] as const);
    return new Map(lines.filter((entry): entry is [string, Buffer] => entry[1] !== undefined));
  }
}

async function finish(source: Source, run: Export, packages: number) {
  for (let index = 0; index < packages; index++) assert.equal((await run.run("export", index)).code, 0);
  const { code, report } = await run.run("seal");
  assert.deepEqual([code, report.error], [0, undefined]);
  const store = await run.place.open();
  const { manifest, lines, doubled } = await linesOf(store);
  const told = (
    await Promise.all(manifest.error.map(async ({ path }) => (await readAll(store, path))!.toString()))
  ).join("");
  return {
    report,
    manifest,
    lines,
    doubled,
    told,
    end: Date.parse(report.transactionTime!) + 1,
    baseURL: source.baseURL,
  };
}

describe("a source that is written to all the time, with a search index that lags", () => {
  for (const [name, behaviour, kinds, lag, settleSeconds, doubt] of [
    // On a busy machine the source's timers are late, which makes the lag longer. So it is far below settleSeconds.
    ["less than settleSeconds, with history", {}, ["create", "update", "update", "delete"], 700, 3, undefined],
    // Counts that lag cannot prove that nothing was deleted while the export was planned.
    ["less than settleSeconds, without history, only new resources", noHistory, ["create"], 700, 3, /cannot be known/],
    // Rows leave windows while they are read, although they were written before transactionTime.
    ["more than settleSeconds, with history", {}, ["create", "update", "update", "delete"], 1300, 1, undefined],
  ] as const)
    for (const level of ["System", "Patient"] as const)
      test(`${name}, level ${level}: exactly what was there at transactionTime`, async () => {
        const source = await startSource({ behaviour: { ...behaviour, lag, paging: "offset" } });
        const { pick } = random(3);
        const versions = new Versions(source);
        const writing = setInterval(() => {
          const kind = pick([...kinds]);
          const one = pick([...source.dump(pick(types))]);
          if (kind === "create") versions.create(one, `new-${versions.made}`);
          else if (kind === "update") versions.update(one);
          else versions.delete(one[0]);
        }, 50);
        try {
          await sleep(3500);
          const run = new Export(await place("directory"), source.baseURL, {
            export: { types, level },
            source: { count: 40, settleSeconds },
            plan: { shardResources: 300 },
          });
          const planned = await run.run("plan");
          assert.equal(planned.code, 0);
          const { report, lines, doubled, end, told } = await finish(source, run, planned.report.packages!);
          assert(versions.made > 40);
          assert.equal(report.exact, doubt === undefined);
          if (doubt) assert.match(told, doubt);
          else assert.equal(told, "");
          const wanted = expected({ baseURL: source.baseURL, dump: () => versions.at(end) }, { level, types });
          assert.deepEqual(doubled, []);
          assert.deepEqual([...lines.keys()].sort(), [...wanted.keys()].sort());
          for (const [key, line] of wanted) assert.equal(lines.get(key), line.toString());
        } finally {
          clearInterval(writing);
          await source.close();
        }
      });
});

describe("a search index that lags more than settleSeconds", () => {
  /** Plans an export whose source was written to right before transactionTime, and does not show it yet.
   *  @param write writes to the source */
  async function begin(
    behaviour: Behaviour,
    level: Task["export"]["level"],
    write: (versions: Versions, source: Source) => void,
  ) {
    const source = await startSource({ behaviour: { ...behaviour, lag: never } });
    const versions = new Versions(source);
    const off = source.onRequest(async () => {
      off();
      // The planner reads the clock next, until its second is over: the writes get stamps of this second.
      while (Date.now() % 1000 > 400) await sleep(20);
      write(versions, source);
    });
    const run = new Export(await place("directory"), source.baseURL, {
      export: { types, level },
      source: { count: 100 },
      plan: { shardResources: 600 },
    });
    const planned = await run.run("plan");
    assert.equal(planned.code, 0);
    assert(versions.made > 0);
    return { source, versions, run, packages: planned.report.packages! };
  }
  const create = (versions: Versions, source: Source) => {
    for (const type of types)
      for (const [n, one] of [...source.dump(type)].slice(0, 40).entries()) versions.create(one, `late-${n}`);
  };
  const update = (versions: Versions, source: Source) => {
    for (const one of [...source.dump("Observation")].slice(0, 25)) versions.update(one);
  };

  for (const level of ["System", "Patient"] as const)
    for (const [name, behaviour] of [
      ["with history", {}],
      ["without history", noHistory],
    ] as const)
      for (const when of ["before the packages run", "after the packages have run", "never"] as const) {
        // Nobody can know of a resource that no search shows and no history tells.
        if (when === "never" && name === "without history") continue;
        test(`${name}, level ${level}, where new resources become searchable ${when}: each comes out once`, async () => {
          const { source, versions, run, packages } = await begin(behaviour, level, create);
          try {
            if (when === "before the packages run") source.catchUp();
            for (let index = 0; index < packages; index++) assert.equal((await run.run("export", index)).code, 0);
            if (when === "after the packages have run") source.catchUp();
            const { report, lines, doubled, end, told } = await finish(source, run, packages);
            const wanted = expected({ baseURL: source.baseURL, dump: () => versions.at(end) }, { level, types });
            assert([...wanted.keys()].filter((key) => key.includes("/late-")).length > 40);
            assert.deepEqual(doubled, []);
            assert.deepEqual([...lines.keys()].sort(), [...wanted.keys()].sort());
            for (const [key, line] of wanted) assert.equal(lines.get(key), line.toString());
            assert.deepEqual([report.exact, told], [true, ""]);
          } finally {
            await source.close();
          }
        });
      }

  test("new resources become searchable while windows are cut: the windows are still cut, and their counts add up", async () => {
    const source = await startSource({ behaviour: { lag: never } });
    try {
      const versions = new Versions(source);
      let cuts = 0;
      source.onRequest(({ url }) => {
        const bounds = new URL(url, source.baseURL).searchParams.getAll("_lastUpdated");
        if (url.includes("/Observation?") && url.includes("_summary=count") && bounds.length === 2 && ++cuts === 3)
          source.catchUp();
      });
      // These have the stamps of one moment, so that there is a window around it.
      update(versions, source);
      source.catchUp();
      create(versions, source);
      const run = new Export(await place("directory"), source.baseURL, {
        export: { types },
        plan: { shardResources: 600 },
      });
      // The new resources must be older than transactionTime.
      await sleep(1000);
      assert.equal((await run.run("plan")).code, 0);
      assert(cuts > 3);
      const { shards } = JSON.parse((await (await run.place.open()).read("_work/plan.json"))!.bytes.toString()) as Plan;
      const cut = shards.filter(({ type }) => type === "Observation");
      assert(cut.length > 3, `${cut.length}`);
      assert.deepEqual(
        cut.map(({ windows, expected }) => [windows, expected !== undefined]),
        cut.map(() => [undefined, true]),
      );
      assert.equal(
        cut.reduce((sum, { expected }) => sum + expected!, 0),
        source.dump("Observation").size,
      );
    } finally {
      await source.close();
    }
  });

  test("updates become searchable after the packages have run: each resource comes out once, and the older ones are told", async () => {
    for (const behaviour of [{}, noHistory]) {
      const { source, versions, run, packages } = await begin(behaviour, "System", update);
      try {
        for (let index = 0; index < packages; index++) assert.equal((await run.run("export", index)).code, 0);
        source.catchUp();
        const { report, lines, doubled, end, told } = await finish(source, run, packages);
        const wanted = expected({ dump: () => versions.at(end) }, { types });
        assert.deepEqual(doubled, []);
        assert.deepEqual([...lines.keys()].sort(), [...wanted.keys()].sort());
        const older = [...wanted].filter(([key, line]) => lines.get(key) !== line.toString());
        assert(older.length > 0);
        assert.equal(report.exact, false);
        assert.match(
          told,
          new RegExp(
            `"text":"${older.length} resources of Observation are older than transactionTime: .*settleSeconds`,
          ),
        );
      } finally {
        await source.close();
      }
    }
  });

  test("updates become searchable between two packages: resources that come twice are told", async () => {
    const { source, run, packages } = await begin({}, "System", update);
    try {
      assert(packages > 2);
      const { shards, packages: all } = JSON.parse(
        (await (await run.place.open()).read("_work/plan.json"))!.bytes.toString(),
      ) as Plan;
      const last = shards.filter(({ type }) => type === "Observation").at(-1)!.id;
      for (const [index, ids] of all.entries())
        if (!ids.includes(last)) assert.equal((await run.run("export", index)).code, 0);
      source.catchUp();
      const { report, doubled, told } = await finish(source, run, packages);
      assert(doubled.length > 0);
      assert.equal(report.exact, false);
      assert.match(told, new RegExp(`"text":"${doubled.length} resources of Observation come twice, .*settleSeconds`));
    } finally {
      await source.close();
    }
  });

  test("a resource that two readings of a window skip, while others move into it, is found by the third", async () => {
    const timeOf = (line: Buffer) =>
      (JSON.parse(line.toString()) as { meta: { lastUpdated: string } }).meta.lastUpdated;
    const byTime = (source: Source) =>
      [...source.dump("Observation")].sort(([a, left], [b, right]) =>
        `${timeOf(left)} ${a}` < `${timeOf(right)} ${b}` ? -1 : 1,
      );
    const { source, versions, run, packages } = await begin({ paging: "offset" }, "System", (versions, source) => {
      for (const one of byTime(source).slice(0, 25)) versions.update(one);
    });
    try {
      const { shards } = JSON.parse((await (await run.place.open()).read("_work/plan.json"))!.bytes.toString()) as Plan;
      const { from } = shards.filter(({ type }) => type === "Observation").at(-1)!;
      const rows = byTime(source).filter(
        ([, line]) => timeOf(line) >= from! && Date.parse(timeOf(line)) < Date.now() - 3_600_000,
      );
      assert(rows.length > 210, `${rows.length}`);
      // From now on searches show deletions at once; the updates are still hidden.
      source.set({ paging: "offset", lag: 0 });
      let phase = "export";
      source.onRequest(({ url }) => {
        const { pathname, searchParams } = new URL(url, source.baseURL);
        if (!pathname.endsWith("/Observation") || !searchParams.getAll("_lastUpdated").includes(`ge${from}`)) return;
        const offset = searchParams.get("_offset");
        // Row 0 is on a page that was read. When it goes, row 200 moves to the end of the page before, and is skipped.
        if (phase === "export" && offset === "200") {
          phase = "exported";
          versions.delete(rows[0]![0]);
        }
        if (phase === "seal" && offset === "100") {
          phase = "read again";
          for (const [key] of rows.slice(1, 101)) versions.delete(key);
        }
      });
      for (let index = 0; index < packages; index++) assert.equal((await run.run("export", index)).code, 0);
      assert.equal(phase, "exported");
      source.catchUp();
      phase = "seal";
      const { lines, doubled, end, told } = await finish(source, run, 0);
      assert.equal(phase, "read again");
      const wanted = expected({ dump: () => versions.at(end) }, { types });
      assert.deepEqual(doubled, []);
      assert.deepEqual([...lines.keys()].sort(), [...wanted.keys()].sort());
      assert.match(told, /25 resources of Observation are older than transactionTime/);
    } finally {
      await source.close();
    }
  });
});
