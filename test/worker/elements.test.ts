import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import { storage } from "../sink/stores.ts";
import { expected, type Resource } from "../sources/expected.ts";
import type { Behaviour } from "../sources/faults.ts";
import { type Source, startSource } from "../sources/server.ts";
import { Export, linesOf } from "./harness.ts";

const { place } = storage();
let source: Source;
before(async () => {
  source = await startSource();
});
after(() => source.close());
afterEach(() => source.set({ ignore: [], ignoreButRepeat: false, pretty: false }));

const elements = ["Patient.birthDate", "value", "code"];
/** The members that may stay: by R4 the mandatory and modifier elements of the two types, and those asked for above. */
const kept: Record<string, RegExp> = {
  Patient:
    /^(resourceType|id|meta|implicitRules|modifierExtension|active|deceased.*|link|birthDate|value[A-Z].*|code)$/,
  Observation: /^(resourceType|id|meta|implicitRules|modifierExtension|status|value[A-Z].*|code)$/,
};
const subsetted = (resource: Resource) =>
  (resource.meta.tag as { code: string }[]).filter(({ code }) => code === "SUBSETTED").length;

describe("elements", () => {
  for (const { name, behaviour, level, pretty } of [
    { name: "a source that obeys", behaviour: {}, level: "System" },
    {
      name: "a source that ignores _elements",
      behaviour: { ignore: ["_elements"], ignoreButRepeat: true },
      level: "System",
    },
    {
      name: "a source that ignores _elements and writes pretty pages",
      behaviour: { ignore: ["_elements"], ignoreButRepeat: true, pretty: true },
      level: "System",
      pretty: true,
    },
    { name: "all patients, by a source that obeys", behaviour: {}, level: "Patient" },
    {
      name: "all patients, by a source that ignores _elements",
      behaviour: { ignore: ["_elements"], ignoreButRepeat: true },
      level: "Patient",
    },
  ] as { name: string; behaviour: Behaviour; level: "System" | "Patient"; pretty?: boolean }[])
    test(name, async () => {
      source.set(behaviour);
      const where = await place("directory");
      const types = ["Patient", "Observation"];
      const done = await new Export(where, source.baseURL, { export: { level, types, elements } }).all();
      assert.deepEqual([done.code, done.report.error, done.report.exact], [0, undefined, true]);
      const { lines, doubled } = await linesOf(await where.open());
      assert.deepEqual(doubled, []);
      const whole = expected(source, { level, types });
      assert.deepEqual([...lines.keys()].sort(), [...whole.keys()].sort());
      let cut = 0;
      for (const [key, line] of lines) {
        const [from, to] = [JSON.parse(whole.get(key)!.toString()) as Resource, JSON.parse(line) as Resource];
        const allowed = Object.keys(from).filter((member) => kept[from.resourceType]!.test(member.replace(/^_/, "")));
        // The elements that compartments are found by are asked for, and cut off here.
        assert.deepEqual(Object.keys(to).sort(), [...new Set([...allowed, "meta"])].sort());
        for (const member of allowed) if (member !== "meta") assert.deepEqual(to[member], from[member]);
        assert.equal(subsetted(to), 1);
        assert.equal(to.meta.lastUpdated, from.meta.lastUpdated);
        cut += Object.keys(from).length - Object.keys(to).length;
        // Decimals stay as they were spelled.
        const decimal = /"value":-?\d+\.\d+/.exec(whole.get(key)!.toString())?.[0];
        if (decimal && !pretty && from.valueQuantity) assert(line.includes(decimal), decimal);
      }
      assert(cut > 1000);
    });

  test("the source is asked for these elements only", async () => {
    const where = await place("directory");
    const at = source.requests.length;
    await new Export(where, source.baseURL, { export: { types: ["Patient"], elements: ["birthDate"] } }).all();
    const asked = source.requests.slice(at).filter(({ url }) => url.includes("_sort=") && url.includes("_elements="));
    assert(asked.length > 0 && asked.every(({ url }) => /_elements=[^&]*birthDate/.test(url)));
  });

  test("types for which no element is named are exported whole", async () => {
    const where = await place("directory");
    const done = await new Export(where, source.baseURL, {
      export: { types: ["Patient", "Encounter"], elements: ["Patient.gender"] },
    }).all();
    assert.equal(done.code, 0);
    const { lines } = await linesOf(await where.open());
    for (const [key, line] of source.dump("Encounter")) assert.equal(lines.get(key), line.toString());
  });
});
