import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { describe, suite, test } from "node:test";
import { pino } from "pino";
import { parse, parseAllDocuments } from "yaml";
import pkg from "../../package.json" with { type: "json" };
import { KubeClient, pathOf, resources } from "../../src/kube/client.ts";
import { applyCRD, type CRD, isNewer, versionAnnotation } from "../../src/kube/crds.ts";
import { kubeconfig, needsPlane } from "../tools/namespace.ts";

const log = pino({ level: "silent" });
const files = readdirSync("crds").map((name) => readFileSync(`crds/${name}`, "utf8"));

suite("CRDs by version", () => {
  const cases: [one: string | undefined, other: string | undefined, newer: boolean][] = [
    ["0.2.0", "0.1.9", true],
    ["0.1.9", "0.2.0", false],
    ["0.10.0", "0.9.0", true],
    ["1.0.0", "1.0.0", false],
    ["1.0.0", "1.0.0-rc.1", true],
    ["1.0.0-rc.10", "1.0.0-rc.9", true],
    ["1.0.0-rc.1", "1.0.0", false],
    ["1.0.0+build", "1.0.0", false],
    ["v1.0.0", "0.9.0", true],
    [undefined, "0.1.0", false],
    ["0.1.0", undefined, true],
    ["latest", "0.1.0", false],
    [undefined, undefined, false],
  ];
  for (const [one, other, newer] of cases)
    test(`${one} is ${newer ? "" : "not "}newer than ${other}`, () => assert.equal(isNewer(one, other), newer));

  test("each CRD names the version of fhir-export that it came with", () => {
    for (const file of files) assert.equal((parse(file) as CRD).metadata.annotations?.[versionAnnotation], pkg.version);
  });

  const program = (...args: string[]) =>
    spawnSync(process.execPath, ["src/main.ts", "crds", ...args], { encoding: "utf8" });

  test("print: YAML that a GitOps repository takes", () => {
    const { stdout, status } = program("print");
    assert.equal(status, 0);
    assert.deepEqual(
      parseAllDocuments(stdout).map((document) => document.toJS()),
      files.map((file) => parse(file)),
    );
  });

  for (const args of [[], ["delete"], ["apply", "print"], ["apply", "--timeout-seconds", "soon"]])
    test(`crds ${args.join(" ")} is refused`, () => assert.equal(program(...args).status, 64));
});

describe("CRDs on the API server", needsPlane, () => {
  const group = `t${randomBytes(4).toString("hex")}.example`;
  const make = (version: string, properties: Record<string, object>): CRD =>
    ({
      apiVersion: "apiextensions.k8s.io/v1",
      kind: "CustomResourceDefinition",
      metadata: { name: `things.${group}`, annotations: { [versionAnnotation]: version } },
      spec: {
        group,
        scope: "Namespaced",
        names: { kind: "Thing", plural: "things", singular: "thing", listKind: "ThingList" },
        versions: [
          {
            name: "v1",
            served: true,
            storage: true,
            schema: { openAPIV3Schema: { type: "object", properties: { spec: { type: "object", properties } } } },
          },
        ],
      },
    }) as CRD;
  const fieldsOf = (crd: CRD) =>
    Object.keys(
      (
        crd as unknown as {
          spec: { versions: { schema: { openAPIV3Schema: { properties: { spec: { properties: object } } } } }[] };
        }
      ).spec.versions[0]!.schema.openAPIV3Schema.properties.spec.properties,
    );
  const text = { type: "string" };
  const path = pathOf(resources.crds, { name: `things.${group}` });

  test("a CRD is made and upgraded, and an older operator does not downgrade it; also where kubectl made it", async () => {
    const client = KubeClient.load(kubeconfig());
    const signal = AbortSignal.timeout(30_000);
    try {
      await client.create(path.slice(0, path.lastIndexOf("/")), make("0.1.0", { a: text }));
      await applyCRD(client, make("0.1.0", { a: text, b: text }), signal, log);
      // The API server serves the kind.
      await client.list(`/apis/${group}/v1/things`);
      await applyCRD(client, make("0.2.0", { a: text, c: text }), signal, log);
      assert.deepEqual(fieldsOf(await client.get<CRD>(path)), ["a", "c"]);
      await applyCRD(client, make("0.1.0", { a: text, b: text }), signal, log);
      const { metadata, ...rest } = await client.get<CRD>(path);
      assert.equal(metadata.annotations?.[versionAnnotation], "0.2.0");
      assert.deepEqual(fieldsOf({ metadata, ...rest }), ["a", "c"]);
    } finally {
      await client.delete(path).catch(() => {});
      await client.close();
    }
  });

  test("an API server that does not answer is asked again until the time is over", async () => {
    const client = KubeClient.load(kubeconfig());
    await assert.rejects(
      applyCRD(client, make("0.1.0", {}), AbortSignal.abort(), log),
      ({ class: kind, message }: Error & { class: string }) => kind === "waiting" && /in time/.test(message),
    );
    await client.close();
  });
});
