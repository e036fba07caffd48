import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Referred } from "../../../src/fhir/references.ts";
import { byTargets, isReadLast } from "../../../src/worker/read/provenance.ts";

const exported = new Set(["Observation/a", "Patient/p"]);
const to = (key: string): Referred => {
  const [type, id] = key.split("/") as [string, string];
  return { type, id };
};
const unclear: Referred = { unclear: {} };

describe("a Provenance by its targets", () => {
  const cases: [name: string, targets: Referred[], is: "in" | "out" | "left"][] = [
    ["one that is exported", [to("Observation/a")], "in"],
    ["one of several", [to("Observation/b"), to("Observation/a")], "in"],
    ["the same id, another type", [to("Patient/a")], "out"],
    ["none that is exported", [to("Observation/b"), to("Device/a")], "out"],
    ["a contained one", ["none"], "out"],
    ["no target", [], "out"],
    ["one that nobody can tell", [to("Observation/b"), unclear], "left"],
    ["one that nobody can tell, beside one that is exported", [unclear, to("Observation/a")], "in"],
  ];
  for (const [name, targets, is] of cases)
    test(name, () =>
      assert.equal(
        byTargets(targets, (type, id) => exported.has(`${type}/${id}`)),
        is,
      ),
    );

  test("it is read last at Patient and Group level, as no other type is", () => {
    assert.deepEqual(
      (["System", "Patient", "Group"] as const).map((level) => isReadLast({ level }, "Provenance")),
      [false, true, true],
    );
    assert.equal(isReadLast({ level: "Patient" }, "Observation"), false);
  });
});
