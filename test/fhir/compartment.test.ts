import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { CompartmentRows, PatientCompartment, PatientSet } from "../../src/fhir/compartment.ts";
import { ServerNames } from "../../src/fhir/references.ts";
import { definitionsOf } from "../../src/fhir/release.ts";
import { ScanError } from "../../src/scan/page.ts";
import type { Expected } from "../../src/scan/table.ts";
import { simd, type Twin, twins } from "../scan/oracle.ts";
import { type Random, random } from "../sources/random.ts";
import { pretty } from "../sources/text.ts";
import { propertyRuns } from "../tools/sample.ts";

const base = new URL("https://fhir.example.org/r4/");
const alias = "https://public.example.org/fhir/";
const compartment = new PatientCompartment("R4", new ServerNames(base, [alias]));
const paths = definitionsOf("R4").compartment;
const expected = (type: string, withBase: boolean): Expected => ({
  type,
  till: "2030-01-01T00:00:00.000Z",
  key: "00".repeat(16),
  members: compartment.membersOf(type),
  ...(withBase && { base: base.href }),
});
const bundle = (resources: string[]) =>
  `{"resourceType":"Bundle","entry":[${resources.map((resource) => `{"resource":${resource}}`).join()}]}`;

/** Demands for each row what `patientsOf` gives for the parsed resource. */
function check(twin: Twin, type: string, page: string, withBase: boolean): void {
  twin.read(Buffer.from(page), expected(type, withBase));
  const rows = new CompartmentRows(type, compartment);
  const { entry } = JSON.parse(page) as { entry: { resource: Record<string, unknown> }[] };
  for (const [row, { resource }] of entry.entries()) {
    const ids = compartment.patientsOf(resource);
    const isUnclear = compartment.unclearOf(resource).length > 0;
    const otherwise = isUnclear ? "unclear" : "out";
    const why = `${twin.kind}: ${JSON.stringify(resource)}`;
    const found = rows.patientsIn(twin.table, row);
    assert.deepEqual(new Set(found.ids), ids, why);
    assert.equal(found.isUnclear, isUnclear, why);
    assert.equal(rows.has(twin.table, row), ids.size > 0 ? "in" : otherwise, why);
    assert.equal(rows.has(twin.table, row, new PatientSet(["other"])), ids.has("other") ? "in" : otherwise, why);
    for (const id of ids) assert.equal(rows.has(twin.table, row, new PatientSet(["no", id])), "in", why);
  }
}

