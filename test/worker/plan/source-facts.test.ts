import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Task } from "../../../src/contracts.ts";
import { FailureError } from "../../../src/failure.ts";
import type { FHIRRelease } from "../../../src/fhir/release.ts";
import { chooseRelease, chooseTypes } from "../../../src/worker/plan/source-facts.ts";

type Level = Task["export"]["level"];

describe("the release of FHIR", () => {
  const releases: [fhirVersion: string | undefined, level: Level, release: FHIRRelease | RegExp, warnings: number][] = [
    ["4.0.1", "Patient", "R4", 0],
    ["4.3.0", "Group", "R4B", 0],
    ["5.0.0", "Patient", "R5", 0],
    ["3.0.2", "System", "STU3", 0],
    ["3.0.2", "Patient", /^spec\.level: the source has FHIR STU3 \(fhirVersion 3\.0\.2\)/, 0],
    ["1.0.2", "System", /fhirVersion 1\.0\.2; name a server of FHIR R4/, 0],
    ["<script> 4.0", "System", /fhirVersion something else/, 0],
    [undefined, "Patient", "R4", 1],
  ];
  for (const [fhirVersion, level, release, count] of releases)
    test(`${fhirVersion} at level ${level}`, () => {
      const warnings: string[] = [];
      if (release instanceof RegExp)
        assert.throws(
          () => chooseRelease({ level }, { fhirVersion }, warnings),
          (error) => error instanceof FailureError && error.class === "terminal" && release.test(error.message),
        );
      else assert.equal(chooseRelease({ level }, { fhirVersion }, warnings), release);
      assert.equal(warnings.length, count);
    });
});

describe("the types of an export", () => {
  const given = ["Patient", "Task", "Organization", "Bundle", "NutritionIntake"];
  const cases: [
    name: string,
    level: Level,
    types: string[],
    searchable: string[],
    release: FHIRRelease,
    chosen: string[] | RegExp,
  ][] = [
    ["all", "System", [], given, "R4", ["NutritionIntake", "Organization", "Patient", "Task"]],
    ["those of the compartment", "Patient", [], given, "R4", ["Patient", "Task"]],
    ["those of another release's compartment", "Patient", [], given, "R5", ["NutritionIntake", "Patient", "Task"]],
    ["named", "System", ["Bundle", "Patient", "Patient"], given, "R4", ["Bundle", "Patient"]],
    ["named, and the source does not say what it can search", "Patient", ["Patient"], [], "R4", ["Patient"]],
    [
      "not named, and it does not say",
      "System",
      [],
      [],
      "R4",
      /^spec\.types: .*rest\.resource\.interaction.*name the types/,
    ],
    ["unknown", "System", ["Device"], given, "R4", /^spec\.types: the source cannot search Device/],
    [
      "not of the compartment",
      "Patient",
      ["NutritionIntake"],
      given,
      "R4",
      /^spec\.types: NutritionIntake is not in the Patient compartment of FHIR R4/,
    ],
    ["of the compartment in R5", "Patient", ["NutritionIntake"], given, "R5", ["NutritionIntake"]],
  ];
  for (const [name, level, types, searchable, release, chosen] of cases)
    test(name, () => {
      const choose = () => chooseTypes({ level, types }, new Set(searchable), release);
      if (chosen instanceof RegExp)
        assert.throws(
          choose,
          (error) => error instanceof FailureError && error.class === "terminal" && chosen.test(error.message),
        );
      else assert.deepEqual(choose(), chosen);
    });
});
