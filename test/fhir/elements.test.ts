import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { cutResource, elementsToAsk, wantedElements } from "../../src/fhir/elements.ts";
import type { FHIRRelease } from "../../src/fhir/release.ts";
import { definitionsOf, readExcerpt, releases, tableOf } from "../tools/spec.ts";

const tagged = { system: "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", code: "SUBSETTED" };
const tagText = JSON.stringify(tagged);
const cut = (text: string, ...wanted: string[]) =>
  cutResource(Buffer.from(text), new Set(["id", "meta", ...wanted])).toString();

const deceased = ["deceased", "deceasedBoolean", "deceasedDateTime"];
const values = [
  "valueQuantity",
  "valueCodeableConcept",
  "valueString",
  "valueBoolean",
  "valueInteger",
  "valueRange",
  "valueRatio",
  "valueSampledData",
  "valueTime",
  "valueDateTime",
  "valuePeriod",
];

describe("what is wanted", () => {
  for (const [name, type, elements, wanted] of [
    [
      "unqualified: of all types",
      "Patient",
      ["birthDate"],
      ["id", "meta", "implicitRules", "modifierExtension", "active", ...deceased, "link", "birthDate"],
    ],
    [
      "qualified",
      "Patient",
      ["Patient.name", "Observation.value"],
      ["id", "meta", "implicitRules", "modifierExtension", "active", ...deceased, "link", "name"],
    ],
    [
      "with what is mandatory",
      "Observation",
      ["value[x]"],
      ["id", "meta", "implicitRules", "modifierExtension", "status", "code", "value", ...values],
    ],
    ["only of other types: whole resources", "Encounter", ["Patient.name"], undefined],
  ] as [string, string, string[], string[] | undefined][])
    test(name, () => {
      const found = wantedElements(type, elements, "R4");
      assert.deepEqual(found && [...found].sort(), wanted?.sort());
    });
  test("the source is asked for the wanted elements and for those by which compartments are found", () => {
    assert.equal(
      elementsToAsk("Observation", new Set(["id", "meta", "status", "code"]), ["subject", "code"], "R4"),
      "status,code,subject",
    );
    // a choice by its own name, too: servers know one of the two
    assert.equal(
      elementsToAsk("NutritionIntake", new Set(["code"]), ["reportedReference"], "R5"),
      "code,reportedReference,reported",
    );
  });
});