describe("one element", () => {
  const id64 = "x".repeat(64);
  // Values of Observation's `subject`, as the page has them.
  const values: [name: string, value: string, how: "none" | "span" | "parse"][] = [
    ["a patient", '{"reference":"Patient/a-1.B"}', "span"],
    ["with a display", '{"reference":"Patient/a","display":"Zo\u00eb M\u00fcller"}', "span"],
    ["with white space", '{ "reference"\n:\t"Patient/a" , "display" : "x" }', "span"],
    ["of 64 characters", `{"reference":"Patient/${id64}"}`, "span"],
    ["of 65", `{"reference":"Patient/${id64}x"}`, "parse"],
    ["no id", '{"reference":"Patient/"}', "parse"],
    ["an id that is none", '{"reference":"Patient/a_b"}', "parse"],
    ["a version", '{"reference":"Patient/a/_history/1"}', "parse"],
    ["a fragment", '{"reference":"Patient/a#x"}', "parse"],
    ["a query", '{"reference":"Patient?identifier=a"}', "parse"],
    ["another type", '{"reference":"Group/a"}', "none"],
    ["another type with a display", '{"reference":"Group/a","display":"Paul Pan"}', "none"],
    ["one that begins like it", '{"reference":"Patients/a"}', "parse"],
    ["one that ends like it", '{"reference":"OtherPatient/a"}', "parse"],
    ["one that only begins so", '{"reference":"Pat/a"}', "none"],
    ["below the base", `{"reference":"${base.href}Patient/a"}`, "span"],
    ["below another base", '{"reference":"https://other.example.org/Patient/a"}', "parse"],
    ["another type below the base", `{"reference":"${base.href}Group/a"}`, "none"],
    ["below another name of the server", `{"reference":"${alias}Patient/a"}`, "parse"],
    ["below the same by http", `{"reference":"${alias.replace("https", "http")}Patient/a"}`, "parse"],
    ["with a slash before it", '{"reference":"/Patient/a"}', "parse"],
    ["an id with a colon", '{"reference":"Patient/CV:1:SECT:2"}', "parse"],
    ["an id of 128 characters", `{"reference":"Patient/${id64}${id64}"}`, "parse"],
    ["an id of 129 characters", `{"reference":"Patient/${id64}${id64}x"}`, "parse"],
    ["a URN", '{"reference":"urn:uuid:00000000-0000-4000-8000-000000000000"}', "parse"],
    ["another server's address of no known form", '{"reference":"https://x.example.org/7"}', "parse"],
    ["a name alone", '{"reference":"A"}', "parse"],
    ["a name in lower case", '{"reference":"group/a"}', "parse"],
    ["a contained resource", '{"reference":"#a"}', "none"],
    ["an identifier", '{"identifier":{"system":"urn:mrn","value":"1"}}', "parse"],
    ["an identifier of another type", '{"type":"Practitioner","identifier":{"value":"1"}}', "parse"],
    ["another type with an identifier", '{"reference":"Group/a","identifier":{"value":"1"}}', "parse"],
    ["a patient with an identifier", '{"reference":"Patient/a","identifier":{"value":"1"}}', "span"],
    ["a list of a patient and an identifier", '[{"reference":"Patient/a"},{"identifier":{"value":"1"}}]', "parse"],
    ["a list of others", '[{"reference":"Group/a"},{"display":"P","reference":"Practitioner/b"}]', "none"],
    ["below the base twice", `{"reference":"${base.href}${base.href}Patient/a"}`, "parse"],
    ["the base as it is not", `{"reference":"${base.href.slice(0, -1)}Patient/a"}`, "parse"],
    ["behind a display", '{"display":"a","reference":"Patient/a"}', "parse"],
    ["twice, another first", '{"reference":"Group/a","reference":"Patient/a"}', "parse"],
    ["twice, another last", '{"reference":"Patient/a","reference":"Group/a"}', "parse"],
    ["twice, the last with an escape", '{"reference":"Patient/a","r\\u0065ference":"Group/a"}', "parse"],
    ["an escape in the value", '{"reference":"P\\u0061tient/a"}', "parse"],
    [
      "all of the value in escapes",
      '{"reference":"\\u0050\\u0061\\u0074\\u0069\\u0065\\u006e\\u0074\\u002fa"}',
      "parse",
    ],
    ["a slash with an escape", '{"reference":"Patient\\/a"}', "parse"],
    ["an escape in the display", '{"reference":"Patient/a","display":"\\"A\\""}', "parse"],
    ["a display that looks like it", '{"reference":"Patient/a","display":"reference"}', "parse"],
    ["a display of the name", '{"display":"Patient"}', "parse"],
    ["deeper: the identifier's assigner", '{"identifier":{"assigner":{"reference":"Patient/no"}}}', "parse"],
    ["deeper as well", '{"reference":"Patient/a","identifier":{"assigner":{"reference":"Patient/no"}}}', "parse"],
    ["an extension", '{"reference":"Patient/a","extension":[{"url":"Patient","valueString":"Patient/no"}]}', "span"],
    ["a reference that is none", '{"reference":{"reference":"Patient/no"}}', "parse"],
    ["a list of references", '{"reference":["Patient/no"]}', "parse"],
    ["a list of one", '[{"reference":"Patient/a"}]', "span"],
    ["a list of two", '[{"reference":"Patient/a"},{"reference":"Patient/b"}]', "parse"],
    ["a list of one and another", '[{"reference":"Group/a"},{"reference":"Patient/b"}]', "parse"],
    ["a list of one, and other things", '[{"reference":"Patient/a"},null,5,"x",{}]', "span"],
    ["a list in a list", '[[{"reference":"Patient/a"}]]', "parse"],
    ["a list of none", "[]", "none"],
    ["an empty object", "{}", "none"],
    ["a text", '"Patient/no"', "none"],
    ["null", "null", "none"],
    ["a long display", `{"reference":"Patient/a","display":"${"d".repeat(300)}"}`, "span"],
    [
      "a long display, then twice",
      `{"reference":"Patient/a","display":"${"d".repeat(300)}","reference":"Patient/b"}`,
      "parse",
    ],
  ];
  for (const twin of twins)
    for (const [name, value, how] of values)
      test(`${twin.kind}: ${name}`, () => {
        const texts = [
          `{"resourceType":"Observation","id":"o","subject":${value}}`,
          `{"id":"o","subject":${value},"status":"final","x":{},"resourceType":"Observation"}`,
        ];
        for (const page of [bundle(texts), pretty(bundle(texts))]) {
          for (const withBase of [true, false]) check(twin, "Observation", page, withBase);
          twin.read(Buffer.from(page), expected("Observation", true));
          const found = twin.table.reference(0, 0);
          const is = typeof found === "string" ? found : "span";
          // The plain twin parses every value.
          assert.equal(twin === simd ? is : "parse", twin === simd ? how : is);
        }
      });

  test("the last of two elements of one name counts, and elements of other levels do not", () => {
    for (const twin of twins)
      for (const text of [
        '{"subject":{"reference":"Patient/no"},"subject":{"reference":"Patient/yes"}}',
        '{"subject":{"reference":"Patient/no"},"subject":"x"}',
        '{"subject":{"reference":"Patient/no"},"subject":{"reference":"Group/x"}}',
        '{"contained":[{"subject":{"reference":"Patient/no"}}],"focus":[{"reference":"Patient/no"}],"x":"\\"subject\\":{\\"reference\\":\\"Patient/no\\"}"}',
        '{"subjects":{"reference":"Patient/no"},"Subject":{"reference":"Patient/no"}}',
        '{"subj\\u0065ct":{"reference":"Patient/yes"}}',
        "{}",
      ]) {
        const page = bundle([text.replace("{", '{"resourceType":"Observation",').replace(",}", "}")]);
        check(twin, "Observation", page, true);
        check(twin, "Observation", pretty(page), true);
      }
  });

  test("a base URL that is longer than the scanner allows", () => {
    for (const length of [200, 201, 500]) {
      const long = new URL(`https://x/${"y".repeat(length - 11)}/`);
      const page = bundle([`{"resourceType":"Observation","id":"o","subject":{"reference":"${long.href}Patient/a"}}`]);
      for (const { read, table } of twins) {
        read(Buffer.from(page), { ...expected("Observation", false), base: long.href });
        const rows = new CompartmentRows("Observation", new PatientCompartment("R4", new ServerNames(long)));
        assert.deepEqual(rows.patientsIn(table, 0), { ids: ["a"], isUnclear: false });
      }
      assert.equal(typeof simd.table.reference(0, 0), length > 200 ? "string" : "object");
    }
  });

  test("a value that is not JSON is an error that shows no content", () => {
    for (const text of [
      '{"reference":"Patient/a" "x":1,"reference":1}',
      '{"display":"Patient",}',
      '{"reference":xPatient/a"b"}',
    ]) {
      const page = Buffer.from(bundle([`{"id":"o","subject":${text}}`]));
      for (const twin of twins)
        assert.throws(
          () => twin.read(page, expected("Observation", true)),
          (error) => error instanceof ScanError && error.kind === "syntax" && !error.message.includes("Patient"),
        );
    }
  });
});

