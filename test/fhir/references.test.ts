import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { baseOf, type Referred, ServerNames } from "../../src/fhir/references.ts";
import { releaseOf } from "../../src/fhir/release.ts";

const names = new ServerNames(new URL("https://fhir.example.org/r4/"), [
  "https://public.example.org/fhir",
  "http://inner.example.org:8080/fhir/",
]);
const long = "a".repeat(128);

const references: [name: string, reference: object | null | string, referred: Referred][] = [
  ["relative", { reference: "Patient/a" }, { type: "Patient", id: "a" }],
  ["of another type", { reference: "Group/a" }, { type: "Group", id: "a" }],
  ["a version", { reference: "Patient/a/_history/1" }, { type: "Patient", id: "a" }],
  ["with a slash before it", { reference: "/Patient/a" }, { type: "Patient", id: "a" }],
  ["an id with an underscore", { reference: "Patient/a_b" }, { type: "Patient", id: "a_b" }],
  ["an id with colons", { reference: "Patient/CV:1:SECT:2" }, { type: "Patient", id: "CV:1:SECT:2" }],
  ["an id of 128 characters", { reference: `Patient/${long}` }, { type: "Patient", id: long }],
  ["below the base", { reference: "https://fhir.example.org/r4/Patient/a" }, { type: "Patient", id: "a" }],
  ["below another name", { reference: "https://public.example.org/fhir/Patient/a" }, { type: "Patient", id: "a" }],
  ["the same by http", { reference: "http://public.example.org/fhir/Patient/a" }, { type: "Patient", id: "a" }],
  [
    "a version below a name with a port",
    { reference: "http://inner.example.org:8080/fhir/Patient/a/_history/2" },
    { type: "Patient", id: "a" },
  ],
  [
    "elsewhere",
    { reference: "https://ehr.internal:8443/fhir/Patient/a/_history/1" },
    { unclear: { type: "Patient", base: "https://ehr.internal:8443/fhir/", id: "a" } },
  ],
  [
    "elsewhere, another type",
    { reference: "https://ehr.internal/Practitioner/a" },
    { unclear: { type: "Practitioner", base: "https://ehr.internal/", id: "a" } },
  ],
  [
    "the same host, another path",
    { reference: "https://fhir.example.org/r5/Patient/a" },
    { unclear: { type: "Patient", base: "https://fhir.example.org/r5/", id: "a" } },
  ],
  [
    "a URN",
    { reference: "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0" },
    { unclear: { id: "0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0", isURN: true } },
  ],
  [
    "a URN of a type",
    { reference: "urn:oid:1.2", type: "Patient" },
    { unclear: { type: "Patient", id: "1.2", isURN: true } },
  ],
  ["an identifier", { identifier: { system: "urn:mrn", value: "1|2" } }, { unclear: { identifier: "urn:mrn|1\\|2" } }],
  ["an identifier without a system", { identifier: { value: "1,2" } }, { unclear: { identifier: "1\\,2" } }],
  ["an identifier without a value", { identifier: { system: "urn:mrn" } }, { unclear: {} }],
  [
    "an identifier of a type",
    { type: "Device", identifier: { value: "1" } },
    { unclear: { type: "Device", identifier: "1" } },
  ],
  [
    "the reference counts before the identifier",
    { reference: "Patient/a", identifier: { value: "1" } },
    { type: "Patient", id: "a" },
  ],
  [
    "conditional",
    { reference: "Patient?identifier=urn:mrn|1" },
    { unclear: { type: "Patient", identifier: "urn:mrn|1" } },
  ],
  ["contained", { reference: "#a" }, "none"],
  ["a text alone", { display: "John" }, "none"],
  ["no object", "Patient/a", "none"],
  ["null", null, "none"],
  ["an empty reference", { reference: "" }, "none"],
  ["of no form", { reference: "a" }, { unclear: {} }],
  ["a number", { reference: 1 }, "none"],
];

describe("what a Reference refers to", () => {
  for (const [name, value, referred] of references) test(name, () => assert.deepEqual(names.read(value), referred));

  test("where only patients matter, other types are none", () => {
    for (const value of [
      { reference: "Group/a" },
      { type: "Device", identifier: { value: "1" } },
      { reference: "https://x.example.org/Device/1" },
    ])
      assert.equal(names.readPatient(value), "none");
    assert.deepEqual(
      names.readPatient({ type: "http://hl7.org/fhir/StructureDefinition/Patient", identifier: { value: "1" } }),
      {
        unclear: { type: "Patient", identifier: "1" },
      },
    );
  });
});

test("the base URL in a self link", () => {
  for (const [link, base] of [
    ["https://x.example.org/fhir/Patient?_count=1", "https://x.example.org/fhir/"],
    ["https://x.example.org/Patient/_search", "https://x.example.org/"],
    ["https://x.example.org/fhir?_getpages=1", undefined],
    ["Patient?_count=1", undefined],
    [undefined, undefined],
  ] as const)
    assert.equal(baseOf(link, "Patient"), base);
});

test("the releases of FHIR by fhirVersion", () => {
  for (const [version, release] of [
    ["4.0.1", "R4"],
    ["4.0", "R4"],
    ["4.3.0", "R4B"],
    ["5.0.0", "R5"],
    ["5.0.0-ballot", "R5"],
    ["3.0.2", "STU3"],
    ["4.1.0", undefined],
    ["1.0.2", undefined],
    ["6.0.0", undefined],
    ["R4", undefined],
    ["4.01", undefined],
    ["", undefined],
  ] as const)
    assert.equal(releaseOf(version), release, version);
});
