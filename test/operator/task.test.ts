import assert from "node:assert/strict";
import { test } from "node:test";
import type { FhirExportSpec } from "../../src/api/fhirexport.gen.ts";
import type { FhirSource } from "../../src/api/fhirsource.gen.ts";
import { defaultSettings, type Settings } from "../../src/operator/settings.ts";
import { makeOutput, makeRun, makeTask } from "../../src/operator/task.ts";
import { checkSource, checkTarget } from "../../src/operator/validity.ts";
import { makeExport, makeSource, makeTarget, start, uid } from "./fake.ts";

interface Given {
  spec?: Partial<FhirExportSpec>;
  source?: Partial<FhirSource["spec"]>;
  target?: Parameters<typeof makeTarget>[0];
  settings?: Partial<Settings>;
}
const resolve = ({ spec, source, target }: Omit<Given, "settings"> = {}) => ({
  export: makeExport(spec),
  source: makeSource(source),
  target: makeTarget(target),
});
const runOf = (given: Omit<Given, "settings">) =>
  makeRun(resolve(given), { attempt: 1, startTime: "t" }, defaultSettings);
function taskOf({ settings, ...given }: Given = {}) {
  const all = { ...defaultSettings, image: "image:1", ...settings };
  const resolved = resolve(given);
  return makeTask(resolved, makeRun(resolved, { attempt: 1, startTime: "2026-03-04T05:06:07Z" }, all), all);
}

test("the whole Task of the smallest export", () =>
  assert.deepEqual(taskOf(), {
    v: 1,
    uid,
    name: "x",
    createdAt: "2026-03-04T05:06:07.000Z",
    attempt: 1,
    image: "image:1",
    export: {
      level: "System",
      gzip: false,
      maxFileBytes: 1073741824,
      onResourceError: "Record",
      request: "kubectl://ns/fhirexports/x/$export",
    },
    source: {
      baseURL: "https://fhir.example.org/r4",
      auth: { kind: "none" },
      count: 1000,
      settleSeconds: 0,
      history: true,
      retrySeconds: 600,
      share: { requests: 4 },
    },
    target: {
      folder: "20260304T050607-x-0a1b2c3d",
      azureBlob: {
        accountURL: "https://a.blob.core.windows.net",
        container: "fhir",
        createContainer: true,
        blockBytes: 8388608,
        auth: "sas",
      },
    },
    plan: { shardResources: 100000, inlineResources: 200000, parallelism: 4 },
  }));

test("the Task of an export with everything", () => {
  const spec = {
    level: "Group",
    groupId: "g",
    patients: ["p"],
    types: ["Patient"],
    typeFilters: ["Patient?active=true"],
    elements: ["id"],
    since: "2026-01-01T00:00:00+01:00",
    until: "2026-02-01T00:00:00Z",
    output: { compression: "Gzip", maxFileSize: "64Ki" },
    onResourceError: "Fail",
    origin: { client: "c", request: "https://h.example/Group/g/$export", warnings: ["w"] },
  } satisfies Partial<FhirExportSpec>;
  assert.deepEqual(taskOf({ spec }).export, {
    level: "Group",
    groupId: "g",
    patients: ["p"],
    types: ["Patient"],
    typeFilters: ["Patient?active=true"],
    elements: ["id"],
    since: "2025-12-31T23:00:00.000Z",
    until: "2026-02-01T00:00:00.000Z",
    gzip: true,
    maxFileBytes: 65536,
    onResourceError: "Fail",
    request: "https://h.example/Group/g/$export",
    warnings: ["w"],
  });
  const { origin: _, ...bySelf } = spec;
  assert.equal(
    taskOf({ spec: bySelf }).export.request,
    "kubectl://ns/fhirexports/x/Group/g/$export?_type=Patient&_typeFilter=Patient%3Factive%3Dtrue&_elements=id&_since=2026-01-01T00%3A00%3A00%2B01%3A00&_until=2026-02-01T00%3A00%3A00Z",
  );
});

