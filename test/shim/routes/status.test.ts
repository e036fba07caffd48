import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { terminal, waiting } from "../../../src/failure.ts";
import { condition, name, shim, statusURL } from "../memory.ts";
import { complete, isOutcome, started } from "../responses.ts";

suite("status", () => {
  test("running: 202 with X-Progress and Retry-After", async () => {
    const { get } = await started({ conditions: [condition("Ready", "False", "Running")], progress: { percent: 12 } });
    const response = await get(statusURL);
    assert.equal(response.statusCode, 202);
    assert.equal(response.headers["x-progress"], "12% running");
    assert.equal(response.headers["retry-after"], "1");
    assert.equal(response.body, "");
  });

  test("complete: the manifest from storage, urls rewritten, read once", async () => {
    const { get, opened } = await started({ ...complete, expirationTime: "2026-03-08T12:00:00Z" });
    const response = await get(`/fhir${statusURL}`);
    assert.equal(response.statusCode, 200);
    assert.match(String(response.headers["content-type"]), /^application\/json/);
    assert.equal(response.headers.expires, "Sun, 08 Mar 2026 12:00:00 GMT");
    const prefix = `https://example.org/fhir${statusURL}/files/`;
    assert.deepEqual(
      response.json().output.map((item: { url: string }) => item.url),
      [`${prefix}Patient-0001-1.ndjson`],
    );
    assert.deepEqual(
      response.json().error.map((item: { url: string }) => item.url),
      [`${prefix}errors/OperationOutcome-Patient-0001-1.ndjson`],
    );
    assert.equal((await get(statusURL)).statusCode, 200);
    assert.equal(opened.count, 1);
  });

  test("complete, while storage does not answer: 503, and 200 afterwards", async () => {
    const { get, opened } = await started(complete);
    opened.fails = waiting("TargetUnreachable", "away");
    const response = await get(statusURL);
    assert.equal(response.statusCode, 503);
    isOutcome(response);
    delete opened.fails;
    assert.equal((await get(statusURL)).statusCode, 200);
  });

  test("a storage that refuses the service's credentials is a 503, not a failed export", async () => {
    const { get, opened } = await started(complete);
    opened.fails = terminal("TargetUnauthorized", "storage refuses");
    assert.equal((await get(statusURL)).statusCode, 503);
  });

  test("failed for a reason that the client can mend: 422", async () => {
    const { get } = await started({
      conditions: [
        condition("Failed", "True", "UnknownGroup", "no such Group"),
        condition("Stalled", "True", "Failed"),
      ],
    });
    const response = await get(statusURL);
    assert.equal(response.statusCode, 422);
    assert.match(isOutcome(response).issue[0]!.diagnostics, /no such Group/);
  });

  test("unknown: 404", async () => {
    const response = await shim().get(statusURL);
    assert.equal(response.statusCode, 404);
    isOutcome(response);
  });
});

suite("DELETE", () => {
  for (const type of ["application/fhir+json", "application/json", "text/plain"])
    test(`with Content-Type ${type} and no body, as FHIR clients send it`, async () => {
      const { app } = await started();
      assert.equal(
        (await app.inject({ method: "DELETE", url: statusURL, headers: { "content-type": type } })).statusCode,
        202,
      );
    });

  for (const [title, status] of Object.entries({ running: {}, complete }))
    test(`${title}: 202, then everything below is 404`, async () => {
      const { app, get, store } = await started(status);
      const response = await app.inject({ method: "DELETE", url: statusURL });
      assert.equal(response.statusCode, 202);
      assert.equal(response.body, "");
      assert.equal(store.objects.get(name)!.spec.cancel, true);
      for (const gone of [
        await get(statusURL),
        await get(`${statusURL}/files/Patient-0001-1.ndjson`),
        await app.inject({ method: "DELETE", url: statusURL }),
      ]) {
        assert.equal(gone.statusCode, 404);
        isOutcome(gone);
      }
    });

  test("not started by $export: 404, and not cancelled", async () => {
    const { app, store } = shim();
    await store.create({ metadata: { name: "nightly" }, spec: { sourceRef: { name: "s" }, targetRef: { name: "t" } } });
    const response = await app.inject({ method: "DELETE", url: "/_operations/export/nightly" });
    assert.equal(response.statusCode, 404);
    assert.equal(store.objects.get("nightly")!.spec.cancel, undefined);
  });
});
