import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Statement, statedTypes, typesWith } from "../../src/fhir/stated.ts";

const search = [{ code: "read" }, { code: "search-type" }];
const patient = { type: "Patient", interaction: search };

const statements: [name: string, statement: Statement, searchable: string[]][] = [
  [
    "a server",
    { rest: [{ mode: "server", resource: [patient, { type: "Basic", interaction: [{ code: "read" }] }] }] },
    ["Patient"],
  ],
  ["without a mode", { rest: [{ resource: [patient] }] }, ["Patient"]],
  [
    "a client beside it",
    {
      rest: [
        { mode: "client", resource: [{ type: "Coverage", interaction: search }] },
        { mode: "server", resource: [patient] },
      ],
    },
    ["Patient"],
  ],
  [
    "abstract types",
    {
      rest: [
        {
          resource: [
            { type: "Resource", interaction: search },
            { type: "DomainResource", interaction: search },
            patient,
          ],
        },
      ],
    },
    ["Patient"],
  ],
  ["without rest", {}, []],
  ["rest is null", { rest: null }, []],
  ["rest holds null", { rest: [null, { resource: [patient] }] }, ["Patient"]],
  ["resource is null", { rest: [{ resource: null }] }, []],
  [
    "resource holds null, and one without a type",
    { rest: [{ resource: [null, { interaction: search }, patient] }] },
    ["Patient"],
  ],
  ["interaction is null", { rest: [{ resource: [{ type: "Patient", interaction: null }] }] }, []],
  [
    "interaction holds null",
    { rest: [{ resource: [{ type: "Patient", interaction: [null, ...search] }] }] },
    ["Patient"],
  ],
  ["rest is an object", { rest: { resource: [patient] } }, []],
];

describe("the types that a CapabilityStatement lists", () => {
  for (const [name, statement, searchable] of statements)
    test(name, () => assert.deepEqual([...typesWith(statedTypes(statement), "search-type")], searchable));

  test("their parameters, also where the list is null", () => {
    const [first, second] = statedTypes({
      rest: [
        {
          resource: [
            { type: "A", searchParam: [{ name: "x" }, null, {}] },
            { type: "B", searchParam: null },
          ],
        },
      ],
    });
    assert.deepEqual([[...first!.parameters], [...second!.parameters]], [["x"], []]);
  });
});