const secretRef = { name: "creds" };
const auths: [NonNullable<FhirSource["spec"]["auth"]>, object, string | undefined, string | undefined][] = [
  [{ none: {} }, { kind: "none" }, undefined, undefined],
  [{ basic: { secretRef } }, { kind: "basic" }, "creds", undefined],
  [{ bearer: { secretRef } }, { kind: "bearer" }, "creds", undefined],
  [
    { oauth2: { tokenURL: "https://a.example/t", clientID: "c", scope: "s", secretRef } },
    { kind: "oauth2", tokenURL: "https://a.example/t", clientID: "c", scope: "s" },
    "creds",
    undefined,
  ],
  [
    { smart: { clientID: "c", scope: "s", secretRef } },
    { kind: "smart", clientID: "c", scope: "s" },
    "creds",
    undefined,
  ],
  [
    { workloadIdentity: { serviceAccountName: "sa", scope: "s" } },
    { kind: "workloadIdentity", scope: "s" },
    undefined,
    "sa",
  ],
];
for (const [auth, want, secret, account] of auths)
  test(`sign-in at the source: ${Object.keys(auth)[0]}`, () => {
    assert.deepEqual(taskOf({ source: { auth } }).source.auth, want);
    const run = runOf({ source: { auth } });
    assert.deepEqual([run.sourceSecret, run.serviceAccountName], [secret, account]);
  });

const blob = { accountURL: "https://a.example/", auth: { connectionStringRef: secretRef } };
const targets: [string, Given, object, string, object][] = [
  [
    "own container",
    { target: { azureBlob: blob } },
    {
      folder: "20260304T050607-x-0a1b2c3d",
      azureBlob: {
        accountURL: "https://a.example",
        container: "export-20260304t050607-0a1b2c3d",
        createContainer: true,
        blockBytes: 8388608,
        auth: "connectionString",
      },
    },
    "https://a.example/export-20260304t050607-0a1b2c3d/20260304T050607-x-0a1b2c3d/manifest.json",
    { targetSecret: "creds", targetAuth: "connectionString" },
  ],
  [
    "named by the export",
    { spec: { container: "export-a" }, target: { azureBlob: { ...blob, prefix: "p", blockSize: "1Mi" } } },
    {
      folder: "p/20260304T050607-x-0a1b2c3d",
      azureBlob: {
        accountURL: "https://a.example",
        container: "export-a",
        createContainer: true,
        blockBytes: 1048576,
        auth: "connectionString",
      },
    },
    "https://a.example/export-a/p/20260304T050607-x-0a1b2c3d/manifest.json",
    {},
  ],
  [
    "workload identity",
    {
      target: {
        azureBlob: {
          accountURL: "https://a.example",
          container: "c",
          auth: { workloadIdentity: { serviceAccountName: "sa" } },
        },
      },
    },
    {
      folder: "20260304T050607-x-0a1b2c3d",
      azureBlob: {
        accountURL: "https://a.example",
        container: "c",
        createContainer: true,
        blockBytes: 8388608,
        auth: "workloadIdentity",
      },
    },
    "https://a.example/c/20260304T050607-x-0a1b2c3d/manifest.json",
    { serviceAccountName: "sa" },
  ],
  [
    "a volume",
    { target: { volume: { claimName: "c", path: "/fhir/out/" } } },
    { folder: "20260304T050607-x-0a1b2c3d", volume: { path: "/export/fhir/out" } },
    "/fhir/out/20260304T050607-x-0a1b2c3d/manifest.json",
    { claimName: "c" },
  ],
  [
    "the root of a volume",
    { target: { volume: { claimName: "c" } } },
    { folder: "20260304T050607-x-0a1b2c3d", volume: { path: "/export" } },
    "20260304T050607-x-0a1b2c3d/manifest.json",
    {},
  ],
  [
    "a directory of this machine",
    { target: { volume: { claimName: "c", path: "/data" } }, settings: { volumeRoot: "" } },
    { folder: "20260304T050607-x-0a1b2c3d", volume: { path: "/data" } },
    "/data/20260304T050607-x-0a1b2c3d/manifest.json",
    {},
  ],
];
for (const [name, given, want, manifest, run] of targets)
  test(`target: ${name}`, () => {
    assert.deepEqual(taskOf(given).target, want);
    assert.equal(makeOutput(resolve(given)).manifest, manifest);
    const made = runOf(given);
    assert.deepEqual({ ...made, ...run }, made);
  });

