import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { anything, array, assert as check, constantFrom, oneof, property, string, tuple } from "fast-check";
import { type KickOff, type ParseRules, parseKickOff } from "../../src/shim/parse.ts";

const now = new Date("2026-03-01T12:00:00Z");
const good = {
  level: "System",
  method: "GET",
  accept: "application/fhir+json",
  prefer: "respond-async",
  query: "",
} as const;
const ig: ParseRules = {
  compat: "ig",
  requireAccept: true,
  requirePrefer: true,
  validReferenceBases: ["https://example.org/fhir", "https://source.example/r4/"],
};
const azure: ParseRules = { ...ig, compat: "azure" };
const parse = (request: Partial<KickOff>, rules = ig) => parseKickOff({ ...good, ...request }, now, rules);
const post = (...parameter: object[]): Partial<KickOff> => ({
  method: "POST",
  contentType: "application/fhir+json",
  body: Buffer.from(JSON.stringify({ resourceType: "Parameters", parameter })),
});
const query = (...pairs: [string, string][]) => new URLSearchParams(pairs).toString();

suite("a kick-off becomes parts of a spec", () => {
  const cases: Record<
    string,
    { request: Partial<KickOff>; rules?: ParseRules; spec?: object; warnings?: string[]; separate?: true }
  > = {
    "nothing asked": { request: {}, spec: {} },
    "Patient level": { request: { level: "Patient" }, spec: { level: "Patient" } },
    "Group level": { request: { level: "Group", groupId: "g.1-A" }, spec: { level: "Group", groupId: "g.1-A" } },
    "Accept */*": { request: { accept: "*/*" }, spec: {} },
    "Accept application/json": { request: { accept: "application/json" }, spec: {} },
    "Accept in capitals, in a list, with parameters": {
      request: { accept: "text/html, Application/FHIR+json;q=0.9" },
      spec: {},
    },
    "Prefer in several lines and capitals": { request: { prefer: "handling=strict, RESPOND-async" }, spec: {} },
    "Prefer by semicolon": { request: { prefer: 'respond-async; handling="lenient"' }, spec: {} },
    "_type as a comma list": {
      request: { query: "_type=Patient,Observation" },
      spec: { types: ["Patient", "Observation"] },
    },
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
    _elements: {
      request: { query: "_elements=id,Patient.birthDate" },
      spec: { elements: ["id", "Patient.birthDate"] },
    },
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
        query: query(
          ["_typeFilter", "Observation?category%3Dlaboratory%2Cvital-signs"],
          ["_typeFilter", "Condition?code=c"],
        ),
      },
      spec: { typeFilters: ["Observation?category=laboratory,vital-signs", "Condition?code=c"] },
    },
    "lenient drops what is unknown and says so": {
      request: { prefer: "respond-async, handling=lenient", query: "_maxCount=5&_type=Patient" },
      spec: { types: ["Patient"] },
      warnings: ["the parameter _maxCount is not supported and was ignored"],
    },
    "R82 lenient drops a filter of a type that is not exported": {
      request: {
        prefer: "respond-async, handling=lenient",
        query: `_type=Patient&${query(["_typeFilter", "Observation?code=a"], ["_typeFilter", "Patient?active=true"])}`,
      },
      spec: { types: ["Patient"], typeFilters: ["Patient?active=true"] },
      warnings: [
        "_typeFilter: a type filter is for Observation, which is not among the types of the export, and was ignored",
      ],
    },
    "lenient drops patient in a URL": {
      request: { level: "Patient", prefer: "respond-async, handling=lenient", query: "patient=Patient/SECRET" },
      spec: { level: "Patient" },
      warnings: ["the parameter patient in a URL is not supported and was ignored"],
    },
    "separate-export-status, in a line of its own": {
      request: { prefer: "respond-async,separate-export-status" },
      spec: {},
      separate: true,
    },
    "of two handlings the first counts": {
      request: { prefer: "respond-async, handling=strict, handling=lenient" },
      spec: {},
    },
    "unknown preferences are ignored (RFC 7240)": {
      request: { prefer: "respond-async, return=minimal, wait=10" },
      spec: {},
    },
    "headers that are assumed": {
      request: { accept: undefined, prefer: undefined },
      rules: { ...ig, requireAccept: false, requirePrefer: false },
      spec: {},
    },
    "POST of nothing": { request: post(), spec: {} },
    "POST without parameter": {
      request: {
        ...post(),
        body: Buffer.from('{"resourceType":"Parameters"}'),
        contentType: 'application/json; charset="UTF-8"',
      },
      spec: {},
    },
    "POST of all": {
      request: {
        level: "Group",
        groupId: "g",
        ...post(
          { name: "_type", valueString: "Patient,Observation" },
          { name: "_type", valueCode: "Condition" },
          { name: "_since", valueInstant: "2026-01-01T00:00:00Z" },
          { name: "_until", valueDateTime: "2026-02-01T00:00:00Z" },
          { name: "_typeFilter", valueString: "Observation?code=a,b" },
          { name: "_elements", valueString: "id" },
          { name: "_outputFormat", valueString: "ndjson" },
          { name: "_container", valueString: "export-a" },
          { name: "patient", valueReference: { reference: "Patient/p-1" } },
          { name: "patient", valueReference: { reference: "https://example.org/fhir/Patient/p-2" } },
          { name: "patient", valueReference: { reference: "https://source.example/r4/Patient/p-3" } },
          { name: "patient", valueString: "Patient/p-1" },
        ),
      },
      spec: {
        level: "Group",
        groupId: "g",
        types: ["Patient", "Observation", "Condition"],
        since: "2026-01-01T00:00:00.000Z",
        until: "2026-02-01T00:00:00.000Z",
        typeFilters: ["Observation?code=a,b"],
        elements: ["id"],
        outputFormat: "ndjson",
        container: "export-a",
        patients: ["p-1", "p-2", "p-3"],
      },
    },
    "POST: parameters of the URL count, too": {
      request: { ...post({ name: "_type", valueString: "Patient" }), query: "_type=Group" },
      spec: { types: ["Group", "Patient"] },
    },
    "Azure: what it knows and we need not": {
      request: { query: "_maxCount=1000&_isParallel=true&_till=2026-02-01&_since=2025" },
      rules: azure,
      spec: { since: "2025-01-01T00:00:00.000Z", until: "2026-02-01T00:00:00.000Z" },
    },
    "Azure: a time without seconds, and with a zone": {
      request: { query: `${query(["_since", "2025-05-06T07:08"], ["_till", "2025-06-06T07:08:09+02:00"])}` },
      rules: azure,
      spec: { since: "2025-05-06T07:08:00.000Z", until: "2025-06-06T05:08:09.000Z" },
    },
    "Azure: _since in the future gives an empty export": {
      request: { query: "_since=2027" },
      rules: azure,
      spec: { since: "2027-01-01T00:00:00.000Z" },
    },
  };
  for (const [name, { request, rules, spec, warnings = [], separate = false }] of Object.entries(cases))
    test(name, () => {
      const parsed = parse(request, rules);
      assert("spec" in parsed, JSON.stringify(parsed));
      const { lenient, ...rest } = parsed;
      assert.deepEqual(rest, { spec: { level: "System", ...spec }, warnings, separateStatus: separate });
      if (warnings.length > 0) assert(lenient);
    });
});

