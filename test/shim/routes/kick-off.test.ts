import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { terminal, waiting } from "../../../src/failure.ts";
import { source, target, types } from "../known.ts";
import { headers, name, shim } from "../memory.ts";
import { isOutcome, started } from "../responses.ts";

suite("kick-off", () => {
  const routes: Record<string, { url: string; spec: object; request?: string }> = {
    system: { url: "/$export", spec: { level: "System" } },
    "system, encoded": { url: "/%24export", spec: { level: "System" } },
    Patient: { url: "/Patient/$export", spec: { level: "Patient" } },
    Group: { url: "/Group/g-1/%24export", spec: { level: "Group", groupId: "g-1" } },
    "with the public path": {
      url: "/fhir/$export",
      spec: { level: "System" },
      request: "https://example.org/fhir/$export",
    },
    "with parameters": {
      url: "/$export?_type=Patient&_typeFilter=Patient%3Fgender%3Dfemale%24&_container=export-a",
      spec: { level: "System", types: ["Patient"], typeFilters: ["Patient?gender=female$"], container: "export-a" },
    },
  };
  for (const [title, { url, spec, request = `https://example.org/fhir${url}` }] of Object.entries(routes))
    test(`${title}: one object, 202, absolute Content-Location, no body`, async () => {
      const { get, store } = shim();
      const response = await get(url, headers);
      assert.equal(response.statusCode, 202);
      assert.equal(response.headers["content-location"], `https://example.org/fhir/_operations/export/${name}`);
      assert.equal(response.body, "");
      assert.deepEqual(
        [...store.objects.values()].map((object) => object.spec),
        [
          {
            sourceRef: { name: "hospital" },
            targetRef: { name: "research" },
            ...spec,
            origin: { client: "anonymous", request },
          },
        ],
      );
    });

  test("lenient: the dropped parameter goes into the object as a warning", async () => {
    const { get, store } = shim();
    assert.equal(
      (await get("/$export?_foo=1", { ...headers, prefer: "respond-async, handling=lenient" })).statusCode,
      202,
    );
    assert.deepEqual(store.objects.get(name)!.spec.origin!.warnings, [
      "the parameter _foo is not supported and was ignored",
    ]);
  });

  const refusals: Record<
    string,
    { method?: "HEAD" | "POST" | "PUT"; url: string; headers?: Record<string, string>; status: number }
  > = {
    "no Prefer": { url: "/$export", headers: { accept: "*/*" }, status: 400 },
    "unknown parameter": { url: "/$export?_foo=1", status: 400 },
    "malformed Group id": { url: "/Group/a%20b/$export", status: 400 },
    "malformed path": { url: "/Group/%zz/$export", status: 400 },
    "another type": { url: "/Observation/$export", status: 404 },
    "one patient": { url: "/Patient/1/$export", status: 404 },
    "a very long URL": { url: `/$export?_type=${"A".repeat(16_384)}`, status: 414 },
    "POST without a body": { method: "POST", url: "/$export", status: 415 },
    "PUT on Group": { method: "PUT", url: "/Group/1/$export", status: 405 },
  };
  for (const [title, { method = "GET", url, headers: given = headers, status }] of Object.entries(refusals))
    test(`${title}: ${status}, OperationOutcome, nothing made`, async () => {
      const { app, store } = shim();
      const response = await app.inject({ method, url, headers: given });
      assert.equal(response.statusCode, status);
      isOutcome(response);
      assert.equal(store.objects.size, 0);
    });

  for (const url of ["/$export", "/Patient/$export", "/Group/1/$export"])
    test(`HEAD ${url} starts nothing`, async () => {
      const { app, store } = shim();
      assert.equal((await app.inject({ method: "HEAD", url, headers })).statusCode, 405);
      assert.equal(store.objects.size, 0);
    });

  test("a refusal of the object by the API server is told to the client", async () => {
    const { get, store } = shim();
    store.fails = terminal("UnsupportedParameter", "spec: since must be before until");
    const response = await get("/$export", headers);
    assert.equal(response.statusCode, 400);
    assert.match(isOutcome(response).issue[0]!.diagnostics, /since must be before until/);
  });

  for (const [title, error] of Object.entries({
    "the API server does not answer": waiting("Internal", "secret-host is away"),
    "a bug": new TypeError("patient p-1 of undefined"),
  }))
    test(`${title}: 503 with Retry-After, and no details`, async () => {
      const { get, store } = shim();
      store.fails = error;
      const response = await get("/$export", headers);
      assert.equal(response.statusCode, 503);
      assert.equal(response.headers["retry-after"], "10");
      isOutcome(response);
      assert.doesNotMatch(response.body, /secret-host|p-1/);
    });

  test("a name that is taken makes no second object and no wrong Content-Location", async () => {
    const { get, store } = await started();
    assert.equal((await get("/$export", headers)).statusCode, 503);
    assert.equal(store.objects.size, 1);
  });
});

