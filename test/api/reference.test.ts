import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { referencePath, renderReference } from "../tools/api-reference.ts";
import { allReasons, conditionTypes, reasonsOfOperator } from "../tools/reasons.ts";

test("docs/api.md is what crds/ and the operator's conditions make (npm run generate)", () => {
  assert.equal(readFileSync(referencePath, "utf8"), renderReference());
});

test("it names every condition and every reason of one", () => {
  const text = renderReference();
  assert.deepEqual(
    conditionTypes.filter((type) => !text.includes(type)),
    [],
  );
  assert.deepEqual(
    allReasons().filter((reason) => !text.includes(reason)),
    [],
  );
});

test("reasons are found in the code: of each kind one that is known", () => {
  const { end, refused, purge, event, validity, own } = reasonsOfOperator();
  assert.ok(end.includes("DeadlineExceeded") && end.includes("SourceUnreachable"));
  assert.deepEqual(refused, ["DifferentServiceAccounts", "InvalidContainer", "InvalidFilter"]);
  assert.ok(purge.includes("ObjectsLeft"));
  assert.deepEqual(event, ["OutputKept"]);
  assert.deepEqual(validity, [
    { reason: "Valid", status: "True" },
    { reason: "Invalid", status: "False" },
  ]);
  assert.ok(own.some(({ type, status, reason }) => type === "Exact" && status === "False" && reason === "NotExact"));
});
