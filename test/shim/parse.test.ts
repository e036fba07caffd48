import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { anything, array, assert as check, constantFrom, oneof, property, string, tuple } from "fast-check";
import type { KickOff, ParseRules } from "../../src/shim/parse.ts";
import { azure, ig, parseWith, post, query } from "./kick-offs.ts";

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
    "_since as the source's clock has it, which is ahead": {
      request: { query: "_since=2026-03-01T14:00:00Z" },
      spec: { since: "2026-03-01T14:00:00.000Z" },
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
      const parsed = parseWith(request, rules);
      assert(parsed.kind === "accepted", JSON.stringify(parsed));
      const { kind, lenient, ...rest } = parsed;
      assert.deepEqual(rest, { spec: { level: "System", ...spec }, warnings, separateStatus: separate });
      if (warnings.length > 0) assert(lenient);
    });
});

suite("random kick-offs", () => {
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

  test("nothing throws, and no refusal quotes a value", () => {
    check(
      property(
        pairs,
        string(),
        oneof(string(), constantFrom("respond-async, handling=lenient")),
        (all, accept, prefer) => {
          // the mark makes every value one that is not the name of a type, because errors do name types
          const marked = all.map(([name, value]): [string, string] => [name, `s3cret${value}`]);
          const parsed = parseWith({ level: "Patient", accept, prefer, query: query(...marked) });
          assert.doesNotMatch(JSON.stringify(parsed.kind === "refused" ? parsed.issues : parsed.warnings), /s3cret/);
        },
      ),
    );
    check(
      property(
        string(),
        string(),
        (type, body) => void parseWith({ method: "POST", contentType: type, body: Buffer.from(body) }),
      ),
    );
    check(
      property(anything(), (body) => void parseWith({ ...post(), body: Buffer.from(JSON.stringify(body) ?? "") })),
      { numRuns: 500 },
    );
    check(
      property(array(anything(), { maxLength: 3 }), (list) => void parseWith(post(...(list as object[])))),
      { numRuns: 500 },
    );
  });

  test("the same parameters give the same result by GET and by POST", () => {
    const some = array(tuple(constantFrom(...names.filter((name) => name !== "patient")), values), { maxLength: 6 });
    check(
      property(some, (all) => {
        const sent = all.map(([name, value]) => ({ name, valueString: value }));
        // a plus and lone surrogates do not survive a query
        if (all.some(([, value]) => /[+ ]/.test(value) || !value.isWellFormed())) return;
        assert.deepEqual(parseWith({ query: query(...all) }), parseWith(post(...sent)));
      }),
    );
  });
});