suite("a kick-off over HTTP", () => {
  const known = { source, target, types };
  test("is checked against the source and the target, all faults at once", async () => {
    const { get, store } = shim({ known });
    const response = await get("/Patient/$export?_type=Organization,Foo&_container=private", headers);
    assert.equal(response.statusCode, 400);
    assert.equal(response.json().issue.length, 3);
    assert.equal(store.objects.size, 0);
  });

  test("gets the administrator's fields, and nobody else's", async () => {
    const { get, store } = shim({
      settings: "exports: { ttlSecondsAfterFinished: 60, deletionPolicy: Delete, output: { compression: Gzip } }",
    });
    await get("/$export", headers);
    const { spec } = store.objects.get(name)!;
    assert.deepEqual(
      [spec.ttlSecondsAfterFinished, spec.deletionPolicy, spec.output],
      [60, "Delete", { compression: "Gzip" }],
    );
    for (const field of ["deletionPolicy", "spec.cancel", "origin", "priority", "__proto__"])
      assert.equal((await shim().get(`/$export?${field}=1`, headers)).statusCode, 400, field);
  });

  test("is narrowed to what the settings allow", async () => {
    const { get, store } = shim({ known, settings: "allow: { types: [Patient, Basic], groups: [study-*] }" });
    assert.equal((await get("/$export?_type=Observation", headers)).statusCode, 403);
    assert.equal((await get("/Group/other/$export", headers)).statusCode, 403);
    assert.equal((await get("/Group/study-1/$export", headers)).statusCode, 202);
    assert.deepEqual(store.objects.get(name)!.spec.types, ["Patient"]);
    assert.equal(
      (await shim({ known, settings: "allow: { types: [Basic] }" }).get("/$export", headers)).statusCode,
      403,
      "nothing is left",
    );
  });

  test("needs no headers where the settings assume them", async () => {
    assert.equal((await shim({ settings: "accept: Assumed\nprefer: Assumed" }).get("/$export")).statusCode, 202);
    assert.equal((await shim().get("/$export")).statusCode, 400);
  });

  test("with an Idempotency-Key makes one export; another kick-off with the same key is refused", async () => {
    const { get, store } = shim();
    const keyed = { ...headers, "idempotency-key": "k-1" };
    const [first, second] = [await get("/$export?_type=Patient", keyed), await get("/$export?_type=Patient", keyed)];
    assert.deepEqual([first.statusCode, second.statusCode, store.objects.size], [202, 202, 1]);
    assert.equal(first.headers["content-location"], second.headers["content-location"]);
    assert.equal((await get("/$export", keyed)).statusCode, 422);
    assert.equal((await get("/$export", { ...headers, "idempotency-key": "" })).statusCode, 400);
    [...store.objects.values()][0]!.spec.cancel = true;
    assert.equal((await get("/$export?_type=Patient", keyed)).statusCode, 409);
  });
});
