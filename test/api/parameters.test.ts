import assert from "node:assert/strict";
import { test } from "node:test";
import {
  checkContainer,
  checkTypeFilter,
  isElementName,
  isID,
  isOutputFormat,
  isTypeName,
  parseInstant,
  splitList,
  splitTypeFilters,
} from "../../src/api/parameters.ts";

const instants: [string, string | undefined][] = [
  ["2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000Z"],
  ["2026-01-02T03:04:05.678+02:00", "2026-01-02T01:04:05.678Z"],
  ["2026-01-02T03:04:05 02:00", "2026-01-02T01:04:05.000Z"],
  ["2026-01-02", undefined],
  ["2026-01-02T03:04Z", undefined],
  ["2026-01-02T03:04:05", undefined],
  ["2026-02-30T00:00:00Z", undefined],
  ["2024-02-29T00:00:00Z", "2024-02-29T00:00:00.000Z"],
  ["2026-13-01T00:00:00Z", undefined],
  ["2026-01-01T25:00:00Z", undefined],
  ["yesterday", undefined],
];
for (const [value, want] of instants)
  test(`instant ${value} is ${want ?? "refused"}`, () => assert.equal(parseInstant(value), want));

const splits: [string, string[]][] = [
  ["Patient?active=true", ["Patient?active=true"]],
  ["Patient?active=true,Observation?code=a,b", ["Patient?active=true", "Observation?code=a,b"]],
  ["Observation?code=a\\,Patient?x", ["Observation?code=a\\,Patient?x"]],
  ["Observation?code=a%2Cb", ["Observation?code=a,b"]],
  ["Observation?code%3Da", ["Observation?code=a"]],
  ["Observation?code=100%25,Patient?active=true", ["Observation?code=100%25", "Patient?active=true"]],
  ["Observation?code=%2C%", ["Observation?code=%2C%"]],
  ["", []],
];
for (const [value, want] of splits)
  test(`_typeFilter ${value} splits into ${want.length}`, () => assert.deepEqual(splitTypeFilters(value), want));

const filters: [string, string[] | undefined, RegExp | undefined][] = [
  ["Observation?category=laboratory&date=ge2020", undefined, undefined],
  ["Observation?code:in=http://x/vs", ["Observation"], undefined],
  ["Observation?subject:Patient.name=x", ["Observation"], undefined],
  ["Observation?_has:Provenance:target:agent=1", undefined, undefined],
  ["Observation?", undefined, /form Type\?query/],
  ["?code=1", undefined, /form Type\?query/],
  ["observation?code=1", undefined, /form Type\?query/],
  ["Observation", undefined, /form Type\?query/],
  [`Observation?code=${"x".repeat(2048)}`, undefined, /2,048/],
  ["Observation?code", undefined, /cannot be parsed/],
  ["Observation?a=1&&b=2", undefined, /cannot be parsed/],
  ["Observation?<x>=1", undefined, /cannot be parsed/],
  ["Observation?code=1", ["Patient"], /not among the types/],
  ["Observation?_sort=date", undefined, /result parameter _sort/],
  ["Observation?_include:iterate=Observation:subject", undefined, /result parameter _include/],
];
for (const [filter, types, want] of filters)
  test(`filter ${filter.slice(0, 60)} is ${want ? `refused: ${want.source}` : "accepted"}`, () => {
    const got = checkTypeFilter(filter, types);
    if (want) assert.match(got ?? "accepted", want);
    else assert.equal(got, undefined);
  });

test("a refusal never quotes the filter's values", () =>
  assert.doesNotMatch(checkTypeFilter("Patient?identifier=SECRET&_count=1") ?? "accepted", /SECRET|accepted/));

const azure = { accountURL: "https://a.example", auth: { sasRef: { name: "s" } } };
const containers: [string, Parameters<typeof checkContainer>[1], boolean][] = [
  ["export-a", { azureBlob: azure }, true],
  ["other", { azureBlob: azure }, false],
  ["own", { azureBlob: { ...azure, container: "own" } }, true],
  ["own", { azureBlob: { ...azure, container: "own", allowedContainers: ["export-*"] } }, false],
  ["lab-7-out", { azureBlob: { ...azure, allowedContainers: ["lab-*-out"] } }, true],
  ["lab-7-in", { azureBlob: { ...azure, allowedContainers: ["lab-*-out"] } }, false],
  ["anything", { azureBlob: { ...azure, allowedContainers: ["*"] } }, true],
  ["anything", { azureBlob: { ...azure, allowedContainers: [] } }, false],
  ["a--b", { azureBlob: { ...azure, allowedContainers: ["*"] } }, false],
  ["ab", { azureBlob: { ...azure, allowedContainers: ["*"] } }, false],
  ["-abc", { azureBlob: { ...azure, allowedContainers: ["*"] } }, false],
  ["Abc", { azureBlob: { ...azure, allowedContainers: ["*"] } }, false],
  ["a".repeat(64), { azureBlob: { ...azure, allowedContainers: ["*"] } }, false],
  ["export-x", { volume: { claimName: "c" } }, true],
  ["..", { volume: { claimName: "c", allowedContainers: ["*"] } }, false],
];
for (const [name, target, want] of containers)
  test(`container ${name.slice(0, 20)} with ${JSON.stringify(target)} is ${want ? "allowed" : "refused"}`, () =>
    assert.equal(checkContainer(name, target) === undefined, want));

test("names of types, ids, elements and formats", () => {
  assert.deepEqual(["Patient", "patient", "P", "Patient1", `P${"a".repeat(64)}`].map(isTypeName), [
    true,
    false,
    false,
    false,
    false,
  ]);
  const ids = ["a.b-1", "a_b", "CV:1:SECT:2", "ab0==", "x".repeat(128), "", "a/b", "a b", "a,b", "x".repeat(129)];
  assert.deepEqual(ids.filter(isID), ids.slice(0, 5));
  assert.deepEqual(["id", "Patient.birthDate", "Patient.name.family", "patient.id", ""].map(isElementName), [
    true,
    true,
    false,
    false,
    false,
  ]);
  assert.deepEqual(["ndjson", "application/fhir+ndjson", "json"].map(isOutputFormat), [true, true, false]);
  assert.deepEqual(splitList("a, b,,a"), ["a", "b"]);
});
