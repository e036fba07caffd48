import assert from "node:assert/strict";
import { test } from "node:test";
import { isContainerName, outputOf, runName, taskName } from "../../src/api/names.ts";
import { parseBytes } from "../../src/api/quantity.ts";

const metadata = {
  name: "nightly",
  uid: "0A1b2c3d-1111-2222-3333-444455556666",
  creationTimestamp: "2026-03-04T05:06:07Z",
};
const azure = { accountURL: "https://a.example", auth: { sasRef: { name: "s" } } };

const outputs: [string, string | undefined, Parameters<typeof outputOf>[2], ReturnType<typeof outputOf>][] = [
  [
    "no container: one of its own",
    undefined,
    { azureBlob: azure },
    { container: "export-20260304t050607-0a1b2c3d", folder: "20260304T050607-nightly-0a1b2c3d" },
  ],
  [
    "a prefix is not used there",
    undefined,
    { azureBlob: { ...azure, prefix: "x" } },
    { container: "export-20260304t050607-0a1b2c3d", folder: "20260304T050607-nightly-0a1b2c3d" },
  ],
  [
    "the target's",
    undefined,
    { azureBlob: { ...azure, container: "fhir" } },
    { container: "fhir", folder: "20260304T050607-nightly-0a1b2c3d" },
  ],
  [
    "the target's with prefix",
    undefined,
    { azureBlob: { ...azure, container: "fhir", prefix: "a/b" } },
    { container: "fhir", folder: "a/b/20260304T050607-nightly-0a1b2c3d" },
  ],
  [
    "the export's",
    "export-x",
    { azureBlob: { ...azure, container: "fhir" } },
    { container: "export-x", folder: "20260304T050607-nightly-0a1b2c3d" },
  ],
  ["a volume", undefined, { volume: { claimName: "c" } }, { folder: "20260304T050607-nightly-0a1b2c3d" }],
  [
    "a folder of a volume",
    "export-x",
    { volume: { claimName: "c" } },
    { folder: "export-x/20260304T050607-nightly-0a1b2c3d" },
  ],
];
for (const [name, named, target, want] of outputs)
  test(`output: ${name}`, () => assert.deepEqual(outputOf(metadata, named, target), want));

test("the name of an export's own container is legal", () =>
  assert.ok(isContainerName(outputOf(metadata, undefined, { azureBlob: azure }).container ?? "")));

test("run and task names: 30 of the name, 8 of the uid, within a label also with a pod's suffix", () => {
  assert.equal(runName(metadata, "plan", 1), "nightly-0a1b2c3d-plan-1");
  assert.equal(taskName(metadata, 2), "nightly-0a1b2c3d-task-2");
  const long = runName({ ...metadata, name: "n".repeat(63) }, "export", 1001);
  assert.equal(long, `${"n".repeat(30)}-0a1b2c3d-export-1001`);
  assert.ok(`${long}-9999`.length <= 63, "hostname of an Indexed Job's pod");
});

const quantities: [string, number | undefined][] = [
  ["1", 1],
  ["64Ki", 65536],
  ["1Gi", 1073741824],
  ["2M", 2000000],
  ["1.5Gi", undefined],
  ["0", undefined],
  ["-1Gi", undefined],
  ["1gi", undefined],
  ["", undefined],
];
for (const [text, want] of quantities)
  test(`quantity ${text || "(empty)"}`, () => assert.equal(parseBytes(text), want));
