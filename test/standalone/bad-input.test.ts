import assert from "node:assert/strict";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { findCondition } from "../../src/api/conditions.ts";
import type { FhirExportSpec } from "../../src/api/fhirexport.gen.ts";
import type { FhirSourceSpec } from "../../src/api/fhirsource.gen.ts";
import { makeLogger } from "../../src/log.ts";
import { applyExport } from "../../src/standalone/apply.ts";
import { openPlace, type Place } from "../../src/standalone/place.ts";
import type { Behaviour, Fault } from "../sources/faults.ts";
import { type Source, startSource } from "../sources/server.ts";
import { type Azurite, freePort, shareAzurite } from "../tools/azurite.ts";
import { eventually } from "./eventually.ts";

let root: string;
let source: Source;
let azurite: Azurite;
let place: Place;
before(async () => {
  root = await mkdtemp(join(tmpdir(), "fhir-export-bad-"));
  [source, azurite] = await Promise.all([startSource(), shareAzurite()]);
  place = await openPlace({
    data: join(root, "data"),
    volumeRoot: join(root, "out"),
    settings: { retrySeconds: 1 },
    runs: { backoffMs: 50 },
    log: makeLogger({}, "silent"),
  });
  const make = (name: string, spec: Partial<FhirSourceSpec>) =>
    place.objects.create("FhirSource", {
      metadata: { name },
      spec: { baseURL: source.baseURL, limits: { maxConcurrentExports: 20, concurrentRequests: 40 }, ...spec },
    });
  make("good", {});
  make("gone", { baseURL: "http://127.0.0.1:1/fhir" });
  make("elsewhere", { baseURL: new URL("/nothing", source.baseURL).href });
  make("locked", { auth: { bearer: { secretRef: { name: "token" } } } });
  place.folders.writeSecret("token", { token: "wrong" });
  const port = await freePort();
  const key = Buffer.from("wrong").toString("base64");
  const target = (name: string, accountURL: string, connection: string) => {
    place.folders.writeSecret(name, { "connection-string": connection });
    place.objects.create("ExportTarget", {
      metadata: { name },
      spec: { azureBlob: { accountURL, container: "fhir", auth: { connectionStringRef: { name } } } },
    });
  };
  const connection = (url: string) =>
    `DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey=${key};BlobEndpoint=${url};`;
  const nowhere = `http://127.0.0.1:${port}/devstoreaccount1`;
  target("azurite", azurite.accountURL, azurite.connectionString);
  target("refusing", azurite.accountURL, connection(azurite.accountURL));
  target("silent", nowhere, connection(nowhere));
  place.start();
});
after(async () => {
  await place.close();
  await Promise.all([source.close(), azurite.close()]);
  await rm(root, { recursive: true, force: true });
});

interface Case {
  name: string;
  spec?: Partial<FhirExportSpec> & { source?: string; target?: string };
  behaviour?: Behaviour;
  faults?: Fault[];
  /** the reason of Ready and, if the export has ended, of Failed */
  ready: string;
  failed?: string;
  /** what the condition must name */
  message: RegExp;
}
const always = { times: "always" } as const;