test("property: a set of patients gives the same answer for bytes as for strings", () => {
  const id = fc.stringMatching(/^[A-Za-z0-9.-]{1,64}$/);
  fc.assert(
    fc.property(fc.array(id, { maxLength: 40 }), fc.array(id), fc.nat(20), (ids, others, at) => {
      const patients = new PatientSet(ids);
      assert.equal(patients.size, new Set(ids).size);
      for (const other of [...ids, ...others, ...ids.map((text) => `${text}0`), ...ids.map((text) => text.slice(1))]) {
        const bytes = Buffer.from(`${"x".repeat(at)}${other}y`);
        assert.equal(patients.hasAt(bytes, at, at + other.length), ids.includes(other));
        assert.equal(patients.has(other), ids.includes(other));
      }
    }),
  );
});

test("the members of a type are the first names of its paths", () => {
  const membersOf = (type: string) => compartment.membersOf(type);
  assert.equal(Object.keys(paths).length, 67);
  assert.deepEqual(membersOf("Observation"), ["subject", "performer"]);
  assert.deepEqual(membersOf("MedicationAdministration"), ["subject", "performer"]);
  assert.deepEqual(membersOf("Patient"), ["link"]);
  assert.deepEqual(membersOf("AuditEvent"), ["agent", "entity"]);
  assert.deepEqual(membersOf("Organization"), []);
  // A SIMD table has room for at most this many members.
  for (const release of ["R4", "R4B", "R5"] as const) {
    const all = new PatientCompartment(release, new ServerNames(base));
    for (const type of Object.keys(definitionsOf(release).compartment)) assert(all.membersOf(type).length <= 4);
  }
});

/** A resource of the type with references at the paths that count, and with references elsewhere that do not count. */
class Maker {
  readonly #r: Random;
  constructor(r: Random) {
    this.#r = r;
  }

