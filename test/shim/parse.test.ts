import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { type KickOff, parseKickOff } from "../../src/shim/parse.ts";

const now = new Date("2026-03-01T12:00:00Z");
const good = { level: "System", accept: "application/fhir+json", prefer: "respond-async", query: "" } as const;
const parse = (request: Partial<KickOff>) => parseKickOff({ ...good, ...request }, now);
const query = (...pairs: [string, string][]) => new URLSearchParams(pairs).toString();

suite("a kick-off becomes parts of a spec", () => {
  const cases: Record<string, { request: Partial<KickOff>; spec?: object; warnings?: string[] }> = {
    "nothing asked": { request: {}, spec: {} },
    "Patient level": { request: { level: "Patient" }, spec: { level: "Patient" } },
    "Group level": { request: { level: "Group", groupId: "g.1-A" }, spec: { level: "Group", groupId: "g.1-A" } },
    "Accept */*": { request: { accept: "*/*" }, spec: {} },
    "Accept application/json": { request: { accept: "application/json" }, spec: {} },
    "Accept in capitals, in a list, with parameters": { request: { accept: "text/html, Application/FHIR+json;q=0.9" }, spec: {} },
    "Prefer in several lines and capitals": { request: { prefer: "handling=strict, RESPOND-async" }, spec: {} },
    "Prefer by semicolon": { request: { prefer: 'respond-async; handling="lenient"' }, spec: {} },
    "_type as a comma list": { request: { query: "_type=Patient,Observation" }, spec: { types: ["Patient", "Observation"] } },
    "_type repeated is the same as one list": {
      request: { query: "_type=Patient&_type=Observation,Patient" },
      spec: { types: ["Patient", "Observation"] },
    },
    "_since as UTC": { request: { query: "_since=2026-01-01T00:00:00Z" }, spec: { since: "2026-01-01T00:00:00.000Z" } },
    "_since with an encoded plus": {
      request: { query: "_since=2026-01-01T02:00:00%2B02:00" },
      spec: { since: "2026-01-01T00:00:00.000Z" },
    },
    "_since whose plus became a space": {
      request: { query: "_since=2026-01-01T02:00:00+02:00" },
      spec: { since: "2026-01-01T00:00:00.000Z" },
    },
    "_since and _until": {
      request: { query: "_since=2026-01-01T00:00:00Z&_until=2026-02-01T00:00:00.5Z" },
      spec: { since: "2026-01-01T00:00:00.000Z", until: "2026-02-01T00:00:00.500Z" },
    },
    "_outputFormat short": { request: { query: "_outputFormat=ndjson" }, spec: { outputFormat: "ndjson" } },
    "_outputFormat whose plus became a space": {
      request: { query: "_outputFormat=application/fhir+ndjson" },
      spec: { outputFormat: "application/fhir+ndjson" },
    },
    _container: { request: { query: "_container=export-research" }, spec: { container: "export-research" } },
    _elements: { request: { query: "_elements=id,Patient.birthDate" }, spec: { elements: ["id", "Patient.birthDate"] } },
    "_typeFilter with an inner comma": {
      request: { query: query(["_typeFilter", "Observation?code=a,b"]) },
      spec: { typeFilters: ["Observation?code=a,b"] },
    },
    "_typeFilter: a comma before a type separates": {
      request: { query: query(["_typeFilter", "Observation?code=a,b,Condition?code=c"]) },
      spec: { typeFilters: ["Observation?code=a,b", "Condition?code=c"] },
    },
    "_typeFilter repeated, encoded twice": {
      request: {
        query: query(["_typeFilter", "Observation?category%3Dlaboratory%2Cvital-signs"], ["_typeFilter", "Condition?code=c"]),
      },
      spec: { typeFilters: ["Observation?category=laboratory,vital-signs", "Condition?code=c"] },
    },
    "lenient drops what is unknown and says so": {
      request: { prefer: "respond-async, handling=lenient", query: "_maxCount=5&_type=Patient" },
      spec: { types: ["Patient"] },
      warnings: ["the parameter _maxCount is not supported and was ignored"],
    },
  };
  for (const [name, { request, spec, warnings = [] }] of Object.entries(cases))
    test(name, () => assert.deepEqual(parse(request), { spec: { level: "System", ...spec }, warnings }));
});

suite("a kick-off is refused, and the thing to mend is named", () => {
  const cases: Record<string, { request: Partial<KickOff>; code: string; text: RegExp }> = {
    "no Accept": { request: { accept: undefined }, code: "required", text: /header Accept is missing/ },
    "Accept of HTML only": { request: { accept: "text/html" }, code: "invalid", text: /Accept must allow/ },
    "no Prefer": { request: { prefer: undefined }, code: "required", text: /respond-async/ },
    "Prefer without respond-async": { request: { prefer: "handling=lenient" }, code: "required", text: /respond-async/ },
    "unknown handling": { request: { prefer: "respond-async,handling=loose" }, code: "invalid", text: /handling must be/ },
    "unknown parameter": { request: { query: "_foo=1" }, code: "not-supported", text: /the parameter _foo is not supported/ },
    "names are case-sensitive": { request: { query: "_SINCE=2026-01-01T00:00:00Z" }, code: "not-supported", text: /_SINCE/ },
    "a name of Object.prototype": { request: { query: "constructor=1" }, code: "not-supported", text: /constructor/ },
    "patient by GET": { request: { level: "Patient", query: "patient=Patient/1" }, code: "not-supported", text: /the parameter patient / },
    "organizeOutputBy is left out": { request: { query: "organizeOutputBy=Patient" }, code: "not-supported", text: /organizeOutputBy/ },
    "_since of a day only": { request: { query: "_since=2026-01-01" }, code: "invalid", text: /_since must be an instant/ },
    "_since of 30 February": { request: { query: "_since=2026-02-30T00:00:00Z" }, code: "invalid", text: /_since must be an instant/ },
    "_since twice": { request: { query: "_since=2026-01-01T00:00:00Z&_since=2026-01-01T00:00:00Z" }, code: "invalid", text: /once/ },
    "_since in the future": { request: { query: "_since=2026-03-02T00:00:00Z" }, code: "invalid", text: /future/ },
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
    "_typeFilter no search": { request: { query: "_typeFilter=Observation" }, code: "invalid", text: /_typeFilter: .*Type\?query/ },
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
    "_outputFormat of another kind": { request: { query: "_outputFormat=parquet" }, code: "invalid", text: /_outputFormat must be one of/ },
    "_container with capitals": { request: { query: "_container=Export" }, code: "invalid", text: /_container must be 3 to 63/ },
    "_container that climbs": { request: { query: "_container=../x" }, code: "invalid", text: /_container/ },
    "_elements with a path": { request: { query: "_elements=Patient.name.given" }, code: "invalid", text: /_elements must be/ },
    "a malformed Group id": { request: { level: "Group", groupId: "a_b" }, code: "invalid", text: /Group's id/ },
  };
  for (const [name, { request, code, text }] of Object.entries(cases))
    test(name, () => {
      const parsed = parse(request);
      assert.ok("issues" in parsed, "was accepted");
      assert.equal(parsed.issues.length, 1);
      assert.equal(parsed.issues[0]!.code, code);
      assert.match(parsed.issues[0]!.text, text);
    });

  test("everything wrong is told at once, and no value is repeated", () => {
    const parsed = parse({ accept: undefined, query: "_since=SECRET-1&_type=SECRET-2&_foo=SECRET-3" });
    assert.ok("issues" in parsed);
    assert.equal(parsed.issues.length, 4);
    assert.doesNotMatch(JSON.stringify(parsed.issues), /SECRET/);
  });
});
