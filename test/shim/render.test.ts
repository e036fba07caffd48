import assert from "node:assert/strict";
import { suite, test } from "node:test";
import type { FhirExport, FhirExportStatus } from "../../src/api/fhirexport.gen.ts";
import type { HttpAnswer, OperationOutcome } from "../../src/shim/outcome.ts";
import { renderServedManifest, renderStatus, separately } from "../../src/shim/render.ts";
import type { Manifest } from "../../src/sink/manifest.ts";

const now = new Date("2026-03-01T12:00:10Z");
type Conditions = Record<string, [status: "True" | "False" | "Unknown", reason: string, message?: string]>;
const conditions = (all: Conditions): NonNullable<FhirExportStatus["conditions"]> =>
  Object.entries(all).map(([type, [status, reason, message = ""]]) => ({
    type,
    status,
    reason,
    message,
    lastTransitionTime: "2026-03-01T12:00:00Z",
  }));
const object = (
  all: Conditions,
  status: FhirExportStatus = {},
  spec: Partial<FhirExport["spec"]> = {},
): FhirExport => ({
  metadata: { name: "export-a", uid: "u", creationTimestamp: "2026-03-01T12:00:00Z" },
  spec: { sourceRef: { name: "s" }, targetRef: { name: "t" }, origin: { client: "c", request: "r" }, ...spec },
  status: { ...status, conditions: conditions(all) },
});

suite("status of an export that goes on is 202", () => {
  const running: Conditions = { Ready: ["False", "Running"], Reconciling: ["True", "Running"] };
  const cases: Record<string, { object: FhirExport; progress: string; retryAfter?: string }> = {
    "no status yet": { object: { ...object({}), status: { observedGeneration: -1 } }, progress: "0% waiting" },
    queued: {
      object: object({ Ready: ["Unknown", "Queued"] }, { queuePosition: 3 }),
      progress: "0% queued at place 3",
    },
    running: {
      object: object(running, { progress: { percent: 42, resources: 420, expectedResources: 1000 } }),
      progress: "42% running, 420 of 1000 resources",
    },
    "planning, and the source is away": {
      object: object({
        Ready: ["Unknown", "Planning", "asking; SourceUnreachable: m"],
        Reconciling: ["True", "SourceUnreachable", "SourceUnreachable: m"],
      }),
      progress: "0% planning: SourceUnreachable: m",
    },
    "a long cause in other letters is cut": {
      object: object(
        {
          Ready: ["Unknown", "Running", "exporting"],
          Reconciling: ["True", "Blocked", `it is blocked: \u00e4\n${"x".repeat(99)}`],
        },
        { progress: { percent: 42, resources: 420, expectedResources: 1000 } },
      ),
      progress: `42% running, 420 of 1000 resources: it is blocked: ?${"x".repeat(44)}...`,
    },
    "what goes on has no cause": {
      object: object({ Ready: ["Unknown", "Planning", "m"], Reconciling: ["True", "Planning", "m"] }),
      progress: "0% planning",
    },
    "long since running": {
      object: { ...object(running), metadata: { name: "export-a", creationTimestamp: "2026-02-01T12:00:00Z" } },
      progress: "0% running",
      retryAfter: "60",
    },
    "nearly there": {
      object: {
        ...object(running, { progress: { percent: 99, estimatedCompletionTime: "2026-03-01T12:00:13Z" } }),
        metadata: { name: "export-a", creationTimestamp: "2026-02-01T12:00:00Z" },
      },
      progress: "99% running",
      retryAfter: "3",
    },
    "estimate long past": {
      object: object(running, { progress: { percent: 99, estimatedCompletionTime: "2026-03-01T11:00:00Z" } }),
      progress: "99% running",
    },
    "failed before and tried again": {
      object: object({ ...running, Failed: ["True", "SourceUnreachable"] }, {}, { retry: 1 }),
      progress: "0% running",
    },
  };
  for (const [name, { object, progress, retryAfter = "1" }] of Object.entries(cases))
    test(name, () =>
      assert.deepEqual(renderStatus(object, now), {
        status: 202,
        headers: { "x-progress": progress, "retry-after": retryAfter },
      }),
    );
});

suite("an export that failed", () => {
  const failed = (reason: string, message = "mend it"): Conditions => ({
    Ready: ["False", "Failed"],
    Stalled: ["True", reason, message],
    Accepted: ["True", "Accepted"],
    Failed: ["True", reason, message],
  });
  const refused = (reason: string, message = "mend it"): Conditions => ({
    Ready: ["False", "Refused"],
    Stalled: ["True", reason, message],
    Accepted: ["False", reason, message],
    Failed: ["True", "Refused", "refused"],
  });
  const cases: Record<string, { all: Conditions; status: number; code: string }> = {
    "by an unknown Group is the client's": { all: failed("UnknownGroup"), status: 422, code: "not-found" },
    "by an invalid filter is the client's": { all: failed("InvalidFilter"), status: 422, code: "invalid" },
    "by an unknown type is the client's": { all: failed("UnknownType"), status: 422, code: "not-supported" },
    "by an unsupported parameter is the client's": {
      all: failed("UnsupportedParameter"),
      status: 422,
      code: "not-supported",
    },
    "refused for its container is the client's": { all: refused("InvalidContainer"), status: 422, code: "invalid" },
    "by source credentials is ours": { all: failed("SourceUnauthorized"), status: 500, code: "processing" },
    "by a cause we do not know is ours": { all: failed("Whatever"), status: 500, code: "processing" },
  };
  for (const [name, { all, status, code }] of Object.entries(cases))
    test(name, () => {
      const answer = renderStatus(object(all), now);
      assert.ok(answer !== "complete");
      assert.equal(answer.status, status);
      assert.match(answer.headers["content-type"]!, /^application\/fhir\+json/);
      const [issue] = (answer.body as OperationOutcome).issue;
      assert.equal(issue!.code, code);
      assert.match(issue!.details.text, /mend it/);
      assert.equal(issue!.diagnostics, issue!.details.text);
    });
});

