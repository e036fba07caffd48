import assert from "node:assert/strict";
import { suite, test } from "node:test";
import type { KickOff, ParseRules } from "../../src/shim/parse.ts";
import { azure, ig, parseWith, post, query } from "./kick-offs.ts";

suite("a kick-off is refused, and the text names what to mend", () => {
  const cases: Record<
    string,
    { request: Partial<KickOff>; rules?: ParseRules; status?: number; code: string; text: RegExp }
  > = {
    "no Accept": { request: { accept: undefined }, code: "required", text: /header Accept is missing/ },
    "Accept of HTML only": { request: { accept: "text/html" }, code: "invalid", text: /Accept must allow/ },
    "no Prefer": { request: { prefer: undefined }, code: "required", text: /respond-async/ },
    "Prefer without respond-async": {
      request: { prefer: "handling=lenient" },
      code: "required",
      text: /respond-async/,
    },
    "unknown handling": {
      request: { prefer: "respond-async,handling=loose" },
      code: "invalid",
      text: /handling must be/,
    },
    "unknown parameter": {
      request: { query: "_foo=1" },
      code: "not-supported",
      text: /the parameter _foo is not supported/,
    },
    "names are case-sensitive": {
      request: { query: "_SINCE=2026-01-01T00:00:00Z" },
      code: "not-supported",
      text: /_SINCE/,
    },
    "a name of Object.prototype": { request: { query: "constructor=1" }, code: "not-supported", text: /constructor/ },
    "patient by GET": {
      request: { level: "Patient", query: "patient=Patient/1" },
      code: "not-supported",
      text: /patient in a URL .*by POST/,
    },
    "R84 patient at system level": {
      request: post({ name: "patient", valueReference: { reference: "Patient/1" } }),
      code: "not-supported",
      text: /patient is not supported; it is for the levels Patient and Group/,
    },
    "patient that is another type": {
      request: { level: "Patient", ...post({ name: "patient", valueReference: { reference: "Group/1" } }) },
      code: "invalid",
      text: /patient must be references to Patients/,
    },
    "patient of another server": {
      request: {
        level: "Patient",
        ...post({ name: "patient", valueReference: { reference: "https://other.example/Patient/1" } }),
      },
      code: "invalid",
      text: /patient must be references to Patients/,
    },
    "more than 100 patients": {
      request: {
        level: "Patient",
        ...post(
          ...Array.from({ length: 101 }, (_, n) => ({
            name: "patient",
            valueReference: { reference: `Patient/${n}` },
          })),
        ),
      },
      code: "invalid",
      text: /patient may name at most 100/,
    },
    "POST of another type": {
      request: { ...post(), body: Buffer.from('{"resourceType":"Bundle"}') },
      code: "invalid",
      text: /must be a Parameters resource/,
    },
    "POST of null": {
      request: { ...post(), body: Buffer.from("null") },
      code: "invalid",
      text: /must be a Parameters resource/,
    },
    "POST of no JSON": {
      request: { ...post(), body: Buffer.from("{") },
      code: "invalid",
      text: /Parameters resource as JSON/,
    },
    "POST without a body": {
      request: { method: "POST", contentType: "application/json" },
      code: "invalid",
      text: /Parameters resource as JSON/,
    },
    "POST of a form": {
      request: { ...post(), contentType: "text/plain" },
      status: 415,
      code: "not-supported",
      text: /application\/fhir\+json/,
    },
    "POST of Latin-1": {
      request: { ...post(), contentType: "application/json; charset=latin1" },
      status: 415,
      code: "not-supported",
      text: /UTF-8/,
    },
    "a parameter without name": { request: post({ valueString: "x" }), code: "invalid", text: /must have a name/ },
    "a value of the wrong type": {
      request: post({ name: "_since", valueBoolean: true }),
      code: "invalid",
      text: /_since must have one value, a valueInstant/,
    },
    "two values": {
      request: post({ name: "_type", valueString: "Patient", valueCode: "Group" }),
      code: "invalid",
      text: /_type must have one value/,
    },
    "a value that is an object": {
      request: post({ name: "_type", valueString: { a: 1 } }),
      code: "invalid",
      text: /_type must have one value/,
    },
    "unknown by POST": {
      request: post({ name: "_foo", valueString: "SECRET" }),
      code: "not-supported",
      text: /the parameter _foo /,
    },
    "Accept with q=0": { request: { accept: "application/fhir+json;q=0" }, code: "invalid", text: /Accept must allow/ },
    "an unknown handling, though headers are assumed": {
      request: { prefer: "handling=loose" },
      rules: { ...ig, requirePrefer: false },
      code: "invalid",
      text: /handling must be/,
    },
    "Azure takes one Accept only": {
      request: { accept: "*/*" },
      rules: azure,
      code: "invalid",
      text: /Accept must be application\/fhir\+json/,
    },
    "Azure: another preference": {
      request: { prefer: "respond-async, wait=10" },
      rules: azure,
      code: "invalid",
      text: /respond-async and handling only/,
    },
    "Azure: _maxCount out of its range": {
      request: { query: "_maxCount=10001" },
      rules: azure,
      code: "invalid",
      text: /_maxCount must be/,
    },
    "Azure: _isParallel": {
      request: { query: "_isParallel=maybe" },
      rules: azure,
      code: "invalid",
      text: /_isParallel must be/,
    },
    "Azure: _typeFilter without _type": {
      request: { query: query(["_typeFilter", "Patient?active=true"]) },
      rules: azure,
      code: "required",
      text: /_typeFilter needs _type/,
    },
    "Azure: _till and _until": {
      request: { query: "_till=2026&_until=2026" },
      rules: azure,
      code: "invalid",
      text: /_until and as _till; send only one/,
    },
    "de-identification is not supported": {
      request: { query: "_anonymizationConfig=a.json" },
      rules: azure,
      code: "not-supported",
      text: /de-identified export is not available/,
    },
    "organizeOutputBy is left out": {
      request: { query: "organizeOutputBy=Patient" },
      code: "not-supported",
      text: /organizeOutputBy/,
    },
    "_since of a day only": {
      request: { query: "_since=2026-01-01" },
      code: "invalid",
      text: /_since must be an instant/,
    },
    "_since of 30 February": {
      request: { query: "_since=2026-02-30T00:00:00Z" },
      code: "invalid",
      text: /_since must be an instant/,
    },
    "_since twice": {
      request: { query: "_since=2026-01-01T00:00:00Z&_since=2026-01-01T00:00:00Z" },
      code: "invalid",
      text: /once/,
    },
    "_since in the future": { request: { query: "_since=2026-03-02T04:00:00Z" }, code: "invalid", text: /future/ },
    "_since after _until": {
      request: { query: "_since=2026-02-01T00:00:00Z&_until=2026-01-01T00:00:00Z" },
      code: "invalid",
      text: /before _until/,
    },
    "malformed stays an error when lenient": {
      request: { prefer: "respond-async,handling=lenient", query: "_since=yesterday" },
      code: "invalid",
      text: /_since/,
    },
    "_type empty": { request: { query: "_type=" }, code: "invalid", text: /_type must be/ },
    "_type no type name": { request: { query: "_type=Patient,obs" }, code: "invalid", text: /_type must be/ },
    "_typeFilter no search": {
      request: { query: "_typeFilter=Observation" },
      code: "invalid",
      text: /_typeFilter: .*Type\?query/,
    },
    "_typeFilter of a type not in _type": {
      request: { query: `_type=Patient&${query(["_typeFilter", "Observation?code=a"])}` },
      code: "invalid",
      text: /Observation, which is not among the types/,
    },
    "_typeFilter with a result parameter": {
      request: { query: query(["_typeFilter", "Observation?_sort=date"]) },
      code: "invalid",
      text: /result parameter _sort/,
    },
    "_outputFormat of another kind": {
      request: { query: "_outputFormat=parquet" },
      code: "invalid",
      text: /_outputFormat must be one of/,
    },
    "_container with capitals": {
      request: { query: "_container=Export" },
      code: "invalid",
      text: /_container must be 3 to 63/,
    },
    "_container that climbs": { request: { query: "_container=../x" }, code: "invalid", text: /_container/ },
    "_elements with a path": {
      request: { query: "_elements=Patient.name.given" },
      code: "invalid",
      text: /_elements must be/,
    },
    "a malformed Group id": { request: { level: "Group", groupId: "a,b" }, code: "invalid", text: /Group's id/ },
  };
  for (const [name, { request, rules, status = 400, code, text }] of Object.entries(cases))
    test(name, () => {
      const parsed = parseWith(request, rules);
      assert(parsed.kind === "refused", "was accepted");
      assert.equal(parsed.status, status);
      assert.equal(parsed.issues.length, 1);
      assert.equal(parsed.issues[0]!.code, code);
      assert.match(parsed.issues[0]!.text, text);
    });

  test("all faults are told at once, and no value is repeated", () => {
    const parsed = parseWith({ accept: undefined, query: "_since=SECRET-1&_type=SECRET-2&_foo=SECRET-3" });
    assert(parsed.kind === "refused");
    assert.equal(parsed.issues.length, 4);
    assert.doesNotMatch(JSON.stringify(parsed.issues), /SECRET/);
  });
});
