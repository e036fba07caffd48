import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { shim } from "./memory.ts";
import { isOutcome } from "./responses.ts";

suite("the app", () => {
  test("health and readiness", async () => {
    const { get } = shim();
    assert.equal((await get("/healthz")).body, "ok");
    assert.equal((await get("/readyz")).statusCode, 200);
  });

  test("anything else is a 404 OperationOutcome", async () => {
    const response = await shim().get("/Patient/1");
    assert.equal(response.statusCode, 404);
    isOutcome(response);
  });
});