describe("cutting", () => {
  for (const [name, text, wanted, line] of [
    [
      "what is not wanted goes, the rest stays as it is",
      '{"resourceType":"Patient","id":"1","meta":{"versionId":"2"},"name":[{"family":"M\\u00fcller"}],"birthDate":"1970-01-01","multipleBirthInteger":1.50}',
      ["name", "multipleBirthInteger"],
      `{"resourceType":"Patient","id":"1","meta":{"versionId":"2","tag":[${tagText}]},"name":[{"family":"M\\u00fcller"}],"multipleBirthInteger":1.50}`,
    ],
    [
      "extensions of primitives go with them",
      '{"resourceType":"Patient","id":"1","meta":{},"_birthDate":{"id":"x"},"_active":{"id":"y"}}',
      ["birthDate"],
      `{"resourceType":"Patient","id":"1","meta":{"tag":[${tagText}]},"_birthDate":{"id":"x"}}`,
    ],
    [
      "no meta: behind the id",
      '{"resourceType":"Basic","id":"1","code":{}}',
      ["code"],
      `{"resourceType":"Basic","id":"1","meta":{"tag":[${tagText}]},"code":{}}`,
    ],
    ["no meta, the id last", '{"code":{},"id":"1"}', ["code"], `{"code":{},"id":"1","meta":{"tag":[${tagText}]}}`],
    ["neither id nor type", '{"a":1,"code":{}}', ["code"], `{"meta":{"tag":[${tagText}]},"code":{}}`],
    ["nothing is left", '{"a":1}', [], `{"meta":{"tag":[${tagText}]}}`],
    [
      "other tags stay",
      '{"id":"1","meta":{"tag":[{"code":"x"}],"source":"s"}}',
      [],
      `{"id":"1","meta":{"tag":[{"code":"x"},${tagText}],"source":"s"}}`,
    ],
    ["an empty list of tags", '{"id":"1","meta":{"tag":[ ]}}', [], `{"id":"1","meta":{"tag":[${tagText}]}}`],
    [
      "tagged already",
      '{"id":"1","meta":{"tag":[{"code":"SUBSETTED"}]},"a":1}',
      [],
      '{"id":"1","meta":{"tag":[{"code":"SUBSETTED"}]}}',
    ],
    [
      "white space outside strings goes",
      '{\n  "id" : "1",\r\n "meta":\t{ "source" : "a b" },\n "code" : { "text" : " x \\" y " }\n}',
      ["code"],
      `{"id":"1","meta":{"source":"a b","tag":[${tagText}]},"code":{"text":" x \\" y "}}`,
    ],
    [
      "decoys below the resource's own level",
      '{"id":"1","meta":{},"contained":[{"id":"2","code":{}}],"code":{"meta":1}}',
      ["code"],
      `{"id":"1","meta":{"tag":[${tagText}]},"code":{"meta":1}}`,
    ],
    [
      "names with escapes",
      '{"id":"1","meta":{},"c\\u006fde":{"x":1}}',
      ["code"],
      `{"id":"1","meta":{"tag":[${tagText}]},"c\\u006fde":{"x":1}}`,
    ],
    [
      "meta with escapes in its name",
      '{"id":"1","m\\u0065ta":{"t\\u0061g":[]},"a":1}',
      [],
      `{"id":"1","m\\u0065ta":{"t\\u0061g":[${tagText}]}}`,
    ],
    [
      "names that come twice: parsers take the last",
      '{"id":"1","meta":{},"meta":{},"meta":1,"code":1,"code":2}',
      ["code"],
      `{"id":"1","meta":{"tag":[${tagText}]},"meta":{"tag":[${tagText}]},"meta":{"tag":[${tagText}]},"code":1,"code":2}`,
    ],
    [
      "names that only begin alike",
      '{"id":"1","meta":{},"status":"a","statusHistory":[1],"statusReason":{"text":"x"},"_statusReason":{}}',
      ["status"],
      `{"id":"1","meta":{"tag":[${tagText}]},"status":"a"}`,
    ],
  ] as [string, string, string[], string][])
    test(name, () => assert.equal(cut(text, ...wanted), line));

  test("property: the result equals that of parsing, cutting and tagging, in both spellings", () => {
    const name = fc.constantFrom(
      "resourceType",
      "id",
      "meta",
      "status",
      "code",
      "valueString",
      "valueQuantity",
      "_status",
      "text",
      "name",
    );
    const value = fc.oneof(
      fc.jsonValue(),
      fc.constant({ tag: [{ code: "x" }] }),
      fc.constant({ tag: [tagged] }),
      fc.constant({}),
    );
    fc.assert(
      fc.property(
        fc.dictionary(name, value, { noNullPrototype: true }),
        fc.subarray(["status", "code", "value", "text", "name"]),
        fc.constantFrom(0, 2),
        (resource, wanted, indent) => {
          const names = wanted.flatMap((it) => (it === "value" ? [it, "valueString", "valueQuantity"] : [it]));
          const line = cut(JSON.stringify(resource, undefined, indent), ...names);
          const keeps = (key: string) =>
            ["resourceType", "id", "meta"].includes(key) ||
            [key, key.replace("_", ""), key.startsWith("value") ? "value" : key].some((it) =>
              wanted.includes(it as never),
            );
          const expected = Object.fromEntries(Object.entries(resource).filter(([key]) => keeps(key)));
          const meta = expected.meta;
          const isObject = typeof meta === "object" && meta !== null && !Array.isArray(meta);
          const tags =
            isObject && Array.isArray((meta as { tag?: unknown }).tag)
              ? (meta as { tag: { code?: string }[] }).tag
              : [];
          expected.meta = {
            ...(isObject ? meta : {}),
            tag: tags.some((it) => it?.code === "SUBSETTED") ? tags : [...tags, tagged],
          };
          // JSON.stringify writes -0 as 0.
          assert.deepEqual(JSON.parse(line), JSON.parse(JSON.stringify(expected)));
          assert.equal(line, JSON.stringify(JSON.parse(line)));
        },
      ),
      { numRuns: 500 },
    );
  });
  test("property: exactly the wanted members are kept, byte for byte and in their order", () => {
    // A parser that writes its result again would change these.
    const raw = fc.constantFrom(
      ...[
        "1.50",
        "-0.0",
        "1E400",
        "12345678901234567890",
        "[]",
        "{}",
        "null",
        '"\\u00fc\\/ \\" { ] , :"',
        '"\u00fc \ud83d\ude00"',
        '""',
      ],
      ...[
        '{"b":[1.0,{"a":"\\\\"}],"b":{},"meta":{"tag":[]}}',
        '[[],[{}],"]"]',
        '{"\\u0069d":"not the id","resourceType":"x","":0.10}',
      ],
    );
    // How a name is spelt, what it means, and whether it is kept when `code` and `value` are asked for.
    const member = fc.constantFrom(
      ...(["code", "_code", "value", "valueQuantity", "_valueString"] as const).map((name) => [name, true] as const),
      ...(
        ["coded", "_coded", "valuequantity", "xcode", "status", "", "text", "__code", "codeX", "valueX"] as const
      ).map((name) => [name, false] as const),
      ...[["c\\u006fde", true] as const, ["\\u005fcode", true] as const, ["st\\u0061tus", false] as const],
    );
    const metas = [
      ["{}", `{"tag":[${tagText}]}`],
      ['{"source":"a, \\"b","versionId":"1"}', `{"source":"a, \\"b","versionId":"1","tag":[${tagText}]}`],
      ['{"tag":[],"x":1.0}', `{"tag":[${tagText}],"x":1.0}`],
      ['{"x":{"tag":[]},"tag":[{"code":"\\u0078"},{}]}', `{"x":{"tag":[]},"tag":[{"code":"\\u0078"},{},${tagText}]}`],
      [`{"tag":[{"code":"a"},${tagText}],"x":1}`, `{"tag":[{"code":"a"},${tagText}],"x":1}`],
    ] as const;
    const own = fc.record({
      head: fc.subarray(['"resourceType":"Basic"', '"id":"1"', '"\\u0069d":"2"']),
      meta: fc.option(fc.constantFrom(...metas), { nil: undefined }),
      members: fc.array(fc.tuple(member, raw), { maxLength: 8 }),
      order: fc.infiniteStream(fc.nat()),
      space: fc.infiniteStream(fc.constantFrom("", "", " ", "\n  ", "\r\n\t")),
    });
    fc.assert(
      fc.property(own, ({ head, meta, members, order, space }) => {
        const all = [
          ...head.map((text) => ({ text, kept: text, isHead: true })),
          ...(meta ? [{ text: `"meta":${meta[0]}`, kept: `"meta":${meta[1]}`, isHead: false }] : []),
          ...members.map(([[name, keeps], value]) => {
            const text = `"${name}":${value}`;
            return { text, kept: keeps ? text : undefined, isHead: false };
          }),
        ];
        const places = new Map(all.map((it) => [it, order.next().value]));
        const sorted = all.sort((a, b) => places.get(a)! - places.get(b)!);
        const kept = sorted.filter((it) => it.kept !== undefined);
        if (!meta)
          kept.splice(kept.findLastIndex(({ isHead }) => isHead) + 1, 0, {
            text: "",
            kept: `"meta":{"tag":[${tagText}]}`,
            isHead: false,
          });
        const tokens = `{${sorted.map(({ text }) => text).join(",")}}`.match(
          /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^{}[\],:"]+/g,
        )!;
        const spread = tokens.map((token, index) => (index === 0 ? "" : space.next().value) + token).join("");
        assert.equal(
          cut(spread, "code", "value", "valueQuantity", "valueString"),
          `{${kept.map((it) => it.kept).join(",")}}`,
        );
      }),
      { numRuns: 500 },
    );
  });
});

