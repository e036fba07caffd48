import assert from "node:assert/strict";
import { findCondition } from "../../src/api/conditions.ts";
import type { FhirExport } from "../../src/api/fhirexport.gen.ts";
import type { TestNode } from "../tools/node/node.ts";
import { awaitObject, get } from "../tools/node/shared.ts";
import type { Site } from "./site.ts";

export const readyOf = ({ status }: FhirExport) => findCondition(status?.conditions, "Ready");
export const isOver = (object: FhirExport) =>
  readyOf(object)?.status === "True" || findCondition(object.status?.conditions, "Stalled")?.status === "True";

/** A FhirExport of the FhirSource "hospital" into the ExportTarget "azurite", unless the spec names others. */
export const makeExport = (name: string, spec: Partial<FhirExport["spec"]>): FhirExport => ({
  apiVersion: "fhirexport.dev/v1alpha1",
  kind: "FhirExport",
  metadata: { name },
  spec: { sourceRef: { name: "hospital" }, targetRef: { name: "azurite" }, ...spec },
});

export interface Pods {
  items: { metadata: { name: string; uid: string; labels: Record<string, string> }; status: { phase: string } }[];
}

/** The exports of an installation, as its tests wait for them and compare their files. */
export class Exports {
  readonly #node: TestNode;
  readonly #site: Site;

  constructor(node: TestNode, site: Site) {
    this.#node = node;
    this.#site = site;
  }

  get(namespace: string, name: string): Promise<FhirExport> {
    return get<FhirExport>(this.#node, namespace, `fhirexport/${name}`);
  }

  /** Waits until an export has ended, and fails unless it is complete. */
  async finished(namespace: string, name: string, ms = 120_000): Promise<FhirExport> {
    const object = await awaitObject<FhirExport>(this.#node, { namespace, what: `fhirexport/${name}`, ms }, isOver);
    assert.equal(readyOf(object)?.status, "True", `${readyOf(object)?.reason} ${readyOf(object)?.message}`);
    return object;
  }

  /** Waits until an export has stored its first resources. */
  async underWay(namespace: string, name: string): Promise<void> {
    const hasResources = ({ status }: FhirExport) => (status?.progress?.resources ?? 0) > 0;
    await awaitObject<FhirExport>(this.#node, { namespace, what: `fhirexport/${name}` }, hasResources);
  }

  /** Fails when the export has ended already: then a test of what happens meanwhile would prove nothing. */
  async mustRun(namespace: string, name: string): Promise<void> {
    const object = await this.get(namespace, name);
    assert.equal(isOver(object), false, "the export ended too early for this test to prove something");
  }

  /** Waits until an export has ended. @returns SHA-256 of its files in Azurite by their name */
  async written(namespace: string, name: string): Promise<Record<string, string>> {
    const { container = "", prefix = "" } = (await this.finished(namespace, name)).status?.output ?? {};
    return this.#site.filesOf(container, prefix === "" ? "" : `${prefix}/`);
  }

  /** Worker pods of an export that run. */
  async workers(namespace: string, name: string): Promise<Pods["items"]> {
    const pods = await get<Pods>(this.#node, namespace, "pods");
    return pods.items.filter(
      ({ metadata, status }) => metadata.labels["fhirexport.dev/export"] === name && status.phase === "Running",
    );
  }
}
