import assert from "node:assert/strict";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, suite, test } from "node:test";
import { findCondition, isTrue } from "../../src/api/conditions.ts";
import type { FhirExport, FhirExportSpec } from "../../src/api/fhirexport.gen.ts";
import { makeLogger } from "../../src/log.ts";
import { applyExport } from "../../src/standalone/apply.ts";
import { openPlace, type Place } from "../../src/standalone/place.ts";
import { type Source, startSource } from "../sources/server.ts";
import { eventually } from "./eventually.ts";

let root: string;
let source: Source;
let place: Place;
let number = 0;
let out: string;
before(async () => {
  root = await mkdtemp(join(tmpdir(), "fhir-export-place-"));
  source = await startSource();
});
after(async () => {
  await source.close();
  await rm(root, { recursive: true, force: true });
});
beforeEach(async () => {
  out = join(root, `out-${++number}`);
  source.set({ pageDelay: 0 });
  await open();
});
afterEach(() => place.close());

async function open(inlineResources = 0): Promise<void> {
  place = await openPlace({
    data: join(root, `data-${number}`),
    volumeRoot: out,
    settings: { shardResources: 500, inlineResources, retrySeconds: 1 },
    runs: { backoffMs: 50 },
    log: makeLogger({}, "silent"),
  });
  place.objects.create("FhirSource", {
    metadata: { name: "source" },
    spec: { baseURL: source.baseURL, limits: { maxConcurrentExports: 1 }, paging: { count: 50 } },
  });
  place.objects.create("ExportTarget", { metadata: { name: "target" }, spec: { volume: { claimName: "folder" } } });
  place.start();
}
const apply = (name: string, spec: Partial<FhirExportSpec> = {}) =>
  applyExport(place.objects, {
    metadata: { name },
    spec: { sourceRef: { name: "source" }, targetRef: { name: "target" }, ...spec },
  });
const change = (name: string, spec: Partial<FhirExportSpec>) =>
  place.objects.update("FhirExport", name, (object) => void Object.assign(object.spec, spec));
const reasonOf = (object: FhirExport | undefined) => findCondition(object?.status?.conditions, "Ready")?.reason;
const until = (name: string, reason: string) =>
  eventually(
    () => place.objects.get("FhirExport", name),
    (object) => reasonOf(object) === reason,
  );
const files = async () =>
  (await readdir(out, { recursive: true, withFileTypes: true }))
    .flatMap((entry) => (entry.isFile() ? [entry.name] : []))
    .sort();

