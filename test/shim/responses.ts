// What the tests of routes share: a shim with an export, and the shape of errors.
import assert from "node:assert/strict";
import type { FhirExport } from "../../src/api/fhirexport.gen.ts";
import { condition, headers, name, type Shim, shim } from "./memory.ts";

/** A shim with one export, whose status is this. */
export async function started(status: FhirExport["status"] = {}): Promise<Shim> {
  const made = shim();
  await made.get("/$export", headers);
  Object.assign(made.store.objects.get(name)!, { status });
  return made;
}
export const complete = {
  conditions: [condition("Ready", "True", "Complete"), condition("Complete", "True", "Complete")],
};

/** Asserts that a response has an OperationOutcome, with the same text twice and without a stack, and returns that. */
export const isOutcome = (response: { headers: Record<string, unknown>; json(): unknown; body: string }) => {
  assert.match(String(response.headers["content-type"]), /^application\/fhir\+json/);
  const outcome = response.json() as {
    resourceType: string;
    issue: { details: { text: string }; diagnostics: string }[];
  };
  assert.equal(outcome.resourceType, "OperationOutcome");
  assert.ok(outcome.issue[0]!.details.text);
  assert.equal(outcome.issue[0]!.diagnostics, outcome.issue[0]!.details.text);
  assert.doesNotMatch(response.body, /\.ts:\d|node_modules/);
  return outcome;
};