  resource(type: string): string {
    const r = this.#r;
    const members: string[] = [];
    const add = (chance: number, name: string, value: () => string) =>
      r.chance(chance) && members.push(`${this.name(name)}:${value()}`);
    add(1, "resourceType", () => JSON.stringify(type));
    add(1, "id", () => JSON.stringify(r.pick(["r1", "other"])));
    add(0.5, "meta", () => '{"lastUpdated":"2020-01-01T00:00:00.000Z"}');
    const elements = Object.values(paths[type]!).flat();
    for (const path of elements) {
      const [first, ...below] = path.split(".") as [string, ...string[]];
      add(0.8, first, () => this.value(below));
    }
    // Names that occur twice, and names of elements of other types.
    add(0.2, elements[0]!.split(".")[0]!, () => this.value([]));
    add(0.3, r.pick(["subject", "patient", "focus", "performer", "basedOn"]), () => this.value([]));
    add(0.2, "contained", () => `[${this.object(elements[0]!.split("."))}]`);
    add(0.3, "text", () => this.text(`"${elements[0]}":{"reference":"Patient/no"}`));
    add(0.3, "valueDecimal", () => "1.50");
    return `{${(r.chance(0.3) ? members.sort(() => r.next() - 0.5) : members).join()}}`;
  }
  value(below: string[]): string {
    const r = this.#r;
    if (r.chance(0.05)) return r.pick(["null", "1", '"Patient/no"', "[]", "{}", "[[]]"]);
    if (r.chance(0.25)) return `[${Array.from({ length: r.int(4) }, () => this.value(below)).join()}]`;
    if (below.length > 0) return this.object(below);
    const members = [`${this.name("reference")}:${this.text(this.target())}`];
    if (r.chance(0.5))
      members.push(`"display":${this.text(r.pick(["A B", "Patient Smith", "Zo\u00eb", 'a "b"', "reference"]))}`);
    if (r.chance(0.1)) members.push(`"type":${this.text(r.pick(["Patient", "Practitioner"]))}`);
    if (r.chance(0.1)) members.push('"identifier":{"value":"v"}');
    if (r.chance(0.05)) members.shift();
    if (r.chance(0.1)) members.push(`"identifier":{"assigner":{"reference":${this.text(this.target())}}}`);
    if (r.chance(0.1)) members.push(`"reference":${this.text(this.target())}`);
    if (r.chance(0.1)) members.reverse();
    return `{${members.join()}}`;
  }
  object(path: string[]): string {
    const r = this.#r;
    const members = [
      `${this.name(path[0]!)}:${path.length > 1 || r.chance(0.2) ? this.value(path.slice(1)) : this.value([])}`,
    ];
    if (r.chance(0.3)) members.push(`"reference":${this.text(this.target())}`);
    if (r.chance(0.3)) members.unshift('"role":[{"text":"x"}]');
    return `{${members.join()}}`;
  }
  target(): string {
    const r = this.#r;
    const id = r.pick([
      "a",
      "b-1.c",
      "other",
      "x".repeat(64),
      "x".repeat(65),
      "x".repeat(129),
      "",
      "a_b",
      "a:b",
      "a==",
    ]);
    if (r.chance(0.1))
      return r.pick(["urn:uuid:a", "urn:oid:1.2", "a", "patient/a", "Group?x=y", "Patient?identifier=a", "#a", ""]);
    const before = r.pick(["", "", "", base.href, alias, "https://other.example/", "/", base.href.slice(0, -1)]);
    return `${before}${r.pick(["Patient", "Patient", "Patient", "Group", "Practitioner", "Patients"])}/${id}${r.pick(["", "", "", "/_history/1", "#x"])}`;
  }
  text(value: string): string {
    const text = JSON.stringify(value);
    return this.#r.chance(0.1)
      ? text.replace(/[a-z/](?=[^"\\]*"$)/, (unit) => `\\u00${unit.charCodeAt(0).toString(16)}`)
      : text;
  }
  name(name: string): string {
    return this.#r.chance(0.01) ? `"\\u00${name.charCodeAt(0).toString(16)}${name.slice(1)}"` : JSON.stringify(name);
  }
}

test("property: for resources of all types the same patients are found as in the parsed resource", () => {
  let own = 0;
  let all = 0;
  fc.assert(
    fc.property(
      fc.constantFrom(...Object.keys(paths)),
      fc.nat(),
      fc.boolean(),
      fc.boolean(),
      (type, seed, isPretty, withBase) => {
        const maker = new Maker(random(seed));
        const text = bundle(Array.from({ length: 4 }, () => maker.resource(type)));
        for (const twin of twins) check(twin, type, isPretty ? pretty(text) : text, withBase);
        all++;
        if (!simd.table.handedOver) own++;
      },
    ),
    propertyRuns(3000, 600),
  );
  assert(own > all / 2, `${own} of ${all} were the SIMD scanner's`);
});