const cases: Case[] = [
  { name: "unknown source", spec: { source: "nobody" }, ready: "Waiting", message: /FhirSource nobody does not exist/ },
  {
    name: "unknown target",
    spec: { target: "nobody" },
    ready: "Waiting",
    message: /ExportTarget nobody does not exist/,
  },
  {
    name: "unreachable source",
    spec: { source: "gone" },
    ready: "Planning",
    message: /SourceUnreachable.*ECONNREFUSED.*spec\.baseURL.*tried again at/,
  },
  {
    name: "wrong base URL",
    spec: { source: "elsewhere" },
    ready: "Failed",
    failed: "SourceNotFHIR",
    message: /spec\.baseURL/,
  },
  {
    name: "wrong credentials",
    spec: { source: "locked" },
    ready: "Failed",
    failed: "SourceUnauthorized",
    message: /401.*spec\.auth/,
  },
  {
    name: "illegal container",
    spec: { container: "other" },
    ready: "Refused",
    failed: "InvalidContainer",
    message: /spec\.container/,
  },
  {
    name: "unknown type",
    spec: { types: ["Patiemt"] },
    ready: "Failed",
    failed: "UnknownType",
    message: /spec\.types.*Patiemt/,
  },
  {
    name: "unparsable filter",
    spec: { typeFilters: ["Patient?nonsense=1"] },
    ready: "Failed",
    failed: "InvalidFilter",
    message: /spec\.typeFilters\[0\]/,
  },
  {
    name: "a source that ignores a parameter",
    spec: { typeFilters: ["Patient?gender=female"] },
    behaviour: { ignore: ["gender"] },
    ready: "Failed",
    failed: "InvalidFilter",
    message: /typeFilters\[0\] \(Patient\).*ignores gender/,
  },
  {
    name: "HTML",
    faults: [{ kind: "html", ...always }],
    ready: "Failed",
    failed: "SourceNotFHIR",
    message: /web page/,
  },
  {
    name: "a wrong resource",
    spec: { onResourceError: "Fail" },
    faults: [{ kind: "wrongType", ...always }],
    ready: "Failed",
    failed: "WrongResource",
    message: /a search of \w+ with a resource of type/,
  },
  {
    name: "storage that refuses",
    spec: { target: "refusing" },
    ready: "Failed",
    failed: "TargetUnauthorized",
    message: /ExportTarget's credentials.*"fhir"/,
  },
  {
    name: "storage that is not there",
    spec: { target: "silent" },
    ready: "Planning",
    message: /TargetUnreachable.*tried again at/,
  },
];

suite("bad input ends in a condition that names the thing to mend", () => {
  for (const [index, { name, spec = {}, behaviour, faults, ready, failed, message }] of cases.entries())
    test(name, async () => {
      const { source: sourceName = "good", target = "azurite", ...rest } = spec;
      if (behaviour) source.set(behaviour);
      if (faults) source.inject(...faults);
      if (name === "wrong credentials") source.setAuth({ kind: "bearer", token: "right" });
      const before = source.requests.length;
      const named = `e${index}`;
      try {
        applyExport(place.objects, {
          metadata: { name: named },
          spec: { sourceRef: { name: sourceName }, targetRef: { name: target }, types: ["Patient"], ...rest },
        });
        const shown = await eventually(
          () => place.objects.get("FhirExport", named),
          (object) => {
            const condition = findCondition(object?.status?.conditions, "Ready");
            return condition?.reason === ready && message.test(condition.message);
          },
          { timeoutMs: 60_000 },
        );
        const { status, metadata } = shown!;
        assert.equal(findCondition(status?.conditions, "Failed")?.reason, failed);
        // By kstatus Stalled says that a person must act, and Reconciling that it continues by itself.
        assert.deepEqual(
          [
            findCondition(status?.conditions, "Stalled")?.status,
            findCondition(status?.conditions, "Reconciling")?.status,
          ],
          failed ? ["True", undefined] : [undefined, "True"],
        );
        assert.deepEqual(
          [status?.output?.files, status?.output?.manifestSHA256],
          [undefined, undefined],
          "nothing is listed as output",
        );
        // There is no crash loop: an ended export stays ended, and a waiting one waits for at least half a minute.
        if (failed) assert.equal(metadata.annotations?.["fhirexport.dev/outcome"], "Failed/1");
        else if (ready === "Planning") assert(Date.parse(status!.run!.repeat!.time) - Date.now() > 15_000);
        const asked = source.requests.length;
        assert(asked - before < 100, `${asked - before} requests`);
      } finally {
        source.clearFaults();
        source.set({ ignore: [] });
        source.setAuth({ kind: "none" });
        place.objects.update("FhirExport", named, (object) => void (object.spec.cancel = true));
      }
    });

  test("no manifest was written by any of them", async () => {
    const written = await readdir(join(root, "out"), { recursive: true });
    assert.deepEqual(
      written.filter((path) => path.endsWith("manifest.json")),
      [],
    );
  });
});