/** Resources whose elements only begin like those that are wanted, and what must be left of them. */
const alike: { name: string; release: FHIRRelease; type: string; wanted: string; given: object; left: string[] }[] = [
  {
    name: "status keeps neither its history nor its reason",
    release: "R4",
    type: "Encounter",
    wanted: "subject",
    given: { status: "finished", statusHistory: [{}], class: {}, classHistory: [{}], subject: {}, reasonCode: [{}] },
    left: ["status", "class", "subject"],
  },
  {
    name: "a mandatory choice is kept by its names alone",
    release: "R4",
    type: "MedicationRequest",
    wanted: "subject",
    given: {
      status: "stopped",
      statusReason: { text: "x" },
      intent: "order",
      medicationCodeableConcept: {},
      medicationX: 1,
    },
    left: ["status", "intent", "medicationCodeableConcept"],
  },
  {
    name: "a choice that is wanted",
    release: "R4",
    type: "Observation",
    wanted: "value",
    given: {
      status: "final",
      code: {},
      valueQuantity: { value: 1 },
      valueset: 1,
      valueCanonical: "x",
      _valueQuantity: {},
    },
    left: ["status", "code", "valueQuantity", "_valueQuantity"],
  },
  {
    name: "a choice that only a later release has",
    release: "R5",
    type: "Observation",
    wanted: "value",
    given: { status: "final", code: {}, valueAttachment: {} },
    left: ["status", "code", "valueAttachment"],
  },
  {
    name: "and not the one before",
    release: "R4",
    type: "Observation",
    wanted: "value",
    given: { status: "final", code: {}, valueAttachment: {} },
    left: ["status", "code"],
  },
];

describe("elements that begin alike", () => {
  for (const { name, release, type, wanted, given, left } of alike)
    test(name, () => {
      const text = JSON.stringify({ resourceType: type, id: "1", meta: {}, ...given });
      const line = cutResource(Buffer.from(text), wantedElements(type, [wanted], release)!).toString();
      const { resourceType: _, id: __, meta: ___, ...rest } = JSON.parse(line) as Record<string, unknown>;
      assert.deepEqual(Object.keys(rest), left);
    });
});

describe("data of the specification", () => {
  for (const release of releases)
    test(`${release}: the tables are what the definitions give`, async () => {
      const { default: table } = await import(tableOf(release).href, { with: { type: "json" } });
      assert.equal(JSON.stringify(table), JSON.stringify(definitionsOf(readExcerpt(release))));
      assert.equal(Object.keys(table.compartment).length, { stu3: 0, r4: 67, r4b: 66, r5: 73 }[release]);
      const paths = Object.values(table.compartment as Record<string, Record<string, string[]>>).flatMap(Object.values);
      for (const path of paths.flat(2)) assert.match(path, /^[a-z][A-Za-z]+(\.[a-z][A-Za-z]+)*$/);
    });
});