suite("FhirExports on one machine", () => {
  test("a complete export has its status, counts and outcome, and its manifest is written", async () => {
    apply("a", { types: ["Patient", "Group"] });
    const { status, metadata } = (await until("a", "Complete"))!;
    const count = source.dump("Patient").size + source.dump("Group").size;
    assert.deepEqual([status?.output?.resources, status?.progress?.percent, status?.attempt], [count, 100, 1]);
    assert.ok(isTrue(status?.conditions, "Complete") && isTrue(status?.conditions, "Exact"));
    assert.equal(metadata.annotations?.["fhirexport.dev/outcome"], "Complete");
    assert.ok((await files()).includes("manifest.json"));
  });

  test("a small export is done by the process of its plan", async () => {
    await place.close();
    number++;
    await open(200_000);
    apply("a", { types: ["Observation"] });
    const all = source.dump("Observation").size;
    const { status } = (await until("a", "Complete"))!;
    assert.deepEqual(
      [status?.output?.resources, status?.progress?.percent, status?.types?.[0]?.exported],
      [all, 100, all],
    );
    assert.deepEqual(
      place.runs.all().map(({ command }) => command),
      ["plan"],
    );
  });

  test("cancel of a small export: its process ends, and its files are purged", async () => {
    await place.close();
    number++;
    await open(200_000);
    source.set({ pageDelay: 100 });
    const pages = source.counters.pages;
    apply("a", { types: ["Observation"] });
    // The probes of the plan read a few pages, too.
    await eventually(
      () => source.counters.pages - pages,
      (seen) => seen > 30,
    );
    change("a", { cancel: true });
    await until("a", "Cancelled");
    await eventually(
      () => place.objects.get("FhirExport", "a")?.status?.conditions,
      (conditions) => isTrue(conditions, "Purged"),
    );
    source.set({ pageDelay: 0 });
    assert.deepEqual(
      (await files()).filter((name) => name.endsWith(".ndjson")),
      [],
    );
  });

  test("exports run one at a time if the source says so; the next one starts when the first has ended", async () => {
    source.set({ pageDelay: 50 });
    apply("a", { types: ["Observation"] });
    await until("a", "Running");
    apply("b", { types: ["Group"] });
    const queued = await until("b", "Queued");
    assert.equal(queued?.status?.queuePosition, 1);
    assert.equal(reasonOf(place.objects.get("FhirExport", "a")), "Running");
    source.set({ pageDelay: 0 });
    await until("a", "Complete");
    await until("b", "Complete");
  });

  test("suspend ends the processes and keeps their work; the resumed export completes", async () => {
    source.set({ pageDelay: 50 });
    apply("a", { types: ["Observation"] });
    await until("a", "Running");
    change("a", { suspend: true });
    await until("a", "Suspended");
    await eventually(
      async () => Promise.all(place.runs.all().map((run) => place.runs.view(run))),
      (views) => views.every(({ live, state }) => live === 0 && state !== "active"),
    );
    source.set({ pageDelay: 0 });
    change("a", { suspend: false });
    assert.equal((await until("a", "Complete"))?.status?.output?.resources, source.dump("Observation").size);
  });

  test("a terminal failure stalls the export; retry continues it", async () => {
    source.inject({ kind: "html", times: "always" });
    apply("a", { types: ["Group"] });
    const failed = await until("a", "Failed");
    assert.equal(findCondition(failed?.status?.conditions, "Failed")?.reason, "SourceNotFHIR");
    assert.equal(failed?.metadata.annotations?.["fhirexport.dev/outcome"], "Failed/1");
    source.clearFaults();
    change("a", { retry: 1 });
    assert.equal((await until("a", "Complete"))?.status?.attempt, 2);
  });

  test("deletionPolicy Delete: the object stays until its files are gone, and then everything of it is removed", async () => {
    apply("a", { types: ["Group"], deletionPolicy: "Delete" });
    await until("a", "Complete");
    assert.deepEqual(place.objects.get("FhirExport", "a")?.metadata.finalizers, ["fhirexport.dev/output"]);
    place.objects.delete("FhirExport", "a");
    await eventually(
      () => place.objects.get("FhirExport", "a"),
      (object) => object === undefined,
    );
    assert.deepEqual(await files(), []);
    await eventually(
      () => [...place.folders.attempts(), ...place.runs.all()],
      (left) => left.length === 0,
    );
  });

  test("deletionPolicy Retain: the deletion of a running export stops its workers and leaves its files", async () => {
    source.set({ pageDelay: 50 });
    apply("a", { types: ["Observation"] });
    await until("a", "Running");
    place.objects.delete("FhirExport", "a");
    await eventually(
      () => place.runs.all(),
      (runs) => runs.length === 0,
    );
    assert.ok((await files()).length > 0);
  });

  test("an export of an unknown source waits, says so, and starts when the source is made", async () => {
    apply("a", { types: ["Group"], sourceRef: { name: "later" } });
    const waiting = await until("a", "Waiting");
    assert.match(findCondition(waiting?.status?.conditions, "Ready")!.message, /FhirSource later does not exist/);
    place.objects.create("FhirSource", { metadata: { name: "later" }, spec: { baseURL: source.baseURL } });
    await until("a", "Complete");
  });

  test("ttlSecondsAfterFinished: the export is deleted, and its files stay", async () => {
    apply("a", { types: ["Group"], ttlSecondsAfterFinished: 0 });
    await eventually(
      () => place.objects.get("FhirExport", "a"),
      (object) => object === undefined,
    );
    assert.ok((await files()).includes("manifest.json"));
  });

  test("an edit that the API would refuse is refused, and changes nothing", () => {
    const before = apply("a", { suspend: true, types: ["Group"] });
    assert.throws(() => change("a", { types: ["Patient"] }), /types cannot be changed/);
    assert.deepEqual(place.objects.get("FhirExport", "a")?.spec, before.spec);
  });
});
