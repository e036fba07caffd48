import assert from "node:assert/strict";
import { suite, test } from "node:test";
import type { FhirExport } from "../../src/api/fhirexport.gen.ts";
import { terminal, waiting } from "../../src/failure.ts";
import { condition, files, headers, name, type Shim, shim, statusURL } from "./memory.ts";

async function started(status: FhirExport["status"] = {}): Promise<Shim> {
  const made = shim();
  await made.get("/$export", headers);
  Object.assign(made.store.objects.get(name)!, { status });
  return made;
}
const complete = { conditions: [condition("Ready", "True", "Complete"), condition("Complete", "True", "Complete")] };

const isOutcome = (response: { headers: Record<string, unknown>; json(): unknown; body: string }) => {
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

  test("what the API refuses is told", async () => {
    const { get, store } = shim();
    store.fails = terminal("UnsupportedParameter", "spec: since must be before until");
    const response = await get("/$export", headers);
    assert.equal(response.statusCode, 400);
    assert.match(isOutcome(response).issue[0]!.diagnostics, /since must be before until/);
  });

  for (const [title, error] of Object.entries({
    "the API is away": waiting("Internal", "secret-host is away"),
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

  test("complete, but storage is away: 503, and 200 when it is back", async () => {
    const { get, opened } = await started(complete);
    opened.fails = waiting("TargetUnreachable", "away");
    const response = await get(statusURL);
    assert.equal(response.statusCode, 503);
    isOutcome(response);
    delete opened.fails;
    assert.equal((await get(statusURL)).statusCode, 200);
  });

  test("a storage that refuses us is our trouble, not the export's", async () => {
    const { get, opened } = await started(complete);
    opened.fails = terminal("TargetUnauthorized", "storage refuses");
    assert.equal((await get(statusURL)).statusCode, 503);
  });

  test("failed for good by the client's doing: 422", async () => {
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

  test("before the export is whole: 404", async () => {
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

suite("the rest", () => {
  test("health and readiness", async () => {
    const { get } = shim();
    assert.equal((await get("/healthz")).body, "ok");
    assert.equal((await get("/readyz")).statusCode, 200);
  });

  test("the CapabilityStatement lists export at three levels and no read", async () => {
    const response = await shim().get("/metadata");
    assert.match(String(response.headers["content-type"]), /^application\/fhir\+json/);
    const { resourceType, fhirVersion, rest } = response.json();
    assert.deepEqual([resourceType, fhirVersion], ["CapabilityStatement", "4.0.1"]);
    assert.equal(rest[0].operation[0].name, "export");
    const operations = rest[0].resource.flatMap(
      ({ type, operation = [] }: { type: string; operation?: { name: string }[] }) =>
        operation.map(({ name }) => `${type} ${name}`),
    );
    assert.deepEqual(operations, ["Group export", "Patient export"]);
    assert.ok(rest[0].resource.every((one: object) => !("interaction" in one)));
  });

  test("anything else is a 404 OperationOutcome", async () => {
    const response = await shim().get("/Patient/1");
    assert.equal(response.statusCode, 404);
    isOutcome(response);
  });
});
