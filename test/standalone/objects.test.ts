import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, suite, test } from "node:test";
import { parse } from "yaml";
import type { FhirExport } from "../../src/api/fhirexport.gen.ts";
import { type Crd, createValidator } from "../../src/api/validate.ts";
import { FailureError } from "../../src/failure.ts";
import { openDatabase } from "../../src/standalone/database.ts";
import { Objects } from "../../src/standalone/objects.ts";
import { cases } from "../api/objects.ts";

const crds: Crd[] = ["fhirexports", "fhirsources", "exporttargets"].map((name) =>
  parse(readFileSync(`crds/${name}.yaml`, "utf8")),
);
const validate = createValidator(crds);
const spec = { sourceRef: { name: "s" }, targetRef: { name: "t" } };

let folder: string;
let database: ReturnType<typeof openDatabase>;
let objects: Objects;
const open = () => {
  database = openDatabase(folder);
  objects = new Objects(database, validate);
};
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "fhir-export-objects-"));
  open();
});
afterEach(async () => {
  database.close();
  await rm(folder, { recursive: true });
});
const create = (name = "a", more: Partial<FhirExport["spec"]> = {}) =>
  objects.create("FhirExport", { metadata: { name }, spec: { ...spec, ...more } })!;
const isClass = (kind: string) => (error: unknown) => error instanceof FailureError && error.class === kind;

suite("objects are kept as an API server keeps them", () => {
  test("a new object gets uid, time, generation and defaults", () => {
    const { metadata, spec, status } = create();
    assert.match(metadata.uid!, /^[0-9a-f-]{36}$/);
    assert.ok(Math.abs(Date.parse(metadata.creationTimestamp!) - Date.now()) < 5000);
    assert.deepEqual(
      [metadata.generation, metadata.namespace, spec.level, spec.parallelism],
      [1, "standalone", "System", 4],
    );
    assert.deepEqual(status, { observedGeneration: -1 });
    assert.deepEqual(objects.get("FhirExport", "a"), {
      apiVersion: "fhirexport.dev/v1alpha1",
      kind: "FhirExport",
      metadata,
      spec,
      status,
    });
  });

  test("nothing is made under a name that is taken", () => {
    const first = create();
    assert.equal(
      objects.create("FhirExport", { metadata: { name: "a" }, spec: { ...spec, level: "Patient" } }),
      undefined,
    );
    assert.deepEqual(objects.get("FhirExport", "a"), first);
  });

  test("objects outlive the process, and resource versions continue", () => {
    const first = create();
    database.close();
    open();
    assert.deepEqual(objects.get("FhirExport", "a"), first);
    assert.ok(Number(create("b").metadata.resourceVersion) > Number(first.metadata.resourceVersion));
  });

  test("generation grows with spec only, resourceVersion with every change, and without a change nothing is written", () => {
    const first = create();
    const changed = objects.update("FhirExport", "a", (object) => void (object.spec.suspend = true));
    assert.equal(changed.metadata.generation, 2);
    const labelled = objects.update("FhirExport", "a", (object) => void (object.metadata.labels = { a: "b" }));
    assert.equal(labelled.metadata.generation, 2);
    const versions = [first, changed, labelled].map(({ metadata }) => Number(metadata.resourceVersion));
    assert.deepEqual(
      [...versions].sort((a, b) => a - b),
      versions,
    );
    assert.equal(new Set(versions).size, 3);
    assert.equal(
      objects.update("FhirExport", "a", () => {}).metadata.resourceVersion,
      labelled.metadata.resourceVersion,
    );
  });

  test("a writer of spec cannot change status, uid or name", () => {
    const { metadata } = create();
    const changed = objects.update("FhirExport", "a", (object) => {
      object.status = { observedGeneration: 99 };
      object.metadata.uid = "other";
      object.metadata.name = "other";
    });
    assert.deepEqual(
      [changed.status, changed.metadata.uid, changed.metadata.name],
      [{ observedGeneration: -1 }, metadata.uid, "a"],
    );
  });

  test("a status written from a stale object is a transient conflict", () => {
    const stale = create();
    objects.update("FhirExport", "a", (object) => void (object.spec.cancel = true));
    assert.throws(() => objects.updateStatus("FhirExport", stale, { observedGeneration: 1 }), isClass("transient"));
    const fresh = objects.updateStatus("FhirExport", objects.get("FhirExport", "a")!, { observedGeneration: 2 });
    assert.deepEqual(
      [fresh.status, fresh.spec.cancel, fresh.metadata.generation],
      [{ observedGeneration: 2 }, true, 2],
    );
  });

  test("a finalizer holds a deleted object until it is removed", () => {
    create();
    objects.update("FhirExport", "a", (object) => void (object.metadata.finalizers = ["x/y"]));
    objects.delete("FhirExport", "a");
    const { deletionTimestamp, resourceVersion } = objects.get("FhirExport", "a")!.metadata;
    assert.ok(deletionTimestamp);
    objects.delete("FhirExport", "a");
    assert.equal(objects.get("FhirExport", "a")!.metadata.resourceVersion, resourceVersion);
    objects.update("FhirExport", "a", (object) => void (object.metadata.finalizers = []));
    assert.equal(objects.get("FhirExport", "a"), undefined);
  });

  test("listeners are called for every change and for the removal", () => {
    const heard: string[] = [];
    objects.onChange((kind, object, gone) =>
      heard.push(`${kind} ${object.metadata.name} ${gone ? "gone" : object.metadata.generation}`),
    );
    create();
    objects.update("FhirExport", "a", (object) => void (object.spec.cancel = true));
    objects.update("FhirExport", "a", () => {});
    objects.delete("FhirExport", "a");
    assert.deepEqual(heard, ["FhirExport a 1", "FhirExport a 2", "FhirExport a gone"]);
  });

  test("the objects that are returned are copies", () => {
    create().spec.level = "Patient";
    objects.get("FhirExport", "a")!.spec.level = "Patient";
    assert.equal(objects.get("FhirExport", "a")!.spec.level, "System");
  });

  test("a second process on the same data is refused, and the first one is not disturbed", () => {
    assert.throws(() => openDatabase(folder), /another fhir-export standalone uses/);
    assert.ok(create());
  });
});

suite("the table of invalid objects", () => {
  for (const { case: what, kind, spec, old, name = "x", refused } of cases)
    test(`${kind}: ${what} is ${refused ? "refused" : "accepted"}`, () => {
      const write = () => {
        if (!old) return objects.create(kind, { metadata: { name }, spec: spec as never });
        return objects.update(kind, name, (object) => void (object.spec = structuredClone(spec) as never));
      };
      if (old) objects.create(kind, { metadata: { name }, spec: old as never });
      const before = objects.get(kind, name);
      if (!refused) return assert.ok(write());
      assert.throws(write, (error: Error) => isClass("terminal")(error) && refused.test(error.message));
      assert.deepEqual(objects.get(kind, name), before);
    });
});