suite("what is not there is 404", () => {
  const complete: Conditions = { Ready: ["True", "Complete"], Complete: ["True", "Complete"] };
  const cases: Record<string, FhirExport | undefined> = {
    "no object": undefined,
    "not started by $export": { ...object(complete), spec: { sourceRef: { name: "s" }, targetRef: { name: "t" } } },
    "cancelled, still stopping": object({ Ready: ["False", "Cancelling"] }, {}, { cancel: true }),
    "complete and then deleted": object(complete, {}, { cancel: true }),
    "cancelled by other means": object({
      Ready: ["False", "Cancelled"],
      Cancelled: ["True", "Cancelled"],
      Stalled: ["True", "Cancelled"],
    }),
    "expired, its files still there for downloads that run": object(complete, {
      expirationTime: "2026-03-01T12:00:10Z",
    }),
    "being deleted": { ...object(complete), metadata: { name: "export-a", deletionTimestamp: "2026-03-01T12:00:00Z" } },
  };
  for (const [name, object] of Object.entries(cases))
    test(name, () => {
      const answer = renderStatus(object, now);
      assert.ok(answer !== "complete");
      assert.equal(answer.status, 404);
      assert.equal((answer.body as OperationOutcome).issue[0]!.code, "not-found");
    });

  test("but a complete export is there", () => assert.equal(renderStatus(object(complete), now), "complete"));
});

suite("the manifest", () => {
  const item = (type: string, path: string) => ({
    type,
    path,
    url: `https://account/x/${path}`,
    count: 2,
    fileSize: 9,
    sha256: "aa",
  });
  const stored: Manifest = {
    transactionTime: "2026-03-01T11:59:59.999Z",
    request: "https://example.org/$export",
    requiresAccessToken: true,
    outputFormat: "application/fhir+ndjson",
    output: [item("Patient", "Patient-0001-1.ndjson")],
    deleted: [],
    error: [item("OperationOutcome", "errors/O-1.ndjson")],
    extension: { "fhirexport.dev/exact": true, "fhirexport.dev/errors": 1 },
  };

  test("shows files below the status URL and keeps the rest", () => {
    const { status, headers, body } = renderServedManifest(
      stored,
      "https://example.org/_operations/export/export-a",
      object({}),
    );
    assert.equal(status, 200);
    assert.equal(headers["content-type"], "application/json");
    assert.equal(headers.expires, undefined);
    assert.deepEqual(body, {
      ...stored,
      requiresAccessToken: false,
      output: [
        { ...stored.output[0], url: "https://example.org/_operations/export/export-a/files/Patient-0001-1.ndjson" },
      ],
      error: [{ ...stored.error[0], url: "https://example.org/_operations/export/export-a/files/errors/O-1.ndjson" }],
    });
  });

  test("Azure's has bare storage URLs", () => {
    assert.deepEqual(renderServedManifest(stored, undefined, object({})).body, {
      ...stored,
      requiresAccessToken: false,
    });
  });

  test("R160: says that files need a token, where they do", () =>
    assert.equal(
      (renderServedManifest(stored, "https://e", object({}), true).body as Manifest).requiresAccessToken,
      true,
    ));

  test("says when it expires", () =>
    assert.equal(
      renderServedManifest(stored, "https://e", object({}, { expirationTime: "2026-03-08T12:00:00Z" })).headers.expires,
      "Sun, 08 Mar 2026 12:00:00 GMT",
    ));
});

suite("separate-export-status", () => {
  const cases: [HttpAnswer, number, string | undefined][] = [
    [{ status: 202, headers: {} }, 200, "202 Accepted"],
    [{ status: 200, headers: {}, body: {} }, 200, "200 OK"],
    [{ status: 500, headers: {}, body: {} }, 200, "500 Internal Server Error"],
    [{ status: 422, headers: {}, body: {} }, 200, "422 Unprocessable Entity"],
    [{ status: 404, headers: {}, body: {} }, 404, undefined],
  ];
  for (const [answer, status, told] of cases)
    test(`${answer.status}`, () => {
      const shown = separately(answer);
      assert.deepEqual([shown.status, shown.headers["x-export-status"], shown.body], [status, told, answer.body]);
    });
});
