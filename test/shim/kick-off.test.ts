import assert from "node:assert/strict";
import { suite, test } from "node:test";
import type { FhirExport } from "../../src/api/fhirexport.gen.ts";
import { Catalog, type Reading } from "../../src/shim/catalog.ts";
import {
  checkKnown,
  exportName,
  idempotencyKey,
  kickOffDigest,
  narrowed,
  unfinished,
} from "../../src/shim/kick-off.ts";
import { condition, headers, name, shim } from "./memory.ts";

const source = { metadata: { name: "hospital" }, spec: { baseURL: "https://fhir.example/r4", auth: { none: {} } } };
const target = {
  metadata: { name: "research" },
  spec: {
    azureBlob: {
      accountURL: "https://a.blob.core.windows.net",
      auth: { workloadIdentity: { serviceAccountName: "x" } },
    },
  },
};
const types = new Set(["Patient", "Observation", "Organization"]);

suite("what the source and the target allow", () => {
  const texts = (known: Parameters<typeof checkKnown>[0], spec: Parameters<typeof checkKnown>[1]) =>
    checkKnown(known, spec).issues.map(({ text }) => text);
  test("nothing is wrong", () =>
    assert.deepEqual(
      texts({ source, target, types }, { level: "Patient", types: ["Patient"], container: "export-a" }),
      [],
    ));
  test("R63: types that the server cannot search", () =>
    assert.deepEqual(texts({ source, types }, { level: "System", types: ["Patient", "Foo"] }), [
      "_type: the FHIR server cannot search Foo",
    ]));
  test("R107: types outside the compartment", () =>
    assert.match(
      texts({ source, types }, { level: "Group", types: ["Organization"] })[0]!,
      /Organization is not in the Patient compartment/,
    ));
  test("a container that is not allowed", () =>
    assert.match(
      texts({ source, target }, { level: "System", container: "private" })[0]!,
      /_container: the target allows only these containers: export-\*/,
    ));
  test("what is not known is not checked", () =>
    assert.deepEqual(texts({}, { level: "System", types: ["Foo"], container: "private" }), []));
  test("R69: lenient drops types that cannot be had, and says so; but not the last one", () => {
    const warnings: string[] = [];
    const { spec, issues } = checkKnown(
      { source, types },
      { level: "Patient", types: ["Foo", "Patient", "Organization"], typeFilters: ["Foo?a=b", "Patient?active=true"] },
      warnings,
    );
    assert.deepEqual(
      [spec, issues],
      [{ level: "Patient", types: ["Patient"], typeFilters: ["Patient?active=true"] }, []],
    );
    assert.equal(warnings.length, 2);
    assert.match(warnings[0]!, /cannot search Foo; it was ignored/);
    assert.equal(checkKnown({ source, types }, { level: "System", types: ["Foo"] }, []).issues.length, 1);
  });
  test("allowed types are narrowed to what is there", () => {
    assert.deepEqual(narrowed(["Patient", "Foo", "Organization"], "System", types), ["Patient", "Organization"]);
    assert.deepEqual(narrowed(["Patient", "Foo", "Organization"], "Patient", types), ["Patient"]);
    assert.deepEqual(narrowed(["Patient", "Condition"], "Group", undefined), ["Patient", "Condition"]);
  });
});