test("source settings get into the Task", () => {
  const source = {
    baseURL: "https://h.example/fhir/",
    paging: { count: 50, sort: "None" },
    settleSeconds: 7,
    history: "None",
    limits: { maxConcurrentExports: 1, concurrentRequests: 8, requestsPerSecond: 40 },
  } satisfies FhirSource["spec"];
  assert.deepEqual(taskOf({ source, settings: { retrySeconds: 5 } }).source, {
    baseURL: "https://h.example/fhir",
    auth: { kind: "none" },
    count: 50,
    settleSeconds: 7,
    history: false,
    sort: false,
    retrySeconds: 5,
    share: { requests: 2, perSecond: 10 },
  });
  assert.deepEqual(taskOf({ settings: { shardResources: 500, inlineResources: 9 } }).plan, {
    shardResources: 500,
    inlineResources: 9,
    parallelism: 4,
  });
});

test("a CA: a ConfigMap unless it says Secret", () => {
  const of = (tls: FhirSource["spec"]["tls"]) => runOf({ source: tls ? { tls } : {} }).sourceCA;
  assert.deepEqual(of({ caRef: { name: "ca" } }), { kind: "ConfigMap", name: "ca" });
  assert.deepEqual(of({ caRef: { name: "ca", kind: "Secret" } }), { kind: "Secret", name: "ca" });
  assert.equal(of(undefined), undefined);
});

test("a client certificate", () => {
  const tls = { clientCertificateRef: { name: "worker-tls" } };
  const run = runOf({ source: { tls } });
  assert.deepEqual([run.sourceCertificate, run.sourceCA], ["worker-tls", undefined]);
});

test("headers and a proxy: what Secrets hold is named in the run, and in neither run nor Task", () => {
  const wire = {
    headers: [
      { name: "X-Tenant", value: "seven" },
      { name: "X-API-Key", secretRef: { name: "gateway", key: "api-key" } },
    ],
    proxy: { url: "http://proxy.example.org:3128/", secretRef: { name: "proxy" } },
    links: "Strict" as const,
  };
  const run = runOf({ source: wire });
  assert.deepEqual([run.sourceHeaders, run.sourceProxy], [[{ index: 1, name: "gateway", key: "api-key" }], "proxy"]);
  const { headers, proxy, links } = taskOf({ source: wire }).source;
  assert.deepEqual(headers, [{ name: "X-Tenant", value: "seven" }, { name: "X-API-Key" }]);
  assert.deepEqual([proxy, links], [{ url: "http://proxy.example.org:3128", hasSignIn: true }, "Strict"]);
  const usual = taskOf({}).source;
  assert.deepEqual([usual.headers, usual.proxy, usual.links], [undefined, undefined, undefined]);
});

test("Ready of sources and targets, from their own fields", () => {
  const ready = (status: { conditions?: { type: string; status: string; reason: string; message: string }[] }) =>
    status.conditions?.[0];
  assert.deepEqual(
    [ready(checkSource(makeSource(), start))?.status, ready(checkTarget(makeTarget(), start))?.status],
    ["True", "True"],
  );
  const bad = ready(
    checkSource(
      makeSource({ baseURL: "ftp://u:SECRET@h.example", limits: { maxConcurrentExports: 3, concurrentRequests: 1 } }),
      start,
    ),
  );
  assert.deepEqual([bad?.status, bad?.reason], ["False", "Invalid"]);
  assert.match(bad?.message ?? "", /baseURL must be .*; limits.concurrentRequests must be/);
  assert.doesNotMatch(bad?.message ?? "", /SECRET/);
  assert.match(ready(checkTarget(makeTarget({}), start))?.message ?? "", /exactly one of azureBlob and volume/);
  const once = checkSource(makeSource(), start);
  assert.deepEqual(
    checkSource({ ...makeSource(), status: once }, new Date(start.getTime() + 1000)),
    once,
    "looking again changes nothing",
  );
});
