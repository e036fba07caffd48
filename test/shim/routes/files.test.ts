import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { condition, files, statusURL } from "../memory.ts";
import { complete, isOutcome, started } from "../responses.ts";

suite("files", () => {
  for (const path of ["Patient-0001-1.ndjson", "errors/OperationOutcome-Patient-0001-1.ndjson"])
    test(`${path} as NDJSON`, async () => {
      const { get } = await started(complete);
      const response = await get(`${statusURL}/files/${path}`);
      assert.equal(response.statusCode, 200);
      assert.equal(response.headers["content-type"], "application/fhir+ndjson");
      assert.equal(response.headers["content-length"], files[path]!.length.toString());
      assert.equal(response.body, files[path]);
    });

  for (const path of [
    "manifest.json",
    "_work/plan.json",
    "Patient-0001-2.ndjson",
    "errors%2f..%2fPatient-0001-1.ndjson",
    "..%2f_work%2fplan.json",
    "%2e%2e/manifest.json",
    "/etc/passwd",
    "",
  ])
    test(`"${path}" is not a file of the export: 404`, async () => {
      const { get } = await started(complete);
      const response = await get(`${statusURL}/files/${path}`);
      assert.equal(response.statusCode, 404);
      isOutcome(response);
    });

  test("before the export is complete: 404", async () => {
    const { get } = await started({ conditions: [condition("Ready", "False", "Running")] });
    assert.equal((await get(`${statusURL}/files/Patient-0001-1.ndjson`)).statusCode, 404);
  });

  test("a listed file that storage has lost: 503", async () => {
    const { get } = await started(complete);
    await get(statusURL);
    const kept = files["Patient-0001-1.ndjson"]!;
    delete files["Patient-0001-1.ndjson"];
    try {
      assert.equal((await get(`${statusURL}/files/Patient-0001-1.ndjson`)).statusCode, 503);
    } finally {
      files["Patient-0001-1.ndjson"] = kept;
    }
  });
});