suite("a kick-off is refused, and the thing to mend is named", () => {
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
      text: /say the same/,
    },
    "de-identification is not there": {
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
    "a malformed Group id": { request: { level: "Group", groupId: "a_b" }, code: "invalid", text: /Group's id/ },
  };
  for (const [name, { request, rules, status = 400, code, text }] of Object.entries(cases))
    test(name, () => {
      const parsed = parse(request, rules);
      assert.ok("issues" in parsed, "was accepted");
      assert.equal(parsed.status, status);
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

suite("whatever comes", () => {
  const names = [
    "_type",
    "_since",
    "_until",
    "_typeFilter",
    "_elements",
    "_outputFormat",
    "_container",
    "patient",
    "_foo",
    "organizeOutputBy",
  ];
  const values = oneof(
    string(),
    constantFrom(
      "Patient",
      "Patient,Observation",
      "2026-01-01T00:00:00Z",
      "Patient?active=true",
      "ndjson",
      "id",
      "Patient/p-1",
      "%",
      "%zz",
    ),
  );
  const pairs = array(tuple(constantFrom(...names), values), { maxLength: 6 });

  test("nothing throws, and what is refused quotes no value", () => {
    check(
      property(
        pairs,
        string(),
        oneof(string(), constantFrom("respond-async, handling=lenient")),
        (all, accept, prefer) => {
          // no name of a type, which is told
          const marked = all.map(([name, value]): [string, string] => [name, `s3cret${value}`]);
          const parsed = parse({ level: "Patient", accept, prefer, query: query(...marked) });
          assert.doesNotMatch(JSON.stringify("issues" in parsed ? parsed.issues : parsed.warnings), /s3cret/);
        },
      ),
    );
    check(
      property(
        string(),
        string(),
        (type, body) => void parse({ method: "POST", contentType: type, body: Buffer.from(body) }),
      ),
    );
    check(
      property(anything(), (body) => void parse({ ...post(), body: Buffer.from(JSON.stringify(body) ?? "") })),
      { numRuns: 500 },
    );
    check(
      property(array(anything(), { maxLength: 3 }), (list) => void parse(post(...(list as object[])))),
      { numRuns: 500 },
    );
  });

  test("GET and POST of the same say the same", () => {
    const some = array(tuple(constantFrom(...names.filter((name) => name !== "patient")), values), { maxLength: 6 });
    check(
      property(some, (all) => {
        const sent = all.map(([name, value]) => ({ name, valueString: value }));
        // a plus and lone surrogates do not survive a query
        if (all.some(([, value]) => /[+ ]/.test(value) || !value.isWellFormed())) return;
        assert.deepEqual(parse({ query: query(...all) }), parse(post(...sent)));
      }),
    );
  });
});
