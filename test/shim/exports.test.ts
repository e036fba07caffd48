import assert from "node:assert/strict";
import { suite, test } from "node:test";
import type { FhirExport } from "../../src/api/fhirexport.gen.ts";
import { FailureError } from "../../src/failure.ts";
import type { KubeClient } from "../../src/kube/client.ts";
import { KubeError } from "../../src/kube/error.ts";
import { KubeExports } from "../../src/kube/exports.ts";

const name = `export-${"a".repeat(26)}`;
const spec = { sourceRef: { name: "s" }, targetRef: { name: "t" } };

/** @param calls what the client's methods do; a call of any other fails the test */
function exportsOver(calls: Partial<Record<"create" | "get" | "patch", () => Promise<unknown>>>) {
  const cache = new Map<string, FhirExport>();
  return {
    cache,
    exports: new KubeExports(
      calls as unknown as KubeClient,
      "n",
      (key) => cache.get(key),
      () => cache.values(),
    ),
  };
}
const object = (more: Partial<FhirExport["spec"]> = {}): FhirExport => ({
  metadata: { name },
  spec: { ...spec, ...more },
});

suite("answers of the API server to a kick-off", () => {
  const cases: Record<string, { error: KubeError; kind: string; message: RegExp }> = {
    "invalid is the client's, and only fields are told": {
      error: new KubeError("POST /x", 422, {
        reason: "Invalid",
        message: "p-1",
        details: { causes: [{ field: "spec.since", message: "p-1" }] },
      }),
      kind: "terminal",
      message: /^the export is not valid: spec\.since$/,
    },
    "forbidden (a right, a quota) is ours": {
      error: new KubeError("POST /x", 403, { reason: "Forbidden" }),
      kind: "waiting",
      message: /403/,
    },
    "no answer is ours": {
      error: new KubeError("POST /x", 0, { reason: "Unreachable" }),
      kind: "transient",
      message: /no answer/,
    },
  };
  for (const [title, { error, kind, message }] of Object.entries(cases))
    test(title, async () => {
      const { exports } = exportsOver({ create: () => Promise.reject(error) });
      await assert.rejects(
        exports.create({ metadata: { name }, spec }),
        (thrown) => thrown instanceof FailureError && thrown.class === kind && message.test(thrown.message),
      );
    });

  test("with a name that is taken, no object is made", async () => {
    const { exports } = exportsOver({
      create: () => Promise.reject(new KubeError("POST /x", 409, { reason: "AlreadyExists" })),
    });
    assert.equal(await exports.create({ metadata: { name }, spec }), undefined);
  });
});

suite("writes of this replica count before the watch shows them", () => {
  test("a new object is found without a call; once the watch has it, the watch's copy counts", async () => {
    const { exports, cache } = exportsOver({ create: async () => object() });
    await exports.create({ metadata: { name }, spec });
    assert.deepEqual(await exports.get(name), object());
    cache.set(`n/${name}`, object({ priority: 1 }));
    exports.seen(`n/${name}`);
    assert.equal((await exports.get(name))?.spec.priority, 1);
  });

  test("a cancel is seen although the watch's copy is older", async () => {
    const { exports, cache } = exportsOver({ patch: async () => object() });
    cache.set(`n/${name}`, object());
    await exports.cancel(name);
    exports.seen(`n/${name}`);
    assert.equal((await exports.get(name))?.spec.cancel, true);
    assert.deepEqual(
      [...exports.list()].map(({ spec }) => spec.cancel),
      [true],
    );
  });

  test("an object that the watch does not have is read from the API server before it counts as missing", async () => {
    let reads = 0;
    const { exports } = exportsOver({
      get: async () => {
        reads += 1;
        return reads === 1 ? object() : Promise.reject(new KubeError("GET /x", 404, { reason: "NotFound" }));
      },
    });
    assert.deepEqual(await exports.get(name), object());
    assert.equal(await exports.get(name), undefined);
  });

  test("a name that the service cannot have given costs no call", async () => {
    const { exports } = exportsOver({});
    assert.equal(await exports.get("nightly"), undefined);
  });
});
