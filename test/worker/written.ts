import assert from "node:assert/strict";
import type { Plan, Task } from "../../src/contracts.ts";
import { readAll, storage } from "../sink/stores.ts";
import type { Behaviour } from "../sources/faults.ts";
import { random } from "../sources/random.ts";
import { type Source, startSource } from "../sources/server.ts";
import { Export, linesOf } from "./harness.ts";

/** Creates, updates and deletes resources at every request of the export.
 *  @param most the number of writes in all
 *  @returns how many of each kind were made so far */
function write(
  source: Source,
  types: string[],
  most: number,
  kinds = ["create", "update", "update", "delete"],
): { counts: Record<string, number>; stop(): void } {
  const { pick } = random(7);
  const counts: Record<string, number> = { create: 0, update: 0, delete: 0 };
  let made = 0;
  const stop = source.onRequest(() => {
    for (let n = 0; n < 3 && made < most; n++, made++) {
      const kind = pick(kinds);
      const type = pick(types);
      const [key, line] = pick([...source.dump(type)]);
      if (kind === "delete") source.delete(type, key.slice(type.length + 1));
      else if (kind === "update") source.put(line.toString());
      else source.put(line.toString().replace(`"${key.slice(type.length + 1)}"`, `"new-${made}"`));
      counts[kind]!++;
    }
  });
  return { counts, stop };
}

interface Options {
  change?: Partial<Task["source"]>;
  /** kinds of the writes, of which each is drawn */
  kinds?: string[];
  shardResources?: number;
  /** size of the sample source */
  scale?: number;
  prepare?(source: Source): Promise<void>;
}

/** Makes a function that runs an export whose source is written to as soon as the plan is made. It registers the
 *  clean-up of what the function uses, so a test file calls it once, at its top level. */
export function whileWritten() {
  const { place } = storage();
  return async function exportWhileWritten(
    behaviour: Behaviour,
    parameters: Partial<Task["export"]>,
    { change = {}, kinds, shardResources = 300, scale = 1, prepare }: Options = {},
  ) {
    const source = await startSource({ behaviour, scale });
    try {
      await prepare?.(source);
      const where = await place("directory");
      const run = new Export(where, source.baseURL, {
        export: parameters,
        source: { count: 40, ...change },
        plan: { shardResources },
      });
      const planned = await run.run("plan");
      assert.equal(planned.code, 0);
      // Nothing was written since transactionTime yet: this is the state that must be exported.
      const then = source.dump();
      const writes = write(source, parameters.types!, 240, kinds);
      for (let index = 0; index < planned.report.packages!; index++)
        assert.equal((await run.run("export", index)).code, 0);
      const { code, report } = await run.run("seal");
      writes.stop();
      assert.equal(code, 0, report.error?.message);
      const store = await where.open();
      const { manifest, lines, doubled } = await linesOf(store);
      const told = (
        await Promise.all(manifest.error.map(async ({ path }) => (await readAll(store, path))!.toString()))
      ).join("");
      const { shards } = JSON.parse((await store.read("_work/plan.json"))!.bytes.toString()) as Plan;
      return { then, report, lines, doubled, told, shards, counts: writes.counts, baseURL: source.baseURL };
    } finally {
      await source.close();
    }
  };
}
