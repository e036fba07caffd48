import assert from "node:assert/strict";
import { suite, test } from "node:test";
import type { Known } from "../../src/shim/catalog.ts";
import type { SpecParts } from "../../src/shim/parameters.ts";
import { checkAgainstCatalog, exportableTypes } from "../../src/shim/permit.ts";
import { source, target, types } from "./known.ts";

suite("what the source and the target allow", () => {
  const texts = (known: Known, spec: SpecParts) =>
    checkAgainstCatalog(known, spec, false).issues.map(({ text }) => text);
  test("nothing is wrong", () =>
    assert.deepEqual(
      texts({ source, target, types }, { level: "Patient", types: ["Patient"], container: "export-a" }),
      [],
    ));
  test("R63: types that the server cannot search", () =>
    assert.deepEqual(texts({ source, types }, { level: "System", types: ["Patient", "Foo"] }), [
      "_type: the FHIR server cannot search Foo; remove it from _type",
    ]));
  test("R107: types outside the compartment", () =>
    assert.match(
      texts({ source, types }, { level: "Group", types: ["Organization"] })[0]!,
      /Organization is not in the Patient compartment/,
    ));
  test("a container that is not allowed", () =>
    assert.match(
      texts({ source, target }, { level: "System", container: "private" })[0]!,
      /_container: the target allows only these containers: export-\*/,
    ));
  test("what is not known is not checked", () =>
    assert.deepEqual(texts({}, { level: "System", types: ["Foo"], container: "private" }), []));
  test("R69: lenient drops types that cannot be exported, and says so; but not the last one", () => {
    const { spec, issues, warnings } = checkAgainstCatalog(
      { source, types },
      { level: "Patient", types: ["Foo", "Patient", "Organization"], typeFilters: ["Foo?a=b", "Patient?active=true"] },
      true,
    );
    assert.deepEqual(
      [spec, issues],
      [{ level: "Patient", types: ["Patient"], typeFilters: ["Patient?active=true"] }, []],
    );
    assert.equal(warnings.length, 2);
    assert.match(warnings[0]!, /cannot search Foo; it was ignored/);
    assert.equal(checkAgainstCatalog({ source, types }, { level: "System", types: ["Foo"] }, true).issues.length, 1);
  });
  test("allowed types are narrowed to what is there", () => {
    assert.deepEqual(exportableTypes(["Patient", "Foo", "Organization"], "System", types), ["Patient", "Organization"]);
    assert.deepEqual(exportableTypes(["Patient", "Foo", "Organization"], "Patient", types), ["Patient"]);
    assert.deepEqual(exportableTypes(["Patient", "Condition"], "Group", undefined), ["Patient", "Condition"]);
  });
});
