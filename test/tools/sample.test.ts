import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { drawSample, readWalks, sampleOf } from "./sample.ts";

/** 300 places of 4 kinds, the last of which has one place only */
const places = Array.from({ length: 300 }, (_, at) => ({ at, kind: at === 250 ? "rare" : `kind ${at % 3}` }));
const draw = (seed: number, size: number) => drawSample(places, { seed, size, kindsOf: ({ kind }) => kind });

describe("a sample of a walk", () => {
  test("the same seed draws the same, another seed another", () => {
    assert.deepEqual(draw(7, 20), draw(7, 20));
    assert.notDeepEqual(draw(7, 20), draw(8, 20));
  });

  test("has the size that was asked for, each place at most once, in the order of the walk", () => {
    const drawn = draw(7, 20).map(({ at }) => at);
    assert.equal(new Set(drawn).size, 20);
    assert.deepEqual(
      drawn,
      drawn.toSorted((a, b) => a - b),
    );
  });

  for (const size of [4, 20, 0])
    test(`of ${size}: every kind is drawn, whatever the seed`, () => {
      for (let seed = 0; seed < 50; seed++)
        assert.deepEqual(new Set(draw(seed, size).map(({ kind }) => kind)).size, 4, `seed ${seed}`);
    });

  test("of items of several kinds each: every kind is drawn", () => {
    const kindsOf = ({ at }: (typeof places)[number]) => [`third ${at % 3}`, `tenth ${at % 10}`, `rest ${at % 7}`];
    for (let seed = 0; seed < 50; seed++)
      assert.equal(new Set(drawSample(places, { seed, size: 0, kindsOf }).flatMap(kindsOf)).size, 20, `seed ${seed}`);
  });

  test("is drawn over the whole walk: after some seeds every place was drawn", () => {
    const drawn = new Set(Array.from({ length: 200 }, (_, seed) => draw(seed, 20).map(({ at }) => at)).flat());
    assert.equal(drawn.size, places.length);
  });

  test("that is larger than the walk is the walk", () => assert.deepEqual(draw(7, 1000), places));
  test("of nothing is nothing", () => assert.deepEqual(drawSample([], { seed: 1, size: 5, kindsOf: () => "any" }), []));
});

describe("what a run walks over", () => {
  test("a walk without places is an error, and none that passes", () =>
    assert.throws(() => sampleOf("empty", [], { size: 5, kindsOf: () => "any" }), /the walk "empty" has no places/));
  test("a sample by WALK_SEED", () =>
    assert.deepEqual(readWalks({ WALK_SEED: "42" }), { whole: false, few: false, seed: 42 }));
  test("without run.ts the sample of seed 1", () =>
    assert.deepEqual(readWalks({}), { whole: false, few: false, seed: 1 }));
  test("few, for the quick loop", () => assert.equal(readWalks({ FHIR_EXPORT_WALKS: "few" }).few, true));
  test("everything", () => assert.equal(readWalks({ FHIR_EXPORT_WALKS: "whole" }).whole, true));
  for (const WALK_SEED of ["x", "-1", "1.5"])
    test(`WALK_SEED=${WALK_SEED} is refused by name`, () =>
      assert.throws(() => readWalks({ WALK_SEED }), /WALK_SEED must be a whole number/));
});
