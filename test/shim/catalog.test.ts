import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { Catalog, type CatalogReaders } from "../../src/shim/catalog.ts";
import { source, target, types } from "./known.ts";

suite("the catalog", () => {
  const reading = (more: Partial<CatalogReaders> = {}): CatalogReaders & { calls: string[] } => {
    const calls: string[] = [];
    const log =
      <T>(what: string, value: T) =>
      async () => {
        calls.push(what);
        return value;
      };
    return { calls, source: log("source", source), target: log("target", target), types: log("types", types), ...more };
  };

  test("is read once, and again after a minute, while nobody waits for that", async () => {
    let now = 0;
    const read = reading();
    const catalog = new Catalog(read, () => now);
    const all = await Promise.all([catalog.get(), catalog.get()]);
    assert.deepEqual(all[0], { source, target, types });
    assert.deepEqual(read.calls, ["source", "target", "types"]);
    now = 59_000;
    await catalog.get();
    assert.equal(read.calls.length, 3);
    now = 61_000;
    assert.deepEqual(await catalog.get(), { source, target, types });
    assert(read.calls.length > 3);
  });

  test("a part that cannot be read now stays as it was; one that never could be read is absent", async () => {
    let now = 0;
    let down = false;
    const fails = async () => Promise.reject(new Error("away"));
    const read = reading({ source: async () => (down ? fails() : source), types: fails });
    const catalog = new Catalog(read, () => now);
    assert.deepEqual(await catalog.get(), { source, target, types: undefined });
    down = true;
    now = 120_000;
    await catalog.get();
    await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual((await catalog.get()).source, source);
  });

  test("a server that does not answer is not waited for", async () => {
    const catalog = new Catalog(reading({ types: () => new Promise(() => {}) }), () => 0);
    const found = await catalog.get();
    assert.deepEqual([found.source, found.types], [source, undefined]);
  });
});
