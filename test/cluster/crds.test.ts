import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { parseAllDocuments } from "yaml";
import type { FhirExport } from "../../src/api/fhirexport.gen.ts";
import { type ApiCollection, type KubeObject, pathOf, resources } from "../../src/kube/client.ts";
import { KubeError } from "../../src/kube/error.ts";
import { type Case, cases, type Kind, statusCases } from "../api/objects.ts";
import { kubeconfig, kubectl, makeNamespace, type Namespace, needsPlane } from "../tools/namespace.ts";

const resourceOf: Record<Kind, ApiCollection> = {
  FhirExport: resources.fhirExports,
  FhirSource: resources.fhirSources,
  ExportTarget: resources.exportTargets,
};
interface Custom extends KubeObject {
  spec: Record<string, unknown>;
  status?: unknown;
}
const make = (kind: Kind, name: string, spec: Record<string, unknown>): Custom => ({
  apiVersion: "fhirexport.dev/v1alpha1",
  kind,
  metadata: { name },
  spec,
});

/** @returns the API server's own text when it refuses a call; undefined = it accepts the call */
async function refusal(call: Promise<unknown>): Promise<string | undefined> {
  try {
    await call;
    return undefined;
  } catch (error) {
    if (error instanceof KubeError && error.status >= 400 && error.status < 500) return error.detail;
    throw error;
  }
}

describe("CRDs on the API server", needsPlane, () => {
  let ns: Namespace;
  let count = 0;
  before(async () => {
    ns = await makeNamespace();
  });
  after(() => ns?.remove());

  async function attempt({ kind, spec, old, name = `c${count++}` }: Case): Promise<string | undefined> {
    const collection = pathOf(resourceOf[kind], { namespace: ns.name });
    if (!old) return refusal(ns.client.create(collection, make(kind, name, spec), { dryRun: true }));
    const { metadata } = await ns.client.create<Custom>(collection, make(kind, name, old));
    const next = make(kind, name, spec);
    next.metadata.resourceVersion = metadata.resourceVersion!;
    return refusal(ns.client.replace(`${collection}/${name}`, next));
  }

  for (const one of cases)
    test(`${one.kind}: ${one.case} is ${one.refused ? "refused" : "accepted"}`, async () => {
      const said = await attempt(one);
      if (one.refused) assert.match(said ?? "accepted", one.refused);
      else assert.equal(said, undefined);
    });

  for (const { case: what, old, status, refused } of statusCases)
    test(`status: ${what} is ${refused ? "refused" : "accepted"}`, async () => {
      const path = pathOf(resources.fhirExports, { namespace: ns.name });
      const made = await ns.client.create<Custom>(
        path,
        make("FhirExport", `s${count++}`, { sourceRef: { name: "s" }, targetRef: { name: "t" } }),
      );
      const { status: _, ...before } = await ns.client.replace<Custom>(`${path}/${made.metadata.name}/status`, {
        ...made,
        status: old,
      });
      const said = await refusal(
        ns.client.replace(`${path}/${made.metadata.name}/status`, status ? { ...before, status } : before),
      );
      if (refused) assert.match(said ?? "accepted", refused);
      else assert.equal(said, undefined);
    });

  test("an object gets defaults and a status that says that no controller has seen it; a status in a create is dropped", async () => {
    const path = pathOf(resources.fhirExports, { namespace: ns.name });
    const given = {
      ...make("FhirExport", "defaults", { sourceRef: { name: "s" }, targetRef: { name: "t" } }),
      status: { attempt: 9 },
    };
    const { spec, status } = await ns.client.create<Custom>(path, given);
    assert.deepEqual(spec, {
      sourceRef: { name: "s" },
      targetRef: { name: "t" },
      level: "System",
      outputFormat: "application/fhir+ndjson",
      output: { compression: "None", maxFileSize: "1Gi" },
      onResourceError: "Record",
      parallelism: 4,
      priority: 0,
      deletionPolicy: "Retain",
      onCancel: "Delete",
    });
    assert.deepEqual((status as FhirExport["status"])?.observedGeneration, -1);
    assert.equal((status as FhirExport["status"])?.attempt, undefined);
  });

  test("a status write does not change the generation, and a spec write does not change the status", async () => {
    const path = pathOf(resources.fhirExports, { namespace: ns.name });
    const made = await ns.client.create<Custom>(
      path,
      make("FhirExport", "generation", { sourceRef: { name: "s" }, targetRef: { name: "t" } }),
    );
    const told = await ns.client.replace<Custom>(`${path}/generation/status`, {
      ...made,
      spec: { ...made.spec, priority: 9 },
      status: { attempt: 1 },
    });
    assert.deepEqual([told.metadata.generation, told.spec.priority, told.status], [1, 0, { attempt: 1 }]);
    const edited = await ns.client.replace<Custom>(`${path}/generation`, {
      ...told,
      spec: { ...told.spec, priority: 9 },
      status: { attempt: 5 },
    });
    assert.deepEqual([edited.metadata.generation, edited.spec.priority, edited.status], [2, 9, { attempt: 1 }]);
  });

  const kube = (...args: string[]) =>
    execFileSync(kubectl(), [`--kubeconfig=${kubeconfig()}`, `--namespace=${ns.name}`, ...args], { encoding: "utf8" });

  test("kubectl: short names, category, columns and explain", async () => {
    const path = pathOf(resources.fhirExports, { namespace: ns.name });
    const made = await ns.client.create<Custom>(
      path,
      make("FhirExport", "shown", { sourceRef: { name: "s" }, targetRef: { name: "t" } }),
    );
    const condition = {
      type: "Ready",
      status: "Unknown",
      reason: "Running",
      message: "exporting 3 packages",
      lastTransitionTime: "2026-01-01T00:00:00Z",
    };
    await ns.client.replace(`${path}/shown/status`, {
      ...made,
      status: { conditions: [condition], progress: { percent: 42, resources: 4200 } },
    });
    assert.match(
      kube("get", "fex", "shown"),
      /^NAME +STATUS +PERCENT +RESOURCES +AGE\nshown +Running +42 +4200 +\S+\n$/,
    );
    assert.match(
      kube("get", "fex", "shown", "-o", "wide"),
      /LEVEL +SOURCE +TARGET +ATTEMPT +TRANSACTION-TIME +MESSAGE\n.* System +s +t +.*exporting 3 packages/,
    );
    assert.equal(kube("get", "fsrc,ftgt", "--ignore-not-found", "-o", "name").includes("error"), false);
    // kubectl would prefer a category of the same name to the singular, and a category takes no object name.
    assert.match(kube("get", "fhirexport", "shown", "-o", "name"), /fhirexport.fhirexport.dev\/shown/);
    assert.match(kube("get", "fhir-export", "-o", "name"), /fhirexport.fhirexport.dev\/shown/);
    assert.match(kube("explain", "fhirexport.spec.typeFilters"), /_typeFilter/);
  });

  test("each example is valid and is stored as it says", async () => {
    for (const file of readdirSync("examples").filter((name) => name.endsWith(".yaml"))) {
      const documents = parseAllDocuments(readFileSync(`examples/${file}`, "utf8")).map((document) => document.toJS());
      assert.ok(documents.length > 0, file);
      const out = kube("apply", "-f", `examples/${file}`, "-o", "name");
      assert.equal(out.trim().split("\n").length, documents.length, file);
    }
    const levels = (await ns.client.list<FhirExport>(pathOf(resources.fhirExports, { namespace: ns.name }))).items;
    for (const level of ["System", "Patient", "Group"])
      assert.ok(
        levels.some(({ spec }) => spec.level === level),
        level,
      );
  });
});