suite("the name of an export", () => {
  const zeros = (bytes: number) => new Uint8Array(bytes);
  test("is random without a key, and of the client and its key with one", () => {
    assert.equal(exportName("c", undefined, zeros), `export-${"a".repeat(26)}`);
    const made = exportName("c", "k", zeros);
    assert.match(made, /^export-[a-z2-7]{26}$/);
    assert.equal(exportName("c", "k", zeros), made);
    assert.notEqual(exportName("d", "k", zeros), made);
    assert.notEqual(exportName("c", "l", zeros), made);
    // no two (client, key) pairs run into each other
    assert.notEqual(exportName('c","k', "x", zeros), exportName("c", 'k","x', zeros));
  });
  const keys: [string | undefined, string | undefined | null][] = [
    [undefined, undefined],
    ["8e03978e-40d5-43e8-bc93-6894a57f9324", "8e03978e-40d5-43e8-bc93-6894a57f9324"],
    ['"8e03978e"', "8e03978e"],
    ["", null],
    ["a b", null],
    ["ü", null],
    ["x".repeat(256), null],
  ];
  for (const [header, key] of keys)
    test(`Idempotency-Key: ${header?.slice(0, 20)}`, () => {
      const found = idempotencyKey(header);
      if (key === null) assert("issue" in found);
      else assert.deepEqual(found, key === undefined ? {} : { key });
    });
  test("the digest of a request does not depend on the order of its fields", () => {
    assert.equal(
      kickOffDigest({ level: "System", types: ["A", "B"] }),
      kickOffDigest({ types: ["A", "B"], level: "System" }),
    );
    assert.notEqual(
      kickOffDigest({ level: "System", types: ["A", "B"] }),
      kickOffDigest({ level: "System", types: ["B", "A"] }),
    );
  });
});

test("exports that are not finished: the client's own, neither complete nor failed for good nor cancelled", () => {
  const object = (
    client: string,
    more: Partial<FhirExport["spec"]> = {},
    conditions: [string, "True" | "False"][] = [],
  ): FhirExport => ({
    metadata: { name: "x" },
    spec: { sourceRef: { name: "s" }, targetRef: { name: "t" }, origin: { client, request: "" }, ...more },
    status: { conditions: conditions.map(([type, status]) => condition(type, status, "X")) },
  });
  const all = [
    object("a"),
    object("a", {}, [["Failed", "True"]]),
    object("a", {}, [["Complete", "True"]]),
    object("a", {}, [["Stalled", "True"]]),
    object("a", { cancel: true }),
    object("b"),
    { ...object("a"), spec: { sourceRef: { name: "s" }, targetRef: { name: "t" } } },
  ];
  assert.equal(unfinished(all, "a"), 2);
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

  test("is narrowed to what may be exported at all", async () => {
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

  test("with assumed headers needs none", async () => {
    assert.equal((await shim({ settings: "accept: Assumed\nprefer: Assumed" }).get("/$export")).statusCode, 202);
    assert.equal((await shim().get("/$export")).statusCode, 400);
  });

  test("with a key: once; the digest and the client tell another use of it", async () => {
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

suite("the catalogue", () => {
  const reading = (more: Partial<Reading> = {}): Reading & { calls: string[] } => {
    const calls: string[] = [];
    const log =
      <T>(what: string, value: T) =>
      async () => {
        calls.push(what);
        return value;
      };
    return { calls, source: log("source", source), target: log("target", target), types: log("types", types), ...more };
  };

  test("is looked up once, and again after a minute, without anybody waiting for that", async () => {
    let now = 0;
    const read = reading();
    const catalog = new Catalog(read, () => now);
    const all = await Promise.all([catalog.get(), catalog.get()]);
    assert.deepEqual(all[0], { source, target, types });
    assert.deepEqual(read.calls, ["source", "target", "types"]);
    now = 59_000;
    await catalog.get();
    assert.equal(read.calls.length, 3);
    now = 61_000;
    assert.deepEqual(await catalog.get(), { source, target, types });
    assert(read.calls.length > 3);
  });

  test("what cannot be had now is as it was, and not checked when it never was", async () => {
    let now = 0;
    let down = false;
    const fails = async () => Promise.reject(new Error("away"));
    const read = reading({ source: async () => (down ? fails() : source), types: fails });
    const catalog = new Catalog(read, () => now);
    assert.deepEqual(await catalog.get(), { source, target, types: undefined });
    down = true;
    now = 120_000;
    await catalog.get();
    await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual((await catalog.get()).source, source);
  });

  test("a server that does not answer is not waited for", async () => {
    const catalog = new Catalog(reading({ types: () => new Promise(() => {}) }), () => 0);
    const found = await catalog.get();
    assert.deepEqual([found.source, found.types], [source, undefined]);
  });
});
